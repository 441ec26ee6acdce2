"""Images are built and used by buildah, without a registry, a daemon or a kernel's privileges for containers."""

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
USER = 1000650000  # as OpenShift's: it has no name; its group is 0
# How pip reaches an index from this machine, where the machine says so; given to builds, in no image.
HOST_FILES = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
SUITE = "bookworm"  # has Python 3.11
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
BASE = "localhost/python-base"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Buildah:
    """A store of images of its own."""

    storage: Path

    def __call__(self, *arguments: str | Path) -> str:
        """What a command of buildah prints to standard output; the rest goes where ours does."""
        done = subprocess.run(self.command(arguments), stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    def command(self, arguments: Sequence[str | Path], network: bool = True) -> list[str]:
        """A command of buildah as a program's arguments; without a network it runs where there is no interface."""
        places = [f"--root={self.storage / 'root'}", f"--runroot={self.storage / 'run'}"]
        return [*([] if network else ["unshare", "--net"]), "buildah", *places, *map(str, arguments)]

    def base(self, image: str | None) -> str:
        """An image with Python: the one that is named, or one made of Debian's packages."""
        if image is not None:
            return image
        if BASE not in self("images", "--format", "{{.Name}}").split():
            folder = self.storage / "base"
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, folder], check=True)
            container = self("from", "scratch")
            self("add", "--quiet", container, folder, "/")
            self("commit", "--quiet", "--rm", container, BASE)
            shutil.rmtree(folder)
        return BASE

    def build(self, name: str, base: str) -> str:
        """Build components/images/NAME.Containerfile; gives the image's name. Shows its progress."""
        image = f"localhost/osft-pipeline/{name}"
        files = [f"--volume={file}:{file}:ro" for file in HOST_FILES if Path(file).exists()]
        arguments = [f"--build-arg=BASE_IMAGE={base}", "--build-arg=REVISION=0123abc", f"--tag={image}"]
        file = ROOT / "components" / "images" / f"{name}.Containerfile"
        isolation = ["--isolation=chroot", "--network=host", "--layers"]
        command = self.command(["build", *isolation, *files, *arguments, f"--file={file}", ROOT])
        temporary = self.storage / "tmp"
        temporary.mkdir(exist_ok=True)
        subprocess.run(command, env={**os.environ, "TMPDIR": str(temporary)}, check=True)
        return image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Container:
    """A container of an image; what is run in it has no network, and writes as OpenShift's user."""

    buildah: Buildah
    name: str
    root: Path
    """Its files."""

    def run(
        self, *command: str, volumes: Mapping[Path, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        mounted = [f"--volume={folder}:{place}" for folder, place in (volumes or {}).items()]
        arguments = ["run", "--isolation=chroot", f"--user={USER}:0", *mounted, self.name, "--", *command]
        done = subprocess.run(
            self.buildah.command(arguments, network=False), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def python(self, program: str, *arguments: str) -> Any:
        """What a program prints last, read as JSON."""
        return json.loads(self.run("python3", "-c", program, *arguments).stdout.splitlines()[-1])

    def config(self) -> dict[str, Any]:
        """Its image's configuration: Env, Labels, User and others."""
        found = json.loads(self.buildah("inspect", "--type=container", self.name))
        config: dict[str, Any] = found["OCIv1"]["config"]
        return config

    def written(self) -> list[Path]:
        """Files and folders that were made by what ran, outside of mounted folders."""
        found = subprocess.run(
            ["find", self.root, "-xdev", "-uid", str(USER)], capture_output=True, text=True, check=True
        )
        return [Path("/") / Path(line).relative_to(self.root) for line in found.stdout.splitlines()]
