"""A cluster file: what it may say, and what each key of it changes."""

import dataclasses

import pytest
import yaml

from pipeline.compile import compiled_yaml
from pipeline.settings import load_settings
from tests.fast.conftest import only_problem_of, problems_of
from tests.kfp_fields import unknown_fields


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


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ('[images]\ngpu = "a.example/me/gpu@sha256:1"', ("images", "gpu"), "a.example/me/gpu@sha256:1"),
        ('[workspace]\nclaim = "team-a"', ("workspace", "claim"), "team-a"),
        ("[gpu]\nmemory_gib = 79", ("gpu", "memory_gib"), 79.0),
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
    settings = load_settings(cluster(text))
    assert dataclasses.asdict(settings) == expected
    assert unknown_fields(yaml.safe_load_all(compiled_yaml(settings))) == []


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ('[gpu]\nnode_selector = { "my.org/pool" = "gpu" }', "node_selector", {"my.org/pool": "gpu"}),
        ('[gpu.node_selector]\na = "1"\n"b/c" = "2"', "node_selector", {"a": "1", "b/c": "2"}),
        ("[gpu]\nnode_selector = {}", "node_selector", {}),
        ("[gpu]\ntolerations = []", "tolerations", []),
        (
            '[[gpu.tolerations]]\nkey = "nvidia.com/gpu"\noperator = "Exists"\n'
            '[[gpu.tolerations]]\nkey = "pool"\nvalue = "ai"\neffect = "NoExecute"',
            "tolerations",
            [{"key": "nvidia.com/gpu", "operator": "Exists"}, {"key": "pool", "value": "ai", "effect": "NoExecute"}],
        ),
        ('[[gpu.tolerations]]\noperator = "Exists"', "tolerations", [{"operator": "Exists"}]),
    ],
)
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


SEVERAL = """
[images]
cpu = "registry.example.com:5000/ai/cpu@sha256:0f"
gpu = "localhost/gpu"
pull_secret = "puller"
[workspace]
claim = "team-a.workspace"
mount_path = "/data/osft"
[gpu]
count = "2"
resource = "nvidia.com/mig-3g.40gb"
memory_gib = 0.5
shared_memory = "500M"
[secrets]
webhook = "team-hook"
[notify]
runs_page = "https://ai.example.com/develop-train/pipelines/runs/team/runs"
[kueue]
queue = "osft"
[model_registry]
url = "http://registry.team.svc:8080"
[labels]
cost-center = ""
[annotations]
"example.com/note" = "any text, really: 100 %"
[resources]
small = { cpu = ".5", memory = "4000000000" }
gpu = { cpu = "7500m", memory = "1Ti" }
[timeout_seconds]
train = 1
evaluate = 2592000
[retries]
small = 0
download = 0
train = 100
evaluate = 0
"""


def test_values_at_their_bounds_compile_to_what_they_say(cluster):
    executors = executors_of(load_settings(cluster(SEVERAL)))
    assert executors["exec-train-osft"]["activeDeadlineSeconds"] == "1"
    assert all("puller" in str(executor["imagePullSecret"]) for executor in executors.values())


def test_without_a_gpu_its_memory_does_not_matter(cluster):
    settings = load_settings(cluster('gpu = { count = "0", memory_gib = 0 }'))
    assert (settings.gpu.count, settings.gpu.memory_gib) == ("0", 0.0)


