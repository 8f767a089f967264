"""An engine in the place of a UNet, as ComfyUI calls one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from comfystream.accel.eager import FunctionRunner
from comfystream.accel.engine_unet import EngineUNet
from comfystream.accel.file_names import COMFYUI_NAMES
from comfystream.accel.model_specs import Ranges, decoder_spec, unet_spec
from comfystream.errors import EngineError


def sum_of(x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
    return x * timesteps[:, None, None, None] + context.mean(dim=(1, 2))[:, None, None, None]


def unet(batch: int | tuple[int, int, int] = (1, 2, 2)) -> EngineUNet:
    spec = unet_spec(Ranges(batch, 64, 64, 7), text_width=16).renamed(COMFYUI_NAMES)
    return EngineUNet(FunctionRunner(sum_of, spec, "cpu", "tensorrt"))


def test_more_rows_than_the_engine_takes_are_done_in_parts() -> None:
    values = torch.randn(5, 4, 8, 8), torch.rand(5), torch.randn(5, 7, 16)
    torch.testing.assert_close(unet()(*values), sum_of(*values))


def test_one_time_step_for_all_rows() -> None:
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 16)
    torch.testing.assert_close(unet()(x, torch.tensor([3.0]), context), sum_of(x, torch.full((2,), 3.0), context))


def test_results_are_not_overwritten_by_the_next_call() -> None:
    values = torch.randn(1, 4, 8, 8), torch.rand(1), torch.randn(1, 7, 16)
    engine = unet()
    first = engine(*values)
    before = first.clone()
    engine(values[0] + 1, *values[1:])
    assert torch.equal(first, before)


def test_what_an_engine_cannot_do_is_told() -> None:
    values = torch.randn(1, 4, 8, 8), torch.rand(1), torch.randn(1, 7, 16)
    with pytest.raises(EngineError, match="this engine takes no ControlNet"):
        unet()(*values, control={"middle": [torch.zeros(1)]})
    with pytest.raises(EngineError, match=r"input x is \[1, 4, 9, 8\], but it was made for"):
        unet()(torch.randn(1, 4, 9, 8), *values[1:])
    spec = decoder_spec(Ranges())
    with pytest.raises(EngineError, match="not an engine of a UNet for ComfyUI: its inputs are latent"):
        EngineUNet(FunctionRunner(lambda latent: latent, spec, "cpu", "tensorrt"))
