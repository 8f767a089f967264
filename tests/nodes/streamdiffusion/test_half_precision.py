"""What overflows in half precision is computed in a wider one."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny
from diffusers import AutoencoderKL
from frames import picture, settings_for

from comfystream_nodes.streamdiffusion.acceleration import accelerated
from comfystream_nodes.streamdiffusion.loading.entry import placed
from comfystream_nodes.streamdiffusion.loading.folder import load_folder
from comfystream_nodes.streamdiffusion.model import StreamModel
from comfystream_nodes.streamdiffusion.stream import Stream

CPU = torch.device("cpu")


def model_of(folder, dtype: torch.dtype) -> StreamModel:
    """SDXL with an autoencoder whose inner values are too large for half precision, as those of the real one are."""
    tiny.write_folder(folder, "sdxl")
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(block_out_channels=(32,) * 4, **levels).save_pretrained(folder / "vae")
    model = load_folder(folder)
    for half in (model.autoencoder.module.encoder, model.autoencoder.module.decoder):
        half.conv_in.weight.data.mul_(1e6)
    return placed(model, CPU, dtype)


@pytest.mark.parametrize("acceleration", ["none", "eager"])
@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_sdxl_s_own_autoencoder_gives_a_picture(tmp_path, acceleration: str, precision: str) -> None:
    model = model_of(tmp_path / "model", torch.float16 if precision == "auto" else torch.float32)
    stream = Stream(accelerated(model, acceleration, precision=precision), settings_for(model))
    made = stream.process(picture())
    assert made.isfinite().all()
    assert made.std() > 0
    assert made.dtype == model.dtype


def test_an_autoencoder_that_says_it_can_is_left_in_half(tmp_path) -> None:
    model = load_folder(tiny.write_folder(tmp_path / "model", "sdxl", is_tiny_vae=False))
    model.autoencoder.module.register_to_config(force_upcast=False)
    assert placed(model, CPU, torch.float16).autoencoder.dtype == torch.float16
    tiny_one = load_folder(tiny.write_folder(tmp_path / "tiny", "sdxl"))
    assert placed(tiny_one, CPU, torch.float16).autoencoder.dtype == torch.float16
