from __future__ import annotations

import os
from pathlib import Path

import pytest
from stub_comfyui import write_comfyui

from comfystream.catalog.comfyui import find_checkout, find_places, is_comfyui, version_of
from comfystream.errors import ConfigError


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    return write_comfyui(tmp_path / "Comfy UI")


def test_what_is_given_goes_before_the_variable(comfyui: Path, tmp_path: Path) -> None:
    other = write_comfyui(tmp_path / "other")
    assert find_checkout(str(comfyui), {"COMFYUI_PATH": str(other)}) == comfyui
    assert find_checkout("", {"COMFYUI_PATH": str(other)}) == other


def test_it_is_found_from_its_custom_nodes(comfyui: Path, tmp_path: Path) -> None:
    assert find_checkout("", {}, home=comfyui / "custom_nodes" / "comfystream") == comfyui
    assert find_checkout("", {}, home=tmp_path / "custom_nodes" / "comfystream") is None


def test_none_is_none_even_there(comfyui: Path) -> None:
    home = comfyui / "custom_nodes" / "comfystream"
    assert find_checkout("none", {"COMFYUI_PATH": str(comfyui)}, home) is None
    assert find_checkout("", {"COMFYUI_PATH": "none"}, home) is None


@pytest.mark.parametrize(("given", "environ", "named"), [("x", {}, "--comfyui x"), ("", {"COMFYUI_PATH": "y"}, "y")])
def test_what_is_no_checkout_is_an_error_that_says_who_named_it(given: str, environ: dict, named: str) -> None:
    with pytest.raises(ConfigError, match="this is no ComfyUI checkout") as told:
        find_checkout(given, environ)
    assert named in told.value.message
    assert "nodes.py" in told.value.hint


def test_version_and_recognition(comfyui: Path, tmp_path: Path) -> None:
    assert version_of(comfyui) == "0.3.70"
    assert version_of(tmp_path) == ""
    assert is_comfyui(comfyui)
    assert not is_comfyui(tmp_path)


def test_places_beside_the_checkout_are_named_by_the_environment(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.yaml", "two more.yaml")]
    for file in files:
        file.touch()
    named = {"COMFYUI_BASE_DIRECTORY": str(tmp_path), "COMFYUI_EXTRA_MODEL_PATHS": os.pathsep.join(map(str, files))}
    assert find_places(named) == (str(tmp_path), tuple(map(str, files)))
    assert find_places({}) == ("", ())


@pytest.mark.parametrize("variable", ["COMFYUI_BASE_DIRECTORY", "COMFYUI_EXTRA_MODEL_PATHS"])
def test_a_place_that_is_not_there_is_named(variable: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=variable):
        find_places({variable: str(tmp_path / "nowhere")})
