"""Upscalers by a backend, for ComfyUI's socket and for ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from backends_here import need_backend

from comfystream.accel.registry import probe_all
from comfystream.accel.upscalers import Fsrcnn, RrdbNet, SrvggNet
from comfystream.errors import ComfyStreamError

safetensors = pytest.importorskip("safetensors.torch", reason="needs the package safetensors")
CAN = {one.backend: one.can_run and one.can_build for one in probe_all()}
needs_onnx = pytest.mark.skipif(not CAN["onnxruntime"], reason="needs onnxruntime")
SIZE = {"width": 64, "height": 64, "precision": "fp32"}


@pytest.fixture
def folder(tmp_path: Path, nodes: dict[str, Any]) -> Path:
    made = tmp_path / "models/upscale_models"
    made.mkdir()
    return made


def put(folder: Path, module: Any, name: str) -> Any:
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(std=0.1)
    safetensors.save_file(module.state_dict(), folder / name)
    return module.eval()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "backend",
    [
        "eager",
        pytest.param("onnxruntime", marks=needs_onnx),
        pytest.param(
            "inductor", marks=[pytest.mark.long, pytest.mark.skipif(not CAN["inductor"], reason="no C++ compiler")]
        ),
    ],
)
@pytest.mark.parametrize("make", [lambda: SrvggNet(8, 2, 2), lambda: RrdbNet(8, 4, 1, 2), lambda: Fsrcnn(8, 4, 1, 2)])
def test_it_gives_what_torch_gives(backend: str, make: Any, call: Any, folder: Path) -> None:
    module = put(folder, make(), "net_x2.safetensors")
    fast = call("AcceleratedUpscaleModelLoader", model_name="net_x2.safetensors", backend=backend, **SIZE)
    image = torch.rand(2, 64, 64, 3)
    larger = call("AcceleratedUpscale", upscale_model=fast, image=image)
    expected = module(image.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(larger, expected, atol=1e-4, rtol=1e-4)
    assert bool(fast.engine) == (backend != "eager")


def test_comfyuis_own_node_can_use_it(call: Any, folder: Path) -> None:
    """What ComfyUI's ImageUpscaleWithModel does with what it is given."""
    module = put(folder, SrvggNet(8, 2, 2), "net.safetensors")
    fast = call("AcceleratedUpscaleModelLoader", model_name="net.safetensors", backend="eager", **SIZE)
    assert sum(one.numel() for one in fast.model.parameters()) == 0
    fast.to("cpu")
    picture = torch.rand(1, 3, 40, 24)
    import comfy.utils

    larger = comfy.utils.tiled_scale(picture, lambda a: fast(a), 16, 16, 8, upscale_amount=fast.scale)
    assert larger.shape == (1, 3, 80, 48)
    torch.testing.assert_close(fast(picture), module(picture))


