from __future__ import annotations

from pathlib import Path

import pytest
from stub_comfyui import write_comfyui

from comfystream.catalog.comfyui import ComfyUIOptions, Vram
from comfystream.errors import ConfigError
from comfystream.settings import load_settings
from comfystream_server.comfyui_flags import LoadingFlags
from comfystream_server.commands.serve import engine_options
from comfystream_server.loading import comfyui_options


def test_flags_reach_the_engine(tmp_path: Path) -> None:
    folder = write_comfyui(tmp_path / "ComfyUI")
    flags = LoadingFlags(str(folder), True, ["a"], ["b", "c"], Vram.HIGH).settings
    options = engine_options(load_settings(None, flags, {}))
    assert options.comfyui == ComfyUIOptions(str(folder), api_nodes=False, vram=Vram.HIGH)
    assert (options.allow_packs, options.block_packs) == (("a",), ("b", "c"))


def test_flags_that_are_not_given_leave_the_settings(tmp_path: Path) -> None:
    folder = write_comfyui(tmp_path / "ComfyUI")
    environ = {"COMFYSTREAM_COMFYUI": str(folder), "COMFYSTREAM_VRAM": "low"}
    settings = load_settings(None, LoadingFlags().settings, environ)
    assert engine_options(settings).comfyui == ComfyUIOptions(str(folder), vram=Vram.LOW)


def test_the_variable_names_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_comfyui(tmp_path / "ComfyUI")
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    assert comfyui_options() == ComfyUIOptions(str(folder))
    assert comfyui_options("none") is None
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="COMFYUI_PATH .*this is no ComfyUI checkout"):
        comfyui_options()
