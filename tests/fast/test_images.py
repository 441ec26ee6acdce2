"""What can be read from the images' files: locks agree, steps find their imports, Containerfiles keep their rules."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.placement import PLACES
from pipeline.settings import load_settings
from tests.conftest import ROOT

IMAGES = ROOT / "components" / "images"
LOCKS = {"cpu": ("cpu.lock",), "gpu": ("torch.lock", "gpu.lock")}
UPDATE_COMMAND = "make lock-images"
# Imports that an image goes without, by the module that has them inside a function.
LEFT_OUT = {
    ("cpu", "torch"): {
        "components.plan_training.core",  # asks this machine's GPU, where no cluster file says what there is
        "components.data.samples",  # packs for a training, not for a plan
    },
    ("gpu", "botocore"): {"components.shared.source_errors"},  # what the GPU steps read are artifacts and the workspace
    ("gpu", "lm_eval"): {"components.evaluate.harness"},  # optional; its data come from the hub
}
VARIABLES = {
    "cpu": {"HOME", "XDG_CACHE_HOME", "HF_HOME"},
    "gpu": {
        "HOME",
        "XDG_CACHE_HOME",
        "HF_HOME",
        "MPLCONFIGDIR",
        "NUMBA_CACHE_DIR",
        "TORCHINDUCTOR_CACHE_DIR",
        "TRITON_CACHE_DIR",
    },
}

both = pytest.mark.parametrize("image", ["cpu", "gpu"])


def locked(path: Path) -> dict[str, set[str]]:
    """Versions by name; more than one where it depends on Python's."""
    versions: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.rstrip(" \\"))
            versions.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return versions