def test_a_step_that_is_not_tried_again_has_no_retry_policy(cluster):
    text = compiled_yaml(load_settings(cluster("retries = { small = 0, download = 0, train = 0, evaluate = 0 }")))
    assert "retryPolicy" in compiled_yaml(load_settings())
    assert "retryPolicy" not in text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[retries]\ntrain = -1", "retries.train is '-1'"),
        ("[retries]\ntrain = 101", "retries.train is '101'"),
        ("[timeout_seconds]\ntrain = 0", "timeout_seconds.train is '0'"),
        ("[timeout_seconds]\ntrain = -5", "timeout_seconds.train is '-5'"),
        ("[timeout_seconds]\ntrain = 2592001", "timeout_seconds.train is '2592001'"),
        ("[labels]\ncost-center = 4711", "labels.cost-center is '4711'"),
        ('[labels]\ncost-center = "a b"', "labels.cost-center is 'a b'"),
        (f'[labels]\na = "{"x" * 64}"', f"labels.a is '{'x' * 64}'"),
        ('[labels]\n"a b" = "1"', "labels has the key 'a b'"),
        ('[annotations]\n"/a" = "1"', "annotations has the key '/a'"),
        ("[annotations]\nreviewed = true", "annotations.reviewed is 'True'"),
        ("[gpu.node_selector]\na = 1", "gpu.node_selector.a is '1'"),
        ('[gpu]\ncount = "zero"', "gpu.count is 'zero'"),
        ('[gpu]\ncount = "00"', "gpu.count is '00'"),
        ('[gpu]\ncount = "-1"', "gpu.count is '-1'"),
        ('[gpu]\ncount = "٣"', "gpu.count is '٣'"),
        ("[gpu]\nmemory_gib = 0", "gpu.memory_gib is '0.0'"),
        ("[gpu]\nmemory_gib = nan", "gpu.memory_gib is 'nan'"),
        ('[gpu]\nresource = ""', "gpu.resource is ''"),
        ('[gpu]\nshared_memory = "8 GiB"', "gpu.shared_memory is '8 GiB'"),
        ('[resources.gpu]\nmemory = "64 GB"', "resources.gpu.memory is '64 GB'"),
        ('[resources.gpu]\nmemory = "0Gi"', "resources.gpu.memory is '0Gi'"),
        ('[resources.gpu]\ncpu = "many"', "resources.gpu.cpu is 'many'"),
        ('[resources.gpu]\ncpu = "0.0"', "resources.gpu.cpu is '0.0'"),
        ('[resources.gpu]\ncpu = "0.5m"', "resources.gpu.cpu is '0.5m'"),
        ('[workspace]\nclaim = ""', "workspace.claim is ''"),
        ('[workspace]\nclaim = "Ours"', "workspace.claim is 'Ours'"),
        ('[workspace]\nmount_path = "osft"', "workspace.mount_path is 'osft'"),
        ('[workspace]\nmount_path = "/"', "workspace.mount_path is '/'"),
        ('[workspace]\nmount_path = "/mnt/../etc"', "workspace.mount_path is '/mnt/../etc'"),
        ('[images]\ncpu = ""', "images.cpu is ''"),
        ('[images]\ncpu = "osft-pipeline/cpu:0.1.0"', "images.cpu is 'osft-pipeline/cpu:0.1.0'"),
        ('[images]\ngpu = "registry.example.com/a b"', "images.gpu is 'registry.example.com/a b'"),
        ('[images]\npull_secret = "my secret"', "images.pull_secret is 'my secret'"),
        ('[secrets]\nwebhook = ""', "secrets.webhook is ''"),
        ('[kueue]\nqueue = "a/b"', "kueue.queue is 'a/b'"),
        ('[model_registry]\nurl = "registry.example.com"', "model_registry.url is 'registry.example.com'"),
        (
            '[model_registry]\nurl = "https://a:pw@b.example"',
            "model_registry.url is an address that may hold a password",
        ),
        ('[notify]\nruns_page = "https://a.example/PROJECT"', "notify.runs_page is 'https://a.example/PROJECT'"),
        ("[gpu]\ntolerations = [1]", "gpu.tolerations is '[1]'"),
        ('[[gpu.tolerations]]\nkey = "a"\ntolerationSeconds = 60', "gpu.tolerations is"),
        ('[[gpu.tolerations]]\nkey = "a"\nvalue = 1', "gpu.tolerations is"),
        ('[[gpu.tolerations]]\nkey = "a"\noperator = "exists"', "gpu.tolerations is"),
        ('[[gpu.tolerations]]\nkey = "a"\neffect = "NoRun"', "gpu.tolerations is"),
        ('[[gpu.tolerations]]\nkey = "a"\nvalue = "1"\noperator = "Exists"', "gpu.tolerations is"),
        ('[[gpu.tolerations]]\nvalue = "1"', "gpu.tolerations is"),
    ],
)
def test_a_value_that_the_cluster_could_not_use_is_refused(cluster, text, what):
    path = cluster(text)
    found = only_problem_of(load_settings, path)
    assert found.what.startswith(what)
    assert found.where == str(path)
    assert found.rule
    assert found.remedy.startswith("correct ")


@pytest.mark.parametrize(
    ("text", "what", "known"),
    [
        ('[image]\ncpu = "x"', "unknown key image (did you mean images?)", ["images", "workspace", "gpu", "retries"]),
        (
            '[gpu]\nnode_selektor = { a = "b" }',
            "gpu.node_selektor (did you mean node_selector?)",
            ["count", "memory_gib"],
        ),
        ('[resources.large]\ncpu = "1"', "unknown key resources.large", ["small", "download", "gpu"]),
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
        ("[gpu]\nmemory_gib = true", "gpu.memory_gib is True", "float"),
        ("[retries]\ntrain = true", "retries.train is True", "int"),
        ("[retries]\ntrain = 1.5", "retries.train is 1.5", "int"),
        ("security.run_as_non_root = 1", "security.run_as_non_root is 1", "bool"),
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
    text = 'zebra = 1\n[gpu]\ncount = 1\nmemory = 5.0\n[resources.small]\ncpu = 1\n[workspace]\nclaim = ""\n'
    found = problems_of(load_settings, cluster(text))
    assert [problem.what.removeprefix("unknown key ").split()[0] for problem in found] == [
        "zebra",
        "gpu.count",
        "gpu.memory",
        "resources.small.cpu",
        "workspace.claim",
    ]
