"""What holds in the images: run as OpenShift would run them, without a network and with nothing to write but home."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.compile import COMPILED
from pipeline.placement import PLACES
from pipeline.settings import load_settings
from tests.images.buildah import ROOT, USER, Container
from tests.images.steps import WORKSPACE

CORES = {
    "cpu": [step for step, place in PLACES.items() if not place.gpu],
    "gpu": [step for step, place in PLACES.items() if place.gpu],
}
DATA_FILES = (".toml", ".yaml", ".html.j2", ".csv", ".cu", ".txt")
COMPILERS = ("cc", "c++", "gcc*", "g++*", "clang*", "cl", "nvcc", "rustc", "ld", "as")
WRITABLE = ("/home/osft", "/tmp", "/var/tmp")

IMPORT = """
import importlib, json, sys
for step in sys.argv[1:]:
    importlib.import_module(f"components.{step}.core")
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""
PACKAGE = """
import json, sys
from importlib.metadata import version
from pathlib import Path
import components

root = Path(components.__file__).parents[1]
print(json.dumps([str(root), version("osft-pipeline"), [name for name in sys.argv[1:] if not (root / name).is_file()]]))
"""
KERNELS = """
import json
import torch, training_hub
from torch.cuda import _utils
import components.training.backend
from components.training import weights

sizes = {}
def compile_for_l40s(source, name):  # as torch.cuda._compile_kernel, which loads it into a GPU besides
    binary, _ = _utils._nvrtc_compile(source, name, "89")
    sizes[name] = len(binary)
    return type("Kernel", (), {"func": None})

torch.cuda._compile_kernel = compile_for_l40s
try:
    weights.kernels()
except OSError as error:
    assert "libcuda" in str(error), error  # the driver is the node's
print(json.dumps([sorted(sizes), sorted(weights.KERNELS), min(sizes.values())]))
"""
PLAN = {
    "workspace": WORKSPACE,
    "method": "osft",
    "unfreeze_rank_ratio": 0.25,
    "num_epochs": 1,
    "effective_batch_size": 2,
    "learning_rate": 1e-3,
    "max_seq_len": 256,
    "max_tokens_per_gpu": 512,
    "seed": 1,
    "judge_url": "",
    "judge_model": "",
    "regressed_share_max": 1.0,
    "retention_margin": 100.0,
    "evaluation_options": {"max_answer_tokens": 8},
    "gpu_memory_gib": 44.0,
    "gpu_product": "NVIDIA-L40S",
    "publish_as": "",
    "registry": "",
}


def files_of_the_package() -> list[str]:
    found = [path.relative_to(ROOT) for package in ("components", "pipeline") for path in (ROOT / package).rglob("*")]
    return [str(path) for path in found if path.name.endswith(DATA_FILES) and path.parts[1] != "images"]


# What is in it


def test_steps_of_the_image_find_everything_they_import(cpu, gpu):
    assert all(CORES.values())
    without = set(cpu.python(IMPORT, *CORES["cpu"]))
    assert not {"torch", "training_hub", "mini_trainer"} & without
    assert "torch" in gpu.python(IMPORT, *CORES["gpu"])


def test_the_package_is_whole_and_not_a_checkout(image):
    files = files_of_the_package()
    root, version, missing = image.python(PACKAGE, *files)

    assert len(files) >= 8
    assert missing == []
    assert root.startswith("/opt/osft/lib/")
    assert version == importlib.metadata.version("osft-pipeline")


def test_the_gpu_image_has_kfp_without_what_kfp_depends_on(gpu):
    program = "import json; from importlib.metadata import distributions as d; print(json.dumps([p.name for p in d()]))"
    names = {name.lower() for name in gpu.python(program)}

    assert "kfp" in names
    assert not {"kubernetes", "kfp-kubernetes", "kfp-server-api", "google-cloud-storage", "pytest"} & names


def test_the_cpu_image_has_the_command_line(cpu):
    cpu.run("osft-pipeline", "compile", "--output", "/tmp/pipeline.yaml")

    assert (cpu.root / "tmp" / "pipeline.yaml").read_text(encoding="utf-8") == COMPILED.read_text(encoding="utf-8")


def test_kernels_are_compiled_for_an_l40s_without_a_compiler(gpu):
    compiled, wanted, smallest = gpu.python(KERNELS)

    assert compiled == wanted
    assert smallest > 1000


def test_there_is_no_compiler(image):
    folders = [image.root / folder for folder in ("bin", "usr/bin", "usr/local/bin", "opt/osft/bin")]
    found = [path.name for folder in folders for pattern in COMPILERS for path in folder.glob(pattern)]

    assert found == []


def test_nothing_is_left_of_the_building(image):
    for leftover in ("build", "root/.cache", "home/osft/.cache/pip", "opt/osft/bin/pip", "etc/pip.conf"):
        path = image.root / leftover
        assert not path.exists() or path.stat().st_size == 0, leftover  # a file that was mounted leaves its empty place


# As what it runs


