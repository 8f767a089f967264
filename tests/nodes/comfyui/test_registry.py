"""What ComfyUI's registry of node packs reads is complete, and in its words (docs.comfy.org)."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from comfyui_stub import PARTS

# Those that it knows; an accelerator that is named limits the pack to it.
SYSTEMS = {
    "Operating System :: OS Independent",
    "Operating System :: Microsoft :: Windows",
    "Operating System :: POSIX :: Linux",
    "Operating System :: MacOS",
}


@pytest.fixture(scope="module")
def written(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))


def test_the_project_is_described(written: dict[str, Any]) -> None:
    project = written["project"]
    assert re.fullmatch(r"[A-Za-z](?:[A-Za-z0-9]|[-_.](?![-_.])){0,98}", project["name"])
    assert "comfyui" not in project["name"].lower()
    assert project["description"]
    assert project["license"]
    assert project["urls"]["Repository"].startswith("https://")
    assert SYSTEMS & set(project["classifiers"])


def test_the_pack_is_described(written: dict[str, Any], repository: Path) -> None:
    comfy = written["tool"]["comfy"]
    assert set(comfy) == {"PublisherId", "DisplayName", "Icon", "requires-comfyui", "includes"}
    assert re.fullmatch(r"[a-z0-9-]+", comfy["PublisherId"])
    assert re.fullmatch(r"[<>=!~]=?\d+\.\d+\.\d+", comfy["requires-comfyui"])
    icon = comfy["Icon"].rpartition("/main/")[2]
    assert (repository / icon).is_file()
    assert icon.endswith((".svg", ".png", ".jpg", ".gif"))


def test_what_the_pack_needs_is_not_left_out(repository: Path) -> None:
    lines = (repository / ".comfyignore").read_text("utf-8").splitlines()
    left_out = {line.rstrip("/") for line in lines if line and not line.startswith("#")}
    assert not left_out & {*PARTS, "__init__.py", "install.py", "requirements.txt", "pyproject.toml"}
    assert all((repository / name).exists() for name in left_out)


@pytest.fixture
def install(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_of_the_pack", repository / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("system", "option"), [("nt", "--only-binary=:all:"), ("posix", "--prefer-binary")])
def test_nothing_is_built_where_nobody_has_a_compiler(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, system: str, option: str
) -> None:
    ran: list[list[str]] = []
    held: list[str] = []

    def run(words: list[str], check: bool) -> Any:
        ran.append(words)
        held.append(Path(words[words.index("--constraint") + 1]).read_text("utf-8"))
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(install.subprocess, "run", run)
    monkeypatch.setattr(install, "os", type("System", (), {"name": system}))
    assert install.install(["aiortc>=1.14"], {"torch": "2.9.0+cu130", "numpy": "2.3.4"}) == 0
    assert option in ran[0]
    assert ran[0][-1] == "aiortc>=1.14"
    assert held == ["numpy==2.3.4\n"], "what is there stays; a local build of torch is on no index to be held at"
