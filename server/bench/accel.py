"""What compiling a model brings on this processor: eager beside the Inductor, on a tiny UNet and on TAESD at 128²."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.accel.accelerate import How, accelerate
from comfystream.accel.model_specs import Ranges, decoder_spec, encoder_spec, unet_spec
from comfystream.accel.modules import UNetModule
from comfystream.accel.runner import Runner, torch_dtype
from comfystream.accel.spec import ModelSpec
from comfystream.accel.taesd import TaesdDecoder, TaesdEncoder
from comfystream.errors import ConfigError

from .rows import Row

__all__ = ["bench_accel", "random_inputs", "unet_of"]

SIZE = 128
TINY: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}


def bench_accel(rounds: int = 20) -> Iterator[Row]:
    """Milliseconds per run, all weights random; the two take turns, so that what else the machine does hits both."""
    sizes = Ranges(height=SIZE, width=SIZE, tokens=77)
    cases: list[tuple[str, nn.Module, ModelSpec]] = [
        ("TAESD encode 128²", TaesdEncoder(), encoder_spec(sizes)),
        ("TAESD decode 128²", TaesdDecoder(), decoder_spec(sizes)),
        ("tiny UNet 128²", UNetModule(unet_of(TINY)), unet_spec(sizes, text_width=32)),
    ]
    for case, module, spec in cases:
        runners = {}
        for backend in ("eager", "inductor"):
            began = time.perf_counter()
            runners[backend] = accelerate(module, spec, How(backend, device="cpu", keeps_engine=False)).runner
            if backend == "inductor":
                yield Row("accel", case, "compiling", "s", time.perf_counter() - began)
        found = _in_turns(runners, random_inputs(spec, "cpu"), rounds)
        yield Row("accel", case, "time per run, median", "ms", found["inductor"], found["eager"], "eager")


def unet_of(config: Mapping[str, Any]) -> nn.Module:
    """A UNet of diffusers with random weights.

    Raises:
        ConfigError: diffusers is not installed.
    """
    try:
        import diffusers
    except ImportError:
        raise ConfigError(
            "this bench needs the package diffusers", code="no_diffusers", hint="pip install 'comfystream[diffusion]'"
        ) from None
    torch.manual_seed(0)
    make: Any = diffusers.UNet2DConditionModel
    unet: nn.Module = make(**config)
    return unet.eval().requires_grad_(False)


def random_inputs(spec: ModelSpec, device: str) -> dict[str, Tensor]:
    """Never zeros: a GPU is faster on them than on pictures."""
    return {one.name: torch.randn(one.at("opt")).to(device, torch_dtype(one.dtype)) for one in spec.inputs}


def _in_turns(runners: Mapping[str, Runner], values: Mapping[str, Tensor], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(-2, rounds):
        for name, runner in runners.items():
            began = time.perf_counter()
            runner.run(values)
            if turn >= 0:
                taken[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(some) for name, some in taken.items()}
