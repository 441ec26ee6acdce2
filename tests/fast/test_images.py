"""What can be read from the images' files: locks agree, steps find their imports, Containerfiles keep their rules."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.placement import PLACES
from tests.conftest import ROOT

IMAGES = ROOT / "components" / "images"
LOCKS = {"cpu": ("cpu.lock",), "gpu": ("torch.lock", "gpu.lock")}
UPDATE_COMMAND = "make lock-images"
# Imports that an image goes without, by the module that has them inside a function.
LEFT_OUT = {
    ("cpu", "torch"): {
        "components.plan_training.core",  # asks this machine's GPU, where no cluster file says what there is
        "components.plan_training.duration",  # the speed of this machine, on a laptop only
        "components.data.samples",  # packs for a training, not for a plan
    },
    ("gpu", "botocore"): {"components.shared.source_errors"},  # what the GPU steps read are artifacts and the workspace
    ("gpu", "lm_eval"): {"components.evaluate.harness"},  # optional; its data come from the hub
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


def installed_in(image: str) -> dict[str, set[str]]:
    return {name: versions for lock in LOCKS[image] for name, versions in locked(IMAGES / lock).items()}


def instructions(image: str) -> list[tuple[str, str]]:
    """Keyword and rest of each, on one line."""
    text = (IMAGES / f"{image}.Containerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    return [(keyword, " ".join(rest)) for keyword, *rest in map(str.split, filter(None, lines))]


# Locks


@pytest.mark.parametrize("lock", ["build.lock", "cpu.lock", "gpu.lock", "torch.lock"])
def test_an_image_has_the_versions_that_are_tested(lock):
    tested = locked(ROOT / "requirements.lock")
    found = locked(IMAGES / lock)
    own = {name for name in found if name not in tested}

    assert found
    assert {name: found[name] for name in found if name in tested} == {
        name: tested[name] for name in found if name in tested
    }, f"run: {UPDATE_COMMAND}"
    # CUDA's libraries come with torch, which is pinned in the Makefile.
    assert not own or (lock == "torch.lock" and all(re.match("torch|triton|nvidia-|cuda-", name) for name in own))


def test_torch_is_the_version_that_is_tested():
    (pin,) = re.findall(r"^TORCH := torch(==\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)

    assert locked(IMAGES / "torch.lock")["torch"] == {pin}
    assert "torch" not in installed_in("cpu")


@pytest.mark.parametrize("lock", ["build.lock", "cpu.lock", "gpu.lock", "torch.lock"])
def test_every_pin_has_digests(lock):
    text = (IMAGES / lock).read_text(encoding="utf-8")
    pins = [part for part in re.split(r"\n(?! )", text) if part]

    assert len(pins) >= len(locked(IMAGES / lock))
    assert all(re.search(r" \\\n +--hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    assert "://" not in text


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
    cores = {"plan_sweep": "components.plan_training.sweep"}
    pending = [cores.get(step, f"components.{step}.core") for step in steps] + ["components.shared.progress"]
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
def test_everything_that_steps_import_is_in_their_image(image):
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
def test_everything_is_installed_as_locked_and_leaves_no_cache(image):
    runs = " ".join(rest for keyword, rest in instructions(image) if keyword == "RUN")
    installs = re.findall(r"install --no-cache-dir[^&;]*", runs)

    assert len(installs) == len(re.findall(r"\binstall --no", runs)) >= 3
    assert all("--no-deps" in install for install in installs)
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)
    for lock in LOCKS[image]:
        assert f"/opt/osft/{lock}" in runs
