"""The wheel holds everything, and works where ComfyUI's own `nodes.py` and `server.py` are importable."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = (".json", ".yaml", ".typed", ".js", ".css", ".html")  # what is not code and has to be in the wheel all the same


def _settings() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]


def _files() -> list[str]:
    """The files of the packages and those in the root, without what Python has made beside them."""
    folders = [REPOSITORY / folder for folder in _settings()["package-dir"].values()]
    found = [*REPOSITORY.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    return [path.relative_to(REPOSITORY).as_posix() for path in found if path.is_file() and path.suffix != ".pyc"]


def _in_wheel(name: str) -> str | None:
    """Where a file of the repository lies in the wheel; None if it does not belong there."""
    for package, folder in _settings()["package-dir"].items():
        if name.startswith(f"{folder}/") and name.endswith((".py", *DATA)):
            return package + name.removeprefix(folder)
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the repository, so that nothing built before leaks into it."""
    copy, made = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in _files():
        if _in_wheel(name) or "/" not in name:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, copy / name)
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-P", "-c", script, str(made)]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr[-2000:]
    return next(made.glob("*.whl"))


def test_every_package_folder_is_listed() -> None:
    code = [target for name in _files() if name.endswith(".py") and (target := _in_wheel(name))]
    folders = {Path(target).parent.as_posix() for target in code}
    assert {folder.replace("/", ".") for folder in folders} == set(_settings()["packages"])


def test_the_wheel_holds_all_code_and_data(wheel: Path) -> None:
    wanted = {target for name in _files() if (target := _in_wheel(name))}
    assert len(wanted) > 20
    assert not wanted - set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_takes_no_name_of_comfyui(wheel: Path) -> None:
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "comfystream",
        "comfystream_nodes",
        "comfystream_server",
    }


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new virtual environment with the wheel in it; the libraries are those of this environment."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    asked = [str(python), "-P", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    zipfile.ZipFile(wheel).extractall(packages)
    libraries = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    return python


@pytest.fixture
def beside_comfyui(tmp_path: Path) -> Path:
    """A folder like ComfyUI's own, which is first on `sys.path` when Python runs in it."""
    for name in ("nodes", "server"):
        (tmp_path / f"{name}.py").write_text(f"WHOSE = 'ComfyUI {name}'\n")
    return tmp_path


def _run(python: Path, script: str, folder: Path) -> str:
    done = subprocess.run([str(python), "-c", script], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_installed_one_and_leaves_comfyui_its_names(installed: Path, beside_comfyui: Path) -> None:
    script = (
        "import comfystream, comfystream_nodes, comfystream_server, nodes, server\n"
        "print(nodes.WHOSE, server.WHOSE, sep='\\n')\n"
        "print(*(module.__file__ for module in (comfystream, comfystream_nodes, comfystream_server)), sep='\\n')\n"
    )
    whose_nodes, whose_server, *files = _run(installed, script, beside_comfyui).splitlines()
    assert (whose_nodes, whose_server) == ("ComfyUI nodes", "ComfyUI server")
    assert [Path(file).parent.name for file in files] == ["comfystream", "comfystream_nodes", "comfystream_server"]
    for file in files:
        assert Path(file).is_relative_to(installed.parent.parent)


def test_the_programs_exist(wheel: Path, installed: Path, beside_comfyui: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        entries = configparser.ConfigParser()
        entries.read_string(archive.read(name).decode())
    assert "comfystream" in entries["console_scripts"]
    for target in entries["console_scripts"].values():
        module, function = target.split(":")
        script = f"import {module}, nodes; assert nodes.WHOSE; print(callable({module}.{function}))"
        assert _run(installed, script, beside_comfyui).strip() == "True"


def test_a_workflow_is_found_good_on_a_new_machine(installed: Path, tmp_path: Path) -> None:
    """No folder of ours exists there yet, and nothing but the wheel is installed."""
    script = "import sys; from comfystream_server.cli import main; sys.exit(main())"
    command = [str(installed), "-P", "-c", script, "check", str(REPOSITORY / "workflows/edges.json")]
    home = {**os.environ, "COMFYSTREAM_HOME": str(tmp_path / "not-yet")}
    done = subprocess.run(command, cwd=tmp_path, env=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
