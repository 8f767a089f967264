"""The Triton kernels against torch's operations: on a GPU, or in Triton's interpreter (TRITON_INTERPRET=1).

`test_converter.py` runs this file: Triton decides when it is imported which of the two it is.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from comfystream.media.colour import Colour, Matrix
from comfystream.media.device import convert, kernels
from comfystream.media.device.backend import CudaBackend, DeviceBackend, HostBackend
from comfystream.media.device.convert import FromRgb, ToRgb
from comfystream.media.device.converter import TorchConverter, TritonConverter, best_converter, why_wrong
from comfystream.media.device.layout import FORMATS, Layout, layout_of

COLOURS = [Colour(matrix, full) for matrix in Matrix for full in (False, True)]
SIZES = [(10, 4), (7, 5), (1, 1)]  # an interpreter is slow
NEAR = 3e-7  # some processors and all GPUs multiply and add without rounding in between
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8]


@pytest.fixture(scope="module")
def backend() -> DeviceBackend:
    return HostBackend() if os.environ.get("TRITON_INTERPRET") == "1" else CudaBackend()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def planes(layout: Layout, backend: DeviceBackend) -> Tensor:
    """Any samples that the format can store, in the gaps of odd sizes, too."""
    made = torch.randint(0, 256, (layout.size,), dtype=torch.uint8, generator=seeded())
    if layout.format.bits == 10:
        samples = made.view(torch.int16)
        samples.bitwise_and_(1023).mul_(layout.format.unit)
    return backend.empty(layout.size).copy_(made)


def both_up(name: str, size: tuple[int, int], colour: Colour, dtype: torch.dtype, backend: DeviceBackend) -> Tensor:
    layout = layout_of(name, *size)
    weights, given = ToRgb.of(colour, layout.format, backend), planes(layout, backend)
    ours = kernels.planes_to_rgb(given, layout, weights, dtype)
    theirs = convert.planes_to_rgb(given, layout, weights, dtype)
    assert ours.dtype == theirs.dtype == dtype
    assert ours.shape == theirs.shape == (1, size[1], size[0], 3)
    assert ours.is_contiguous()
    return (ours.double() - theirs.double()).abs().max()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", list(FORMATS))
def test_up_every_format_and_size(name: str, size: tuple[int, int], backend: DeviceBackend) -> None:
    assert both_up(name, size, Colour(Matrix.BT709), torch.float32, backend) <= NEAR


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("name", ["yuv420p", "p010le"])
def test_up_every_matrix_and_range(name: str, colour: Colour, backend: DeviceBackend) -> None:
    assert both_up(name, (10, 4), colour, torch.float32, backend) <= NEAR


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "yuv444p10le", "gray", "rgb24", "rgb48le"])
def test_up_to_half_precision(name: str, backend: DeviceBackend) -> None:
    assert both_up(name, (9, 5), Colour(Matrix.BT601), torch.float16, backend) <= 2**-11


def test_up_wider_than_a_program(backend: DeviceBackend) -> None:
    assert both_up("yuv420p", (kernels.UP_BLOCK + 5, 4), Colour(Matrix.BT709), torch.float32, backend) <= NEAR


def test_8_bit_rgb_survives_exactly(backend: DeviceBackend) -> None:
    layout = layout_of("rgb24", 16, 16)
    values = torch.arange(256, dtype=torch.uint8).repeat_interleave(3)
    weights = ToRgb.of(COLOURS[0], layout.format, backend)
    rgb = kernels.planes_to_rgb(backend.empty(layout.size).copy_(values), layout, weights, torch.float32)
    assert torch.equal(rgb.cpu().flatten(), values.to(torch.float32) / 255)


def both_down(picture: Tensor, colour: Colour, backend: DeviceBackend) -> int:
    """By how much codes differ at most; the whole buffer counts."""
    layout = layout_of("yuv420p", picture.shape[1], picture.shape[0])
    weights, before = FromRgb.of(colour, backend), picture.clone()
    ours, theirs = backend.empty(layout.size), backend.empty(layout.size).fill_(99)
    kernels.rgb_to_planes(picture, ours, layout, weights)
    convert.rgb_to_planes(picture, theirs, layout, weights)
    assert torch.equal(picture.nan_to_num(7.0), before.nan_to_num(7.0))
    return int((ours.int() - theirs.int()).abs().max())


def random_picture(size: tuple[int, int], channels: int, dtype: torch.dtype, backend: DeviceBackend) -> Tensor:
    values = torch.rand(size[1], size[0], channels, generator=seeded()) * 1.4 - 0.2
    if dtype == torch.uint8:
        values = values.clamp(0, 1) * 255
    return values.to(backend.device).to(dtype)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_down_every_type_and_size(
    size: tuple[int, int], dtype: torch.dtype, channels: int, backend: DeviceBackend
) -> None:
    assert both_down(random_picture(size, channels, dtype, backend), Colour(Matrix.BT709), backend) <= 1


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_down_every_matrix_and_range(colour: Colour, backend: DeviceBackend) -> None:
    assert both_down(random_picture((10, 6), 3, torch.float32, backend), colour, backend) <= 1


def test_down_wider_than_a_program(backend: DeviceBackend) -> None:
    picture = random_picture((2 * kernels.DOWN_BLOCK + 5, 3), 3, torch.float32, backend)
    assert both_down(picture, Colour(Matrix.BT709), backend) <= 1


def test_down_from_any_strides(backend: DeviceBackend) -> None:
    wide = random_picture((40, 30), 4, torch.float32, backend)
    planar = wide.movedim(-1, 0).contiguous().movedim(0, -1)
    for picture in (wide[..., :3], wide[3:25:2, 5:38:3, :3], planar[..., 1:], wide[:1, :1, :3].expand(9, 7, 3)):
        assert both_down(picture, Colour(Matrix.BT601), backend) <= 1


def test_down_what_is_out_of_range(backend: DeviceBackend) -> None:
    row = torch.tensor([float("nan"), -0.5, -1e30, float("-inf"), 2.0, 1e30, float("inf"), 1.002])
    picture = row[None, :, None].expand(4, 8, 3).contiguous().to(backend.device)
    layout, colour = layout_of("yuv420p", 8, 4), Colour(Matrix.BT601)
    made = backend.empty(layout.size)
    kernels.rgb_to_planes(picture, made, layout, FromRgb.of(colour, backend))
    assert made[:8].tolist() == [16, 16, 16, 16, 235, 235, 235, 235]
    assert both_down(picture, colour, backend) <= 1


def test_strong_colours_do_not_wrap_around(backend: DeviceBackend) -> None:
    blue = torch.tensor([0.0, 0.0, 1.0]).expand(4, 4, 3).to(backend.device)
    assert both_down(blue, Colour(Matrix.BT601, full=True), backend) == 0


def test_the_probe_takes_the_kernels(backend: DeviceBackend) -> None:
    found = best_converter(backend)
    assert isinstance(found, TritonConverter)
    assert found.name.startswith("one Triton 3")


def test_the_probe_refuses_what_gives_something_else(backend: DeviceBackend) -> None:
    class Brighter(TorchConverter):
        def to_rgb(self, *given: object) -> Tensor:
            return super().to_rgb(*given) + 2 / 255  # type: ignore[arg-type]

    assert "off by" in why_wrong(Brighter(), backend)


def test_kernels_that_are_wrong_are_not_used(backend: DeviceBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.planes_to_rgb
    monkeypatch.setattr(kernels, "planes_to_rgb", lambda *given: right(*given) * 0.9)
    found = best_converter(backend)
    assert isinstance(found, TorchConverter)
    assert "off by" in found.name
