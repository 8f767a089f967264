"""Other people's programs in environments of their own, made once with pinned versions and kept in `.peers/`.

COMFYSTREAM_PEERS names another folder. Where they cannot be had (no network), tests are skipped and say why;
REQUIRE_PEERS=1 makes that a failure.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 600.0


def peer_python(name: str, *requirements: str, with_dependencies: bool = True) -> Path:
    """The Python of an environment that has these requirements and nothing else.

    Args:
        name: the first part of the folder's name.
        requirements: with exact versions.
        with_dependencies: False installs only what is named.
    """
    assert all("==" in requirement for requirement in requirements), "pin them"
    key = hashlib.sha256(repr((requirements, with_dependencies, sys.version_info[:2])).encode()).hexdigest()[:10]
    root = Path(os.environ.get("COMFYSTREAM_PEERS") or REPOSITORY / ".peers")
    home = root / f"{name}-{key}"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        root.mkdir(parents=True, exist_ok=True)
        _make_once(home, python, requirements, with_dependencies)
    return python


def pytrickle_python(aiohttp: str) -> Path:
    """The Python of pytrickle, on this version of aiohttp: what its publisher and subscriber need, and no torch."""
    support = ("aiohappyeyeballs==2.6.1", "aiosignal==1.4.0", "attrs==25.4.0", "frozenlist==1.8.0", "multidict==6.7.0")
    more = ("propcache==0.4.1", "yarl==1.22.0", "idna==3.11", "typing_extensions==4.15.0")
    wanted = ("pytrickle==0.1.6", f"aiohttp=={aiohttp}", *support, *more)
    return peer_python("pytrickle", *wanted, with_dependencies=False)


def _make_once(home: Path, python: Path, requirements: tuple[str, ...], with_dependencies: bool) -> None:
    """Of test processes that need it at the same time, one makes it and the others wait."""
    lock = home.with_suffix(".lock")
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            lock.mkdir()
            break
        except FileExistsError:
            if (home / "complete").exists():
                return
            if time.monotonic() > until:
                pytest.fail(f"{lock} is in the way: remove it when no tests run")
            time.sleep(0.2)
    try:
        if not (home / "complete").exists():
            _make(home, python, requirements, with_dependencies)
    finally:
        lock.rmdir()


def _make(home: Path, python: Path, requirements: tuple[str, ...], with_dependencies: bool) -> None:
    shutil.rmtree(home, ignore_errors=True)
    try:
        _run(sys.executable, "-m", "venv", str(home))
        options = () if with_dependencies else ("--no-deps",)
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, *requirements)
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(home, ignore_errors=True)
        said = getattr(error, "stderr", "") or str(error)
        reason = f"{', '.join(requirements)} cannot be installed: {said.strip().splitlines()[-1:]}"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    (home / "complete").touch()


def _run(*words: str) -> None:
    with tempfile.TemporaryDirectory() as elsewhere:
        subprocess.run(words, check=True, capture_output=True, text=True, cwd=elsewhere, timeout=DEADLINE_S)
