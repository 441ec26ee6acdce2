"""The images of this checkout, built for real. Layers stay in build/images, so that the next time takes seconds."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.buildah import ROOT, Buildah, Container
from tests.images.steps import Cluster

ROOM_GIB = 20  # the GPU image, and what building it needs beside it
TOOLS = ("buildah", "debootstrap", "unshare")


@pytest.fixture(scope="session")
def buildah():
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.exit(f"not found: {', '.join(missing)}; run: apt-get install buildah debootstrap crun", returncode=1)
    if os.geteuid() != 0:
        pytest.exit("building images here needs root; run as root: make test-images", returncode=1)
    storage = Path(os.environ.get("OSFT_IMAGES_STORAGE", ROOT / "build" / "images"))
    storage.mkdir(parents=True, exist_ok=True)
    free_gib = shutil.disk_usage(storage).free / 2**30
    if free_gib < ROOM_GIB:
        pytest.exit(
            f"{storage} has {free_gib:.0f} GiB free, images need {ROOM_GIB}; "
            "name a folder with more in OSFT_IMAGES_STORAGE",
            returncode=1,
        )
    return Buildah(storage=storage)


@pytest.fixture(scope="session")
def base(buildah):
    return buildah.base(os.environ.get("BASE_IMAGE"))


@pytest.fixture(scope="session")
def cpu(buildah, base):
    yield from _container(buildah, "cpu", base)


@pytest.fixture(scope="session")
def gpu(buildah, base):
    yield from _container(buildah, "gpu", base)


@pytest.fixture(params=["cpu", "gpu"])
def image(request):
    """Each of the two."""
    container: Container = request.getfixturevalue(request.param)
    return container


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, tiny_model):
    """A workspace with a small model and data."""
    return Cluster.create(tmp_path_factory.mktemp("cluster"), tiny_model)


def _container(buildah: Buildah, name: str, base: str) -> Iterator[Container]:
    container = buildah("from", buildah.build(name, base))
    root = Path(buildah("mount", container))
    yield Container(buildah=buildah, name=container, root=root)
    buildah("umount", container)
    buildah("rm", container)