def names_of(path: Path) -> set[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {canonicalize_name(Requirement(line).name) for line in lines if line}


def installed_in(image: str) -> dict[str, set[str]]:
    return {name: versions for lock in LOCKS[image] for name, versions in locked(IMAGES / lock).items()}


def instructions(image: str) -> list[tuple[str, str]]:
    """Keyword and rest of each, on one line."""
    text = (IMAGES / f"{image}.Containerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    return [(keyword, " ".join(rest)) for keyword, *rest in map(str.split, filter(None, lines))]


def variables(image: str) -> dict[str, str]:
    (text,) = [rest for keyword, rest in instructions(image) if keyword == "ENV"]
    return dict(entry.split("=", 1) for entry in text.split())


# Locks


@pytest.mark.parametrize("lock", ["build.lock", "cpu.lock", "gpu.lock", "torch.lock"])
def test_an_image_has_the_versions_that_are_tested(lock: str) -> None:
    tested = locked(ROOT / "requirements.lock")
    found = locked(IMAGES / lock)
    own = {name for name in found if name not in tested}

    assert found
    assert {name: found[name] for name in found if name in tested} == {
        name: tested[name] for name in found if name in tested
    }, f"run: {UPDATE_COMMAND}"
    # CUDA's libraries come with torch, which is pinned in the Makefile.
    assert not own or (lock == "torch.lock" and all(re.match("torch|triton|nvidia-|cuda-", name) for name in own))


def test_torch_is_the_version_that_is_tested() -> None:
    (pin,) = re.findall(r"^TORCH := torch(==\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)

    assert locked(IMAGES / "torch.lock")["torch"] == {pin}
    assert "torch" not in installed_in("cpu")


@pytest.mark.parametrize("lock", ["build.lock", "cpu.lock", "gpu.lock", "torch.lock"])
def test_every_pin_has_digests(lock: str) -> None:
    text = (IMAGES / lock).read_text(encoding="utf-8")
    pins = [part for part in re.split(r"\n(?! )", text) if part]

    assert len(pins) >= len(locked(IMAGES / lock))
    assert all(re.search(r" \\\n +--hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    assert "://" not in text


@both
def test_what_an_image_asks_for_is_asked_for_by_the_project(image: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    # training-hub brings it, which is not in that image.
    asked |= {canonicalize_name("rhai-innovation-mini-trainer")} if image == "cpu" else set()
    wanted = names_of(IMAGES / f"{image}.in")

    assert wanted <= asked
    assert wanted <= set(installed_in(image))


# Imports


def imports_of(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Modules that a module imports, and whether it does so inside a function; not what is for type checking alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, inside
            yield from ((f"{node.module}.{alias.name}", inside) for alias in node.names)
        yield from imports_of(node, inside or isinstance(node, ast.FunctionDef))


def imported_by_steps(image: str) -> dict[str, dict[str, bool]]:
    """Top-level packages, by them the modules of ours that import them, and whether only inside a function."""
    steps = [step for step, place in PLACES.items() if place.gpu == (image == "gpu")]
    pending = [f"components.{step}.core" for step in steps] + ["components.shared.progress"]
    seen: set[str] = set()
    found: dict[str, dict[str, bool]] = {}
    while pending:
        module = pending.pop()
        path = ROOT / module.replace(".", "/")
        file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
        if module in seen or not file.exists():
            continue
        seen.add(module)
        for name, inside in imports_of(ast.parse(file.read_text(encoding="utf-8"))):
            top = name.partition(".")[0]
            if top == "components":
                pending.append(name)
            else:
                modules = found.setdefault(top, {})
                modules[module] = inside and modules.get(module, True)
    assert len(seen) > 10
    return found


@both
def test_everything_that_steps_import_is_in_their_image(image: str) -> None:
    provided_by = importlib.metadata.packages_distributions()
    installed = set(installed_in(image))
    missing = {}
    for name, modules in imported_by_steps(image).items():
        left_out = LEFT_OUT.get((image, name), set())
        provided = {canonicalize_name(distribution) for distribution in provided_by.get(name, [])}
        if name not in sys.stdlib_module_names and not provided & installed:
            missing[name] = {module for module, inside in modules.items() if not (inside and module in left_out)}

    assert {name: modules for name, modules in missing.items() if modules} == {}, "add it to the image's .in file"
    assert {name for (of, name) in LEFT_OUT if of == image} <= set(missing), "an exception that nothing needs"


# Containerfiles


@both
def test_dependencies_come_first_and_the_package_last(image: str) -> None:
    steps = [" ".join(step) for step in instructions(image)]
    final = steps[max(number for number, step in enumerate(steps) if step.startswith("FROM")) :]

    def first(pattern: str) -> int:
        return next(number for number, step in enumerate(final) if re.search(pattern, step))

    assert first(r"COPY .*\.lock") < first(r"RUN .*--requirement") < first(r"COPY --from=wheel") < first(r"\.whl")
    assert not any(
        re.search(r"COPY (?!--from).*(components/? |pipeline)", step) for step in final if "lock" not in step
    )


@both
def test_everything_is_installed_as_locked_and_leaves_no_cache(image: str) -> None:
    runs = " ".join(rest for keyword, rest in instructions(image) if keyword == "RUN")
    installs = re.findall(r"install --no-cache-dir[^&;]*", runs)

    assert len(installs) == len(re.findall(r"\binstall --no", runs)) >= 3
    assert all("--no-deps" in install for install in installs)
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)
    for lock in LOCKS[image]:
        assert f"/opt/osft/{lock}" in runs


@both
def test_it_runs_as_any_user_of_group_0(image: str) -> None:
    steps = instructions(image)

    assert [rest for keyword, rest in steps if keyword == "USER"][-1] == "1001"
    writable = [match[1] for _, rest in steps if (match := re.search(r"install -d -m 0775 -g 0 ([^&]+)", rest))]
    assert [text.split() for text in writable] == [["/home/osft", "/home/osft/.cache"]]
    assert not any(re.search(r"chmod|chown|chgrp", rest) for _, rest in steps)


@both
def test_caches_lie_in_home_and_the_hub_can_be_reached(image: str) -> None:
    found = variables(image)

    assert VARIABLES[image] <= set(found)
    assert all(found[name].startswith("/home/osft") for name in VARIABLES[image])
    assert {"USER", "LOGNAME", "PYTHONDONTWRITEBYTECODE", "HF_HUB_DISABLE_TELEMETRY"} <= set(found)
    assert not {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "NVIDIA_VISIBLE_DEVICES"} & set(found)
    assert found["PATH"].startswith("/opt/osft/bin:")


@both
def test_its_labels_name_it_as_the_cluster_file_does(image: str) -> None:
    (labels,) = [rest for keyword, rest in instructions(image) if keyword == "LABEL"]
    arguments = dict(rest.split("=", 1) for keyword, rest in instructions(image) if keyword == "ARG")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = getattr(load_settings().images, image)

    assert arguments["VERSION"] == project["version"]
    assert name == f"registry.invalid/osft-pipeline/{image}:{project['version']}"
    for label in ("title", "description", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{label}=" in labels
    assert f'org.opencontainers.image.licenses="{project["license"]}"' in labels
    assert f"-t {name.removeprefix('registry.invalid/')} ." in (IMAGES / f"{image}.Containerfile").read_text(
        encoding="utf-8"
    )


def test_a_registry_is_named_only_as_the_default_of_a_base_image() -> None:
    files = [path for path in IMAGES.iterdir() if path.suffix != ".lock"]
    named = [
        (path.suffix, line)
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\b(?:[a-z0-9-]+\.)+(?:io|com|org|net)\b(?!\.image)(?=[/:])", line)
    ]

    assert len(named) == 2
    assert all(suffix == ".Containerfile" and line.startswith("ARG BASE_IMAGE=") for suffix, line in named)


def test_both_images_make_the_package_in_the_same_way() -> None:
    def stage(image: str) -> list[tuple[str, str]]:
        steps = instructions(image)
        return steps[: max(number for number, (keyword, _) in enumerate(steps) if keyword == "FROM") + 2]

    assert stage("cpu") == stage("gpu")


def test_a_build_sees_what_it_copies_and_nothing_else() -> None:
    lines = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    seen = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word.partition("/")[0]
        for image in ("cpu", "gpu")
        for keyword, rest in instructions(image)
        if keyword == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    }

    assert "*" in lines
    assert seen == copied
    assert all((ROOT / name).exists() for name in seen)
