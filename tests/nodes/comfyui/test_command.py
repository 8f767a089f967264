"""What the server process is told: it loads what the ComfyUI around us was started with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfystream_nodes.comfyui import command
from comfystream_nodes.comfyui.settings import Settings
from comfystream_nodes.comfyui.surroundings import Surroundings, around_us


def around(folder: Path, **told: Any) -> Surroundings:
    nodes = SimpleNamespace(__file__=str(folder / "nodes.py"))
    modules = {"nodes": nodes, "comfy.cli_args": SimpleNamespace(args=SimpleNamespace(**told))}
    found = around_us(modules)
    assert found is not None
    return found


def test_no_comfyui_around_us() -> None:
    assert around_us({}) is None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, ()),
        ({"disable_api_nodes": True, "lowvram": False}, ("--no-api-nodes",)),
        ({"novram": True}, ("--vram", "low")),
        ({"gpu_only": True}, ("--vram", "high")),
        ({"disable_all_custom_nodes": True, "whitelist_custom_nodes": ["a", "b"]},
         ("--allow-pack", "a", "--allow-pack", "b")),
    ],
)  # fmt: skip
def test_flags_follow_comfyuis_own(told: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    assert around(tmp_path, **told).words == words


def test_places_follow_comfyuis_own(tmp_path: Path) -> None:
    files = [[str(tmp_path / "one.yaml")], [str(tmp_path / "two.yaml")]]
    found = around(tmp_path, base_directory=str(tmp_path / "my data"), extra_model_paths_config=files, cpu=True)
    environ = command.environment(Settings(), "secret-token", found, {"PATH": "p"})
    assert environ["COMFYUI_BASE_DIRECTORY"] == str(tmp_path / "my data")
    assert environ["COMFYUI_EXTRA_MODEL_PATHS"] == os.pathsep.join([files[0][0], files[1][0]])
    assert environ["CUDA_VISIBLE_DEVICES"] == ""
    assert environ["PATH"] == "p"
    assert "COMFYUI_BASE_DIRECTORY" not in command.environment(Settings(), "secret-token", around(tmp_path), {})


def test_a_folder_that_is_no_whole_comfyui_is_a_workspace(tmp_path: Path) -> None:
    found = around(tmp_path, disable_api_nodes=True)
    assert command.arguments(Settings(), 9000, found)[-3:] == ["--workspace", str(tmp_path), "--no-api-nodes"]
    (tmp_path / "comfy").mkdir()
    (tmp_path / "execution.py").touch()
    assert command.arguments(Settings(), 9000, found)[-3:] == ["--comfyui", str(tmp_path), "--no-api-nodes"]


def test_import_paths_of_comfyui_are_left_out_and_its_libraries_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comfyui = tmp_path / "Comfy UI für mich"
    libraries = comfyui / "venv" / "lib" / "site-packages"
    own = Path(command.__file__).resolve().parents[2] / "importable"
    kept = [str(libraries), "/usr/lib/python3", str(own)]
    monkeypatch.setattr(sys, "path", ["", str(comfyui), str(comfyui / "comfy"), *kept])
    boot = command.boot(Surroundings(comfyui))
    assert boot[0] == sys.executable
    assert boot[-2] == "-c"
    assert repr(kept) in boot[-1]