def test_its_user_is_any_number_of_group_0(image):
    user = image.python("import json, os; print(json.dumps([os.getuid(), os.getgid(), os.path.expanduser('~')]))")

    assert image.config()["User"] == "1001"
    assert user == [USER, 0, "/home/osft"]


def test_the_application_cannot_be_changed(image):
    program = (
        "import json, os, sys\n"
        "found = [path for top in ['/opt/osft', *filter(None, sys.path)] if not top.startswith('/home') "
        "for path, _, _ in os.walk(top) if os.access(path, os.W_OK)]\n"
        "print(json.dumps(found))"
    )
    assert image.python(program) == []
    assert image.run("touch", "/opt/osft/lib/other.py", check=False).returncode != 0


def test_every_cache_is_in_home_and_can_be_written(image):
    values = dict(entry.split("=", 1) for entry in image.config()["Env"])
    folders = [values[name] for name in values if name.endswith(("HOME", "CACHE_DIR", "CONFIGDIR"))]

    assert len(folders) >= 3
    assert all(folder == "/home/osft" or folder.startswith("/home/osft/.cache") for folder in folders)
    image.run("mkdir", "-p", *folders)
    image.run("touch", *(f"{folder}/written" for folder in folders))


def test_it_has_no_network(image):
    program = (
        "import json, socket\n"
        "try: socket.create_connection(('192.0.2.1', 443), 2); print('true')\n"
        "except OSError as error: print(json.dumps(error.errno))"
    )
    assert image.python(program) == 101, "network is unreachable: or the tests below say nothing about it"


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_its_labels_say_what_it_is(name, request):
    container: Container = request.getfixturevalue(name)
    labels = container.config()["Labels"]

    assert labels["org.opencontainers.image.title"] == f"osft-pipeline/{name}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.revision"] == "0123abc"
    image = f"registry.invalid/osft-pipeline/{name}:{labels['org.opencontainers.image.version']}"
    assert image == getattr(load_settings().images, name)


# Steps, from the command that the compiled pipeline has


def test_steps_of_the_pipeline_run_from_data_to_an_evaluated_model(cpu, gpu, cluster):
    cluster.run(
        cpu,
        "ingest_sdg",
        data=f"{WORKSPACE}/qa.csv",
        questions=f"{WORKSPACE}/gaps.csv",
        retention_questions="",
        data_options={},
    )
    cluster.run(cpu, "format_chat", records="ingest_sdg", system_prompt="Be brief.")
    cluster.run(cpu, "snapshot_model", model=f"{WORKSPACE}/tiny", revision="main", workspace=WORKSPACE)
    plan: dict[str, Any] = {"dataset": "format_chat", "snapshot": "snapshot_model", **PLAN}
    planned = cluster.run(cpu, "plan_training", **plan, gpus=1, training_options={"train_dtype": "float32"})
    assert planned["parameterValues"] == {"Output": True}
    common = {"dataset": "format_chat", "snapshot": "snapshot_model", "plan": "plan_training", "workspace": WORKSPACE}
    cluster.plan_for_the_cpu()
    trained = cluster.run(gpu, "train_osft", **common)
    evaluated = cluster.run(gpu, "evaluate", **common, adapted="train_osft")
    assert evaluated["parameterValues"] == {"Output": True}

    published = cluster.run(
        cpu,
        "publish",
        adapted="train_osft",
        plan="plan_training",
        workspace=WORKSPACE,
        claim="osft-workspace",
        registry="",
    )
    status = {"state": "COMPLETE", "pipelineJobResourceName": "osft-x7k2p", "pipelineTaskName": "osft", "error": {}}
    cluster.run(cpu, "notify", status=status, runs_page="")

    key = trained["artifacts"]["adapted"]["artifacts"][0]["metadata"]["run_key"]
    report = json.loads((cluster.workspace / "adapted" / key / "training_report.json").read_text(encoding="utf-8"))
    assert report["run_key"] == key
    servable = published["artifacts"]["published"]["artifacts"][0]["metadata"]["servable_uri"]
    assert servable == f"pvc://osft-workspace/adapted/{key}"
    for container in (cpu, gpu):
        outside = [path for path in container.written() if not str(path).startswith(WRITABLE)]
        assert outside == []


def test_a_training_on_several_gpus_is_planned_in_an_image_without_torch(cpu, cluster):
    if "format_chat" not in cluster.outputs:
        pytest.fail("the steps before it did not run")
    (cluster.store / "pipelines" / "plan_training").rename(cluster.store / "pipelines" / "planned_for_one_gpu")
    plan: dict[str, Any] = {"dataset": "format_chat", "snapshot": "snapshot_model", **PLAN}

    planned = cluster.run(cpu, "plan_training", **plan, gpus=2, training_options={})

    one = Path(cluster.store / "pipelines" / "planned_for_one_gpu" / "plan").read_text(encoding="utf-8")
    assert planned["artifacts"]["plan"]["artifacts"][0]["metadata"]["run_key"] != json.loads(one)["run_key"]