def test_places_cover_a_side_with_whole_tiles(nodes: dict[str, Any]) -> None:
    from comfystream_nodes.accel.tiles import places

    for side in range(20, 70):
        found = places(side, 20, 6)
        assert found[0] == 0
        assert found[-1] == side - 20
        assert all(after - before <= 14 for before, after in zip(found, found[1:], strict=False))
    assert places(10, 20, 6) == [0]


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (7, 50), (5, 3)])
def test_tiles_show_no_seams(size: tuple[int, int], nodes: dict[str, Any]) -> None:
    from comfystream_nodes.accel.tiles import tiled

    picture = torch.rand(2, 3, *size)
    seen: list[tuple[int, ...]] = []

    def nearest(part: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(part.shape))
        return part.repeat_interleave(2, 2).repeat_interleave(2, 3)

    larger = tiled(nearest, picture, (16, 16), 2, overlap=6)
    torch.testing.assert_close(larger, picture.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert set(seen) == {(1, 3, 16, 16)}


@needs_onnx
def test_an_engine_of_one_size_does_larger_pictures_in_tiles(call: Any, folder: Path) -> None:
    module = put(folder, SrvggNet(8, 2, 2), "net.safetensors")
    fast = call("AcceleratedUpscaleModelLoader", model_name="net.safetensors", backend="onnxruntime", **SIZE)
    for size in ((100, 150), (64, 30)):
        image = torch.rand(1, 3, *size)
        inner = (slice(None), slice(None), slice(0, 2 * size[0] - 8), slice(0, 2 * size[1] - 8))
        torch.testing.assert_close(fast(image)[inner], module(image)[inner], atol=2e-2, rtol=1e-2)
        assert fast(image).shape == (1, 3, 2 * size[0], 2 * size[1])


def test_a_folded_network_takes_odd_sizes(call: Any, folder: Path) -> None:
    put(folder, RrdbNet(8, 4, 1, 2, unshuffle=2), "net.safetensors")
    fast = call("AcceleratedUpscaleModelLoader", model_name="net.safetensors", backend="eager", **SIZE)
    assert fast(torch.rand(1, 3, 33, 21)).shape == (1, 3, 66, 42)


def test_the_nodes_of_the_first_generation(call: Any, folder: Path) -> None:
    module = put(folder, Fsrcnn(8, 4, 1, 3), "FSRCNN_x3.safetensors")
    fast = call("SuperResolutionModelLoader", model_type="FSRCNN", scale_factor="3")
    image = torch.rand(1, 20, 24, 3)
    larger = call("SuperResolutionUpscale", image=image, sr_model=fast, use_cuda="True")
    assert larger.shape == (1, 60, 72, 3)
    torch.testing.assert_close(larger, module(image.movedim(-1, 1)).clamp(0, 1).movedim(1, -1), atol=1e-2, rtol=1e-2)


def test_bad_input_is_told_with_the_node(call: Any, folder: Path) -> None:
    def said(key: str, **inputs: Any) -> str:
        with pytest.raises(ComfyStreamError) as caught:
            call(key, **inputs)
        return str(caught.value)

    loader = "AcceleratedUpscaleModelLoader"
    asked = {"backend": "eager", **SIZE}
    assert f"{loader}: there is no none.safetensors in models/upscale_models" in said(
        loader, model_name="none.safetensors", **asked
    )
    put(folder, SrvggNet(8, 2, 2), "net.safetensors")
    path = folder / "net.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "net.safetensors: cut off" in (text := said(loader, model_name="net.safetensors", **asked))
    assert text.startswith(f"{loader}: ")
    safetensors.save_file({"unet.weight": torch.zeros(2)}, path)
    assert f"{loader}: net.safetensors: neither SRVGG" in said(loader, model_name="net.safetensors", **asked)
    assert "SuperResolutionModelLoader: there is no EDSR_x2" in said(
        "SuperResolutionModelLoader", model_type="EDSR", scale_factor="2"
    )
    if not CAN["tensorrt"]:
        put(folder, SrvggNet(8, 2, 2), "net.safetensors")
        missing = said(loader, model_name="net.safetensors", backend="tensorrt", **SIZE)
        assert missing.startswith(f"{loader}: the backend tensorrt does not work here")


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "cuda-graph", "inductor", "auto"])
def test_on_a_gpu_it_stays_there(backend: str, call: Any, folder: Path) -> None:
    need_backend(backend)
    module = put(folder, SrvggNet(8, 2, 2), "net.safetensors")
    fast = call("AcceleratedUpscaleModelLoader", model_name="net.safetensors", backend=backend, **SIZE)
    for size in ((64, 64), (100, 80)):
        image = torch.rand(1, *size, 3, device="cuda")
        larger = call("AcceleratedUpscale", upscale_model=fast, image=image)
        assert larger.is_cuda
        expected = module(image.cpu().movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
        inner = (slice(None), slice(0, 2 * size[0] - 16), slice(0, 2 * size[1] - 16))
        torch.testing.assert_close(larger.cpu()[inner], expected[inner], atol=3e-2, rtol=3e-2)
