"""A cluster file: what it may say, and what each key of it changes."""

import dataclasses

import pytest
import yaml

from pipeline.compile import compiled_yaml
from pipeline.settings import load_settings
from tests.fast.conftest import only_problem_of, problems_of
from tests.kfp_fields import unknown_fields
from tests.tables import table


@pytest.fixture
def cluster(tmp_path):
    """Writes a cluster file."""

    def write(text):
        path = tmp_path / "my-cluster.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_registry_address_is_kept_as_its_client_needs_it(cluster):
    settings = load_settings(cluster('[model_registry]\nurl = "https://Registry.example/"'))
    assert settings.model_registry.url == "https://registry.example"


def test_wrong_registry_address_is_told_with_all_that_is_wrong(cluster):
    text = '[model_registry]\nurl = "registry.example"\n[image]'
    whats = [problem.what for problem in problems_of(lambda: load_settings(cluster(text)))]
    assert whats == ["unknown key image (did you mean images?)", "model_registry.url is 'registry.example'"]


@pytest.mark.parametrize("text", ["", "# nothing differs\n", "[gpu]\n", "[resources.gpu]\n"])
def test_file_without_keys_changes_nothing(cluster, text):
    assert load_settings(cluster(text)) == load_settings()


@pytest.mark.parametrize(("text", "path", "value"), table("settings", "own"))
def test_own_file_changes_its_key_and_no_other(cluster, text, path, value):
    expected = dataclasses.asdict(load_settings())
    place = expected
    for key in path[:-1]:
        place = place[key]
    assert place[path[-1]] != value
    place[path[-1]] = value
    settings = load_settings(cluster(text))
    assert dataclasses.asdict(settings) == expected
    assert unknown_fields(yaml.safe_load_all(compiled_yaml(settings))) == []


@pytest.mark.parametrize(("text", "name", "value"), table("settings", "nodes"))
def test_nodes_of_ones_own_take_the_place_of_the_defaults(cluster, text, name, value):
    settings = load_settings(cluster(text))
    assert settings.gpu == dataclasses.replace(load_settings().gpu, **{name: value})
    training = executors_of(settings)["exec-train-osft"]
    if name == "tolerations":
        assert training.get("tolerations", []) == value
    else:
        assert training.get("nodeSelector", {}).get("labels", {}) == value


def executors_of(settings):
    """The Kubernetes settings of the compiled steps."""
    documents = list(yaml.safe_load_all(compiled_yaml(settings)))
    assert unknown_fields(documents) == []
    return documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.parametrize("table", ["labels", "annotations"])
def test_names_of_ones_own_are_added_to_the_defaults(cluster, table):
    settings = load_settings(cluster(f'[{table}]\n"example.com/owner" = "ai"\n'))
    assert getattr(settings, table) == getattr(load_settings(), table) | {"example.com/owner": "ai"}
    assert settings.labels["app.kubernetes.io/part-of"] == "osft-pipeline"


def test_values_at_their_bounds_compile_to_what_they_say(cluster):
    executors = executors_of(load_settings(cluster(table("settings", "bounds"))))
    assert executors["exec-train-osft"]["activeDeadlineSeconds"] == "1"
    assert all("puller" in str(executor["imagePullSecret"]) for executor in executors.values())


def test_without_a_gpu_its_memory_does_not_matter(cluster):
    settings = load_settings(cluster('gpu = { count = "0", memory_gib = 0 }'))
    assert (settings.gpu.count, settings.gpu.memory_gib) == ("0", 0.0)


def test_a_step_that_is_not_tried_again_has_no_retry_policy(cluster):
    text = compiled_yaml(load_settings(cluster("retries = { small = 0, download = 0, train = 0, evaluate = 0 }")))
    assert "retryPolicy" in compiled_yaml(load_settings())
    assert "retryPolicy" not in text


@pytest.mark.parametrize(("text", "what"), table("settings", "refused"))
def test_a_value_that_the_cluster_could_not_use_is_refused(cluster, text, what):
    path = cluster(text)
    found = only_problem_of(load_settings, path)
    assert found.what.startswith(what)
    assert found.where == str(path)
    assert found.rule
    assert found.remedy.startswith("correct ")


@pytest.mark.parametrize(("text", "what", "known"), table("settings", "unknown"))
def test_unknown_key_is_refused_with_the_known_ones(cluster, text, what, known):
    path = cluster(text)
    found = only_problem_of(load_settings, path)
    assert what in found.what
    assert found.where == str(path)
    assert all(key in found.rule for key in known)


@pytest.mark.parametrize(("text", "what", "remedy"), table("settings", "types"))
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
        ("[gpu]\nmemory_gib = " + "9" * 400, "an integer of more than 64 bits"),
        ("[gpu]\nmemory_gib = " + "9" * 5000, "no TOML"),
        ("[gpu]\nmemory_gib = 0x" + "f" * 5000, "an integer of more than 64 bits"),
        ("a = " + "[" * 5000, "no TOML"),
        ("labels" + ".a" * 5000 + " = 1", "nested more than 20 deep"),
        ("# " + "x" * 70_000, "longer than 64 KiB"),
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
    text = 'zebra = 1\n[gpu]\ncount = 1\nmemory = 5.0\n[resources.small]\ncpu = 1\n[workspace]\nclaim = ""\n'
    found = problems_of(load_settings, cluster(text))
    assert [problem.what.removeprefix("unknown key ").split()[0] for problem in found] == [
        "zebra",
        "gpu.count",
        "gpu.memory",
        "resources.small.cpu",
        "workspace.claim",
    ]
