import dataclasses

import pytest

from pipeline.settings import load_settings
from tests.fast.conftest import only_problem_of, problems_of


@pytest.fixture
def cluster(tmp_path):
    """Writes a cluster file."""

    def write(text):
        path = tmp_path / "my-cluster.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_default_settings_ask_for_one_l40s():
    settings = load_settings()
    assert settings.gpu.count == "1"
    assert settings.gpu.node_selector == {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    assert settings.workspace.mount_path == "/mnt/osft"
    assert set(settings.timeout_seconds) == set(settings.retries)


def test_registry_address_is_kept_as_its_client_needs_it(cluster):
    settings = load_settings(cluster('[model_registry]\nurl = "https://Registry.example/"'))
    assert settings.model_registry.url == "https://registry.example"


def test_wrong_registry_address_is_told_with_all_that_is_wrong(cluster):
    text = '[model_registry]\nurl = "registry.example"\n[image]'
    whats = [problem.what for problem in problems_of(lambda: load_settings(cluster(text)))]
    assert whats == ["unknown key image (did you mean images?)", "this is not the address of a model registry"]


@pytest.mark.parametrize("text", ["", "# nothing differs\n", "[gpu]\n", "[resources.gpu]\n"])
def test_file_without_keys_changes_nothing(cluster, text):
    assert load_settings(cluster(text)) == load_settings()


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ('[images]\ngpu = "quay.io/me/gpu@sha256:1"', ("images", "gpu"), "quay.io/me/gpu@sha256:1"),
        ('[workspace]\nclaim = "team-a"', ("workspace", "claim"), "team-a"),
        ("[gpu]\nmemory_gib = 79.0", ("gpu", "memory_gib"), 79.0),
        ('[resources.gpu]\nmemory = "96Gi"', ("resources", "gpu", "memory"), "96Gi"),
        ("[timeout_seconds]\ntrain = 3600", ("timeout_seconds", "train"), 3600),
        ("retries.train = 0", ("retries", "train"), 0),
        ('secrets = { hub = "my-hub" }', ("secrets", "hub"), "my-hub"),
    ],
)
def test_own_file_changes_its_key_and_no_other(cluster, text, path, value):
    expected = dataclasses.asdict(load_settings())
    place = expected
    for key in path[:-1]:
        place = place[key]
    assert place[path[-1]] != value
    place[path[-1]] = value
    assert dataclasses.asdict(load_settings(cluster(text))) == expected


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ('[gpu]\nnode_selector = { "my.org/pool" = "gpu" }', "node_selector", {"my.org/pool": "gpu"}),
        ('[gpu.node_selector]\na = "1"\n"b/c" = "2"', "node_selector", {"a": "1", "b/c": "2"}),
        ("[gpu]\nnode_selector = {}", "node_selector", {}),
        (
            '[gpu.toleration]\nkey = "gpu"\ntolerationSeconds = 60',
            "toleration",
            {"key": "gpu", "tolerationSeconds": 60},
        ),
        ("[gpu]\ntoleration = {}", "toleration", {}),
    ],
)
def test_free_table_takes_any_key_and_replaces_the_default(cluster, text, name, value):
    settings = load_settings(cluster(text))
    assert getattr(settings.gpu, name) == value
    expected = dataclasses.replace(load_settings().gpu, **{name: value})
    assert settings.gpu == expected


@pytest.mark.parametrize(
    ("text", "what", "known"),
    [
        ('[image]\ncpu = "x"', "unknown key image (did you mean images?)", ["images", "workspace", "gpu", "retries"]),
        ("zebra = 1", "unknown key zebra", ["images", "timeout_seconds"]),
        (
            '[gpu]\nnode_selektor = { a = "b" }',
            "gpu.node_selektor (did you mean node_selector?)",
            ["count", "memory_gib"],
        ),
        ('[resources.gpu]\nmem = "1Gi"', "unknown key resources.gpu.mem", ["cpu", "memory"]),
        ('[resources.large]\ncpu = "1"', "unknown key resources.large", ["small", "download", "gpu"]),
        ("[timeout_seconds]\ntraining = 5", "timeout_seconds.training (did you mean train?)", ["small", "evaluate"]),
    ],
)
def test_unknown_key_is_refused_with_the_known_ones(cluster, text, what, known):
    path = cluster(text)
    found = only_problem_of(load_settings, path)
    assert what in found.what
    assert found.where == str(path)
    assert all(key in found.rule for key in known)


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("gpu = 1", "gpu is 1", "dict"),
        ("[gpu]\ncount = 1", "gpu.count is 1", "str"),
        ('[gpu]\nmemory_gib = "44"', "gpu.memory_gib is '44'", "float"),
        ("[gpu]\nmemory_gib = true", "gpu.memory_gib is True", "float"),
        ('[gpu]\nnode_selector = "L40S"', "gpu.node_selector is 'L40S'", "dict"),
        ('[timeout_seconds]\ntrain = "1h"', "timeout_seconds.train is '1h'", "int"),
        ("[retries]\ntrain = true", "retries.train is True", "int"),
        ("[retries]\ntrain = 1.5", "retries.train is 1.5", "int"),
        ("[images]\ncpu = []", "images.cpu is []", "str"),
        ("[resources.gpu]\nmemory = 64", "resources.gpu.memory is 64", "str"),
    ],
)
def test_value_of_another_type_is_refused_with_the_default(cluster, text, what, remedy):
    found = only_problem_of(load_settings, cluster(text))
    assert found.what == what
    assert "like the default's" in found.rule
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("[gpu\n", "no TOML"),
        ("gpu: {count: 1}\n", "no TOML"),
        ("[gpu]\ncount = '1'\ncount = '2'\n", "no TOML"),
        (b"[images]\ncpu = '\xe4'\n", "no TOML"),
    ],
)
def test_file_that_is_no_toml_is_refused(cluster, content, what):
    path = cluster(content)
    found = only_problem_of(load_settings, path)
    assert what in found.what
    assert str(path) in found.where
    assert "default.toml" in found.remedy


@pytest.mark.parametrize(
    ("below", "what"), [("absent.toml", "no such file"), (".", "this is a folder"), ("my-cluster.toml/x.toml", "")]
)
def test_file_that_cannot_be_read_is_named(cluster, tmp_path, below, what):
    cluster("")
    found = only_problem_of(load_settings, tmp_path / below)
    assert what in found.what
    assert str(tmp_path / below) in found.where


def test_all_problems_of_a_file_are_named_at_once(cluster):
    text = 'zebra = 1\n[gpu]\ncount = 1\nmemory = 5.0\n[resources.small]\ncpu = 1\n[workspace]\nclaim = "good"\n'
    found = problems_of(load_settings, cluster(text))
    assert [problem.what.removeprefix("unknown key ").split()[0] for problem in found] == [
        "zebra",
        "gpu.count",
        "gpu.memory",
        "resources.small.cpu",
    ]


def test_whole_number_is_taken_where_the_default_is_a_float(tmp_path):
    own = tmp_path / "cluster.toml"
    own.write_text("[gpu]\nmemory_gib = 80\n", encoding="utf-8")

    assert load_settings(own).gpu.memory_gib == 80.0
