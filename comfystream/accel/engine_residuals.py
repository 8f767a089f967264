"""What a ControlNet says, for the inputs of an engine: found in ComfyUI's lists by the names of these inputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from comfystream.errors import EngineError

from .spec import ModelSpec, Shape, TensorSpec

__all__ = ["EngineResiduals"]

NUMBERED = re.compile(r"(input|output|middle)_control_(\d+)")
Place = tuple[str, int]


class EngineResiduals:
    """The residual inputs of a UNet's engine.

    Two ways to name them are known: `input_control_00`..., `input_control_middle` for what is added to the skips (ours,
    and engines of StreamDiffusion), and `output_control_0`..., `middle_control_0`, `input_control_0`... (the engines of
    the TensorRT nodes that the first ComfyStream's image came with).

    Args:
        spec: of the engine.
        place: for messages.
    """

    def __init__(self, spec: ModelSpec, place: str) -> None:
        self._place = place
        self._latent = spec.inputs[0]
        found = _places([one.name for one in spec.inputs])
        self._inputs = [(one, found[one.name]) for one in spec.inputs if one.name in found]
        self._count = Counter(kind for _, (kind, _) in self._inputs)
        self._zeros: dict[tuple[str, Shape], Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self._inputs)

    def values(self, control: Mapping[str, Sequence[Tensor | None]] | None, x: Tensor) -> dict[str, Tensor]:
        """A value for every residual input.

        Args:
            control: lists of residuals by "output", "middle" and "input", the last one for what the UNet reads first,
                as ComfyUI hands them to its UNet; they are left as they are. None where there is no ControlNet.
            x: the latent, for rows and sizes.

        Raises:
            EngineError: there are residuals that this engine has no input for.
        """
        given = {kind: list(some) for kind, some in (control or {}).items() if some}
        for kind, some in given.items():
            if len(some) > self._count[kind] and any(one is not None for one in some):
                raise EngineError(
                    f"{self._place}: {len(some)} {kind} residuals of a ControlNet came, the engine takes "
                    f"{self._count[kind]}",
                    code="no_control",
                    hint="build the engine with `controlnet`, for this kind of model, or use the model itself",
                )
        return {one.name: self._value(one, given, *place, x) for one, place in self._inputs}

    def _value(
        self, one: TensorSpec, given: Mapping[str, Sequence[Tensor | None]], kind: str, number: int, x: Tensor
    ) -> Tensor:
        some = given.get(kind, ())
        at = len(some) - self._count[kind] + number
        value = some[at] if 0 <= at < len(some) else None
        if value is None:
            return self._zero(one, x)
        rows = len(x)
        return value if len(value) == rows else value.repeat(-(-rows // len(value)), 1, 1, 1)[:rows]

    def _zero(self, one: TensorSpec, x: Tensor) -> Tensor:
        channels, height, width = one.at("opt")[1:]
        latent = self._latent.at("opt")
        sides = (x.shape[2] * height // latent[2], x.shape[3] * width // latent[3])
        shape = (len(x), channels, *sides)
        if (one.name, shape) not in self._zeros:
            self._zeros[one.name, shape] = x.new_zeros(shape)
        return self._zeros[one.name, shape]


def _places(names: Sequence[str]) -> dict[str, Place]:
    numbered = {name: found for name in names if (found := NUMBERED.fullmatch(name))}
    if any(found[1] == "output" for found in numbered.values()):
        return {name: (found[1], int(found[2])) for name, found in numbered.items()}
    places: dict[str, Place] = {name: ("output", int(found[2])) for name, found in numbered.items()}
    return places | ({"input_control_middle": ("middle", 0)} if "input_control_middle" in names else {})
