"""A small ComfyUI as a process, with this repository in its `custom_nodes`, and a Python that lacks ComfyStream."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
STUB = Path(__file__).with_name("stub_comfyui")
PARTS = ("comfystream", "nodes", "server", "importable", "workflows")


def bare_python(folder: Path) -> Path:
    """A Python with all libraries of this one, but without ComfyStream."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    asked = [str(python), "-P", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    libraries = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    probe = [str(python), "-P", "-c", "import importlib.util as u; print(u.find_spec('comfystream'))"]
    assert subprocess.run(probe, capture_output=True, text=True, check=True).stdout.strip() == "None"
    return python


def embedded_python(folder: Path, comfyui: str) -> Path:
    """A Python as the portable Windows build has it: in a folder of its own, isolated by a `._pth` file.

    Args:
        folder: of the whole, `python_embeded` is made in it.
        comfyui: name of the folder beside that, which is on its path.
    """
    home = folder / "python_embeded"
    home.mkdir(parents=True)
    python = home / Path(sys.executable).resolve().name
    shutil.copy(Path(sys.executable).resolve(), python)
    libraries = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    standard = [sysconfig.get_path("stdlib"), str(Path(sysconfig.get_path("stdlib")) / "lib-dynload")]
    lines = [f"../{comfyui}", *standard, *libraries, "import site"]
    python.with_name(f"{python.name}._pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = [str(python), "-c", "import sys; print(sys.flags.isolated, sys.flags.ignore_environment)"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    assert said == ["1", "1"], "this Python does not read ._pth files"
    return python


def put_pack(custom_nodes: Path, name: str = "ComfyStream") -> Path:
    """This repository as a folder of `custom_nodes`, as a clone would be."""
    pack = custom_nodes / name
    for part in PARTS:
        shutil.copytree(REPOSITORY / part, pack / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("__init__.py", "install.py", "requirements.txt", "pyproject.toml"):
        shutil.copy(REPOSITORY / file, pack / file)
    return pack


def make_checkout(folder: Path) -> Path:
    """The stub's files and this repository in its `custom_nodes`; the folder's name has a blank in it."""
    checkout = folder / "My ComfyUI"
    shutil.copytree(STUB, checkout, ignore=shutil.ignore_patterns("__pycache__"))
    put_pack(checkout / "custom_nodes")
    return checkout


class StubComfyUI:
    """The process, what it said, and a way to call it as its own page does."""

    def __init__(self, python: Path, checkout: Path, home: Path, **environ: str) -> None:
        self.process = subprocess.Popen(
            [str(python), "-s", str(checkout / "main.py")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=home,
            env={**os.environ, "STUB_HOME": str(home), "COMFYSTREAM_ICE_LOOPBACK": "true", **environ},
        )
        self.lines: list[str] = []
        self._said = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._said.wait(60), "\n".join(self.lines)
        said = [line for line in self.lines if line.startswith("STUB ")]
        assert said, "\n".join(self.lines)
        self.said: dict[str, Any] = json.loads(said[0].removeprefix("STUB "))
        self.address = f"http://127.0.0.1:{self.said['port']}"
        self._token: str | None = None

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("STUB "):
                self._said.set()
        self._said.set()

    def request(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON, with no header but the given ones."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def call(self, path: str, body: Any = None) -> tuple[int, Any]:
        """As the page does it."""
        if self._token is None:
            self._token = self.request("/comfystream/extension_info")[1]["token"]
        return self.request(f"/comfystream/{path}", body, {"X-ComfyStream-Token": self._token})

    def status(self) -> dict[str, Any]:
        return self.call("control", {"action": "status"})[1]["status"]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def until(true: Callable[[], Any], within_s: float = 30.0) -> Any:
    """Wait for it."""
    end = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
    return found
