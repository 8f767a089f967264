"""The nodes of ComfyUI's TensorRT set: keys and inputs of saved workflows, and what is said without TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from comfystream.accel.registry import probe_all
from comfystream.catalog.registry import CatalogOptions, load_catalog
from comfystream.errors import ConfigError, EngineError

CAN = {one.backend: one for one in probe_all()}


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    load_catalog(CatalogOptions(pack_folders=()))  # makes `folder_paths` what nodes find
    import folder_paths

    from comfystream_nodes.accel import NODE_CLASS_MAPPINGS

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path / "output"))
    monkeypatch.setenv("COMFYSTREAM_ENGINES", str(tmp_path / "engines"))
    (tmp_path / "output/tensorrt").mkdir(parents=True)
    return NODE_CLASS_MAPPINGS


def test_keys_and_inputs(nodes: dict[str, Any], tmp_path: Path) -> None:
    name = "static-dreamshaper8_SD15_$stat-b-1-h-512-w-512_00001_.engine"
    (tmp_path / "output/tensorrt" / name).write_bytes(b"")
    loader = nodes["TensorRTLoader"].INPUT_TYPES()["required"]
    assert loader["unet_name"] == ([name],)
    assert "sd1.x" in loader["model_type"][0]
    static = nodes["STATIC_TRT_MODEL_CONVERSION"].INPUT_TYPES()["required"]
    assert list(static) == [
        "model",
        "filename_prefix",
        "batch_size_opt",
        "height_opt",
        "width_opt",
        "context_opt",
        "num_video_frames",
    ]
    dynamic = nodes["DYNAMIC_TRT_MODEL_CONVERSION"].INPUT_TYPES()["required"]
    assert {
        f"{axis}_{end}" for axis in ("batch_size", "height", "width", "context") for end in ("min", "opt", "max")
    } < {*dynamic}


def test_a_missing_engine_is_told(nodes: dict[str, Any]) -> None:
    with pytest.raises(OSError, match="there is no engine none.engine"):
        nodes["TensorRTLoader"]().load_unet("none.engine", "sd1.x")


def test_an_engine_that_is_none_is_told(nodes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "output/tensorrt/broken.engine").write_bytes(b"no engine")
    with pytest.raises(EngineError) as caught:
        nodes["TensorRTLoader"]().load_unet("broken.engine", "sd1.x")
    has_any = CAN["tensorrt"].version or CAN["tensorrt-rtx"].version
    assert caught.value.code == ("engine_refused" if has_any else "backend_missing")


SIZES = {"batch_size_opt": 1, "height_opt": 64, "width_opt": 64, "context_opt": 1, "num_video_frames": 0}


def test_a_name_that_leads_out_is_refused(nodes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="leads out of the output folder"):
        nodes["STATIC_TRT_MODEL_CONVERSION"]().convert(None, "../../elsewhere", **SIZES)


@pytest.mark.slow
@pytest.mark.skipif(not CAN["tensorrt-rtx"].can_build, reason="TensorRT-RTX NOT RUN: it is not installed")
def test_a_model_becomes_an_engine_file(nodes: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="needs diffusers")
    from tiny_models import tiny_unet

    with torch.no_grad():
        nodes["STATIC_TRT_MODEL_CONVERSION"]().convert(tiny_unet(), "tensorrt/tiny", **SIZES)
    file = tmp_path / "output/tensorrt/tiny_$stat-b-1-h-64-w-64_00001_.engine"
    assert file.stat().st_size > 100_000
    assert nodes["TensorRTLoader"].INPUT_TYPES()["required"]["unet_name"] == ([file.name],)


@pytest.mark.skipif(bool(CAN["tensorrt"].version or CAN["tensorrt-rtx"].version), reason="TensorRT is installed here")
def test_without_tensorrt_building_says_what_is_missing(nodes: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="an engine needs TensorRT: tensorrt cannot be imported"):
        nodes["STATIC_TRT_MODEL_CONVERSION"]().convert(None, "tensorrt/tiny", **SIZES)
