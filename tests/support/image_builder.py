"""Builds the container image without a Docker engine: buildah on a Debian that debootstrap makes.

The package installer's settings of this machine are mounted while it builds and end up in no layer.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASE, IMAGE = "localhost/comfystream-test-base", "localhost/comfystream-test"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_S = 1500
STUB_COMFYUI, STUB_REF = Path(__file__).parent / "image_comfyui", "v0.0.1"
CHECKOUT = "/run/build/comfyui"


@dataclass
class Image:
    """An image in a working container.

    Attributes:
        root: its files.
    """

    container: str
    root: Path
    storage: tuple[str, ...]
    hidden: list[str] = field(default_factory=list)

    def command(self, *command: str, env: dict[str, str] | None = None) -> list[str]:
        """How to run something in it."""
        settings = [word for name, value in (env or {}).items() for word in ("--env", f"{name}={value}")]
        return [*_buildah(self.storage), "run", "--isolation", "chroot", *settings, self.container, "--", *command]

    def run(self, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run something in it."""
        return subprocess.run(self.command(*command, env=env), capture_output=True, text=True, timeout=180)

    def settings(self) -> dict[str, Any]:
        """What the image says of itself: user, volumes, health check."""
        described = json.loads(_run(self.storage, "inspect", "--type", "image", IMAGE))
        settings: dict[str, Any] = described["Docker"]["config"]
        return settings


@contextlib.contextmanager
def build(repository: Path, folder: Path) -> Iterator[Image]:
    """Build it and start a container from it, which is gone afterwards; layers stay for the next time."""
    storage = _storage(folder)
    if BASE not in _run(storage, "images", "--format", "{{.Name}}"):
        _make_base(storage, folder)
    settings, hidden = _pip_settings(folder)
    settings[str(_comfyui(folder / "comfyui"))] = CHECKOUT
    _run(
        storage,
        *("bud", "--layers", "--isolation", "chroot", "--network", "host", "--format", "docker", "-q"),
        *("-f", str(repository / "docker/Dockerfile"), "--ignorefile", str(repository / ".dockerignore")),
        *("--build-arg", f"BASE_IMAGE={BASE}", "--build-arg", f"TORCH={_torch(repository)}"),
        *("--build-arg", "TORCH_INDEX=", "--build-arg", "EXTRAS=torch,opencv,server", "--build-arg", "TENSORRT="),
        *("--build-arg", f"COMFYUI_REPOSITORY=file://{CHECKOUT}", "--build-arg", f"COMFYUI_REF={STUB_REF}"),
        *(word for source, target in settings.items() for word in ("-v", f"{source}:{target}:ro")),
        *("-t", IMAGE, str(repository)),
    )
    container = _run(storage, "from", IMAGE).strip()
    try:
        root = Path(_run(storage, "mount", container).strip())
        yield Image(container, root, storage, hidden)
    finally:
        _run(storage, "rm", container)


def _comfyui(folder: Path) -> Path:
    """A repository with what stands for ComfyUI, tagged as its releases are."""
    shutil.copytree(STUB_COMFYUI, folder)
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "first"), ("tag", STUB_REF)):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


def _torch(repository: Path) -> str:
    """The version that this repository's own environment has."""
    lines = (repository / "constraints.txt").read_text("utf-8").splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def _storage(folder: Path) -> tuple[str, ...]:
    """Overlay where the kernel lets us, else plain copies, which take longer and more room."""
    kept = Path(os.environ.get("COMFYSTREAM_IMAGE_STORE", "/var/tmp/comfystream-images"))
    for driver in ("overlay", "vfs"):
        options = ("--storage-driver", driver, "--root", str(kept / driver), "--runroot", str(kept / "run" / driver))
        if subprocess.run([*_buildah(options), "images"], capture_output=True).returncode == 0:
            return options
    raise AssertionError("buildah has no storage that works here")


def _buildah(storage: Sequence[str]) -> list[str]:
    return ["buildah", *storage]


def _run(storage: Sequence[str], *command: str) -> str:
    done = subprocess.run([*_buildah(storage), *command], capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, f"buildah {command[0]}: {done.stderr[-3000:]}"
    return done.stdout


def _make_base(storage: Sequence[str], folder: Path) -> None:
    """A minimal Debian from the mirror that this machine's own apt uses."""
    root = folder / "rootfs"
    command = ["debootstrap", "--variant=minbase", "bookworm", str(root), _mirror()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    container = _run(storage, "from", "scratch").strip()
    _run(storage, "add", "-q", container, str(root), "/")
    _run(storage, "commit", "-q", container, BASE)
    _run(storage, "rm", container)
    shutil.rmtree(root)


def _mirror() -> str:
    """Off `apt-get indextargets`, which knows what all of apt's files come to."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"], capture_output=True, text=True
    )
    sites = [line for line in listed.stdout.splitlines() if line.rstrip("/").endswith("/debian")]
    return sites[0] if sites else "http://deb.debian.org/debian"


def _pip_settings(folder: Path) -> tuple[dict[str, str], list[str]]:
    """This machine's pip settings as files to mount (source -> place while building), and what no layer may hold.

    Folders that they name are mounted too, elsewhere, and the settings changed to match.
    """
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    values = dict(line.split("=", 1) for line in listed.stdout.splitlines() if "=" in line)
    values = {name.rsplit(".", 1)[-1]: value.strip("'\"") for name, value in values.items()}
    mounts: dict[str, str] = {}
    hidden = [str(folder)]
    if CERTIFICATES.is_file():
        mounts[str(CERTIFICATES)] = values["cert"] = "/run/build/certificates"
    for name in ("find-links", "extra-index-url", "index-url"):
        words = []
        for word in values.get(name, "").split():
            hidden.append(word)
            local = Path(word.removeprefix("file://"))
            if local.is_absolute() and local.is_dir():  # an index links to files beside its own folder
                place = mounts.setdefault(str(local.parent), f"/run/build/{len(mounts)}")
                word = word.replace(str(local.parent), place)
            words.append(word)
        values[name] = " ".join(words)
    if (limits := Path(values.get("constraint", ""))).is_file():
        mounts[str(limits)] = values["constraint"] = "/run/build/constraints"
    settings = configparser.ConfigParser(interpolation=None)
    settings["global"] = {name: value for name, value in values.items() if value}
    with (folder / "pip.conf").open("w", encoding="utf-8") as file:
        settings.write(file)
    return {str(folder / "pip.conf"): "/etc/pip.conf", **mounts}, hidden
