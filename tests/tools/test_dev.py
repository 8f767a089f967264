"""What a person sees of `make` before there is anything to run."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "dev.py"


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with a folder of its own instead of the repository."""
    spec = importlib.util.spec_from_file_location("dev", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(name)
    programs = tmp_path / ".venv" / module.PROGRAMS.name
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "setup.stamp")
    monkeypatch.setattr(module, "PYTHON", programs / module.PYTHON.name)
    monkeypatch.setattr(module, "LOG", tmp_path / "out" / "setup.log")
    return module


def test_a_python_that_is_too_old_is_told_what_to_do(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "argv", ["dev.py", "serve"])
    monkeypatch.setattr(dev.platform, "python_version", lambda: "3.9.2")
    monkeypatch.setattr(dev.shutil, "which", lambda name: None)
    with pytest.raises(dev.Failed, match=r"needs Python 3\.11 or newer; this is Python 3\.9(.|\n)*make serve PYTHON="):
        dev.use_new_enough_python()


def test_a_newer_python_beside_the_old_one_is_used(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "argv", ["dev.py", "test", "-k", "x"])
    monkeypatch.setattr(dev.shutil, "which", lambda name: "/somewhere/python3.12" if name == "python3.12" else None)
    monkeypatch.setattr(dev.subprocess, "call", lambda command: started.append(command) or 3)
    with pytest.raises(SystemExit) as ended:
        dev.use_new_enough_python()
    assert ended.value.code == 3
    assert started == [["/somewhere/python3.12", "dev.py", "test", "-k", "x"]]


def test_the_script_is_readable_for_an_old_python() -> None:
    assert ast.parse(SCRIPT.read_text("utf-8"), feature_version=(3, 8)).body


def test_set_up_once_and_again_when_something_changed(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def make_venv() -> None:
        done.append("venv")
        dev.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        dev.PYTHON.touch()

    monkeypatch.setattr(dev, "make_venv", make_venv)
    monkeypatch.setattr(dev, "install", lambda *what: done.append("install"))
    dev.setup()
    dev.setup()
    assert done == ["venv", "install"]
    (dev.ROOT / "constraints.txt").write_text("torch==9")
    dev.setup()
    assert done == ["venv", "install"] * 2


def test_the_python_in_the_environment_does_not_delete_itself(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(sys, "prefix", str(dev.VENV))
    monkeypatch.setattr(sys, "base_prefix", "/somewhere")
    monkeypatch.setattr(sys, "_base_executable", "/somewhere/python3")
    monkeypatch.setattr(sys, "argv", ["dev.py", "types"])
    monkeypatch.setattr(dev.subprocess, "call", lambda command: started.append(command) or 3)
    dev.VENV.mkdir()
    with pytest.raises(SystemExit) as ended:
        dev.setup()
    assert ended.value.code == 3
    assert started == [["/somewhere/python3", "dev.py", "types"]]
    assert dev.VENV.is_dir()


def test_a_setup_that_failed_is_tried_again(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*what: str) -> None:
        raise dev.Failed("no network")

    monkeypatch.setattr(dev, "make_venv", lambda: dev.VENV.mkdir(exist_ok=True))
    monkeypatch.setattr(dev, "install", refuse)
    for _ in range(2):
        with pytest.raises(dev.Failed, match="no network"):
            dev.setup()


def test_without_any_pip_it_names_the_package(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    dev.LOG.parent.mkdir()
    monkeypatch.setattr(dev.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(dev, "logged", lambda command, folder=None: command[1:3] == ["-m", "venv"])
    monkeypatch.setattr(dev, "pip_from_wheel", lambda folder: False)
    monkeypatch.setattr(dev, "pip_from_apt", lambda: False)
    with pytest.raises(dev.Failed, match="sudo apt install python3-venv"):
        dev.make_venv()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  Downloading torch-2.13.0-cp311-manylinux.whl (888.1 MB)\n", "fetching torch 2.13.0 (888.1 MB)"),
        ("  Downloading https://a.b/c/numpy-2.4.6-cp311.whl (16.9 MB)\n", "fetching numpy 2.4.6 (16.9 MB)"),
        ("  Downloading idna-3.20-py3-none-any.whl (71 kB)\n", ""),
        ("Installing collected packages: a, b, c\n", "unpacking 3 packages"),
        ("Collecting numpy\n", ""),
    ],
)
def test_what_of_pip_is_shown(dev: ModuleType, line: str, shown: str) -> None:
    assert dev.news(line) == shown


def test_an_unknown_command_names_those_that_exist() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "sevre"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.strip() == "there is no command 'sevre'; there are: serve, demo, test, lint, types, setup, clean"
