"""Depth models and upscalers, as the nodes run them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.accel.cache import EngineCache
from comfystream.accel.upscalers import Fsrcnn, SrvggNet
from comfystream_nodes.accel.depth import accelerated_depth
from comfystream_nodes.accel.upscale import accelerated_upscaler

from .cost import count
from .models import depth_network, random_weights
from .prepared import Prepared
from .scale import Scale
from .stages import Stages
from .streams import DTYPES, backends_of

__all__ = ["DepthCase", "UpscaleCase"]


@dataclass(frozen=True, slots=True)
class DepthCase:
    """Depth Anything V2; a tick takes a picture of the usual size, shrinks it, and enlarges the depth.

    Attributes:
        size: of the model: small or large.
    """

    size: str

    def prepare(self, scale: Scale, rows: int, backend: str, device: str, precision: str) -> Prepared:
        """Make the model, count, accelerate, build."""
        place = torch.device(device)
        network = depth_network(scale, self.size, place).to(DTYPES[precision])
        side = scale.depth_side
        small = torch.rand(1, 3, side, side, device=place, dtype=DTYPES[precision])
        pictures = torch.rand(rows, scale.side, scale.side, 3, device=place)

        def make() -> Any:
            return accelerated_depth(network, f"depth {self.size}", side, backend, precision)

        with torch.inference_mode():
            cost = count(lambda: network(pixel_values=small), [network])
        facts = {"model": f"Depth Anything V2 {self.size}", "size": f"{side}x{side}"}
        return _prepared(make, "estimate", pictures, cost, {**facts, **_facts(rows, precision)})


@dataclass(frozen=True, slots=True)
class UpscaleCase:
    """An upscaler on whole pictures.

    Attributes:
        kind: srvgg or fsrcnn.
        scale: times in each direction.
    """

    kind: str
    scale: int

    def prepare(self, scale: Scale, rows: int, backend: str, device: str, precision: str) -> Prepared:
        """Make the model, count, accelerate, build."""
        place, side = torch.device(device), scale.side
        network = random_weights(self._network(scale).to(place)).to(DTYPES[precision])
        picture = torch.rand(1, 3, side, side, device=place, dtype=DTYPES[precision])
        pictures = torch.rand(rows, side, side, 3, device=place)

        def make() -> Any:
            fast = accelerated_upscaler(network, self.kind, backend, side, side, precision)
            return _Enlarger(fast)

        with torch.inference_mode():
            cost = count(lambda: network(picture), [network])
        facts = {"model": f"{self.kind} x{self.scale}", "size": f"{side}x{side} -> {side * self.scale}"}
        return _prepared(make, "enlarge", pictures, cost, {**facts, **_facts(rows, precision)})

    def _network(self, scale: Scale) -> nn.Module:
        (width, convolutions), (features, inner) = scale.upscaler
        if self.kind == "srvgg":
            return SrvggNet(width, convolutions, self.scale)
        return Fsrcnn(features, inner, 4, self.scale)


class _Enlarger:
    def __init__(self, model: Any) -> None:
        self.runner = model.runner
        self._model = model

    def enlarge(self, pictures: Tensor) -> Tensor:
        larger: Tensor = self._model(pictures.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
        return larger


def _facts(rows: int, precision: str) -> dict[str, Any]:
    return {"weights": "random", "rows": rows, "precision": precision}


def _prepared(make: Callable[[], Any], method: str, pictures: Tensor, cost: Any, facts: dict[str, Any]) -> Prepared:
    began = time.perf_counter()
    made = make()
    cold_s = time.perf_counter() - began
    began = time.perf_counter()
    make().runner.close()
    cached_s = time.perf_counter() - began

    @torch.inference_mode()
    def tick(given: Tensor) -> Tensor:
        result: Tensor = getattr(made, method)(given)
        return result

    def stage(stages: Stages) -> None:
        stages.on(made, method, "before and after")
        stages.on(made.runner, "enqueue", "model")

    def proof() -> dict[str, Any]:
        places = backends_of([made.runner])
        engines = {one.digest[:16]: one.meta.get("label", "") for one in EngineCache().entries()}
        return {"networks": places, "graph": any("CUDA graph" in one for one in places), "engines": engines}

    return Prepared(tick, pictures, cost, cold_s, cached_s, facts, proof, stage, close=made.runner.close)
