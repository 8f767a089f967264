"""What a model takes and gives: names, element types, and shapes that are fixed or have a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from comfystream.errors import EngineError

__all__ = ["PRECISIONS", "Axis", "ModelSpec", "Point", "Shape", "TensorSpec"]

Shape = tuple[int, ...]
Point = Literal["min", "opt", "max"]

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Axis:
    """A size that may vary. Axes of the same name have the same size in all inputs of a model.

    Args:
        name: such as "batch", "height".
        min: smallest size.
        opt: the size that an engine is tuned for.
        max: largest size.
        step: sizes are multiples of this: a UNet that halves its picture three times needs 8.

    Raises:
        EngineError: not min <= opt <= max, or one of them is no multiple of the step.
    """

    name: str
    min: int
    opt: int
    max: int
    step: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise EngineError(
                f"{self.name}: {self.min}..{self.max} with {self.opt} in between is no range", code="bad_profile"
            )
        if any(size % self.step for size in (self.min, self.opt, self.max)):
            raise EngineError(
                f"{self.name}: {self.min}, {self.opt} and {self.max} have to be multiples of {self.step}",
                code="bad_profile",
            )

    def allows(self, size: int) -> bool:
        """Whether an engine with this axis takes this size."""
        return self.min <= size <= self.max and size % self.step == 0

    def __str__(self) -> str:
        steps = f" in steps of {self.step}" if self.step > 1 else ""
        return f"{self.min}..{self.max}{steps}"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input: its name in the graph, its element type as torch calls it, and its shape."""

    name: str
    dtype: str
    shape: tuple[int | Axis, ...]

    @property
    def is_dynamic(self) -> bool:
        """Whether any size may vary."""
        return any(isinstance(size, Axis) for size in self.shape)

    def at(self, point: Point) -> Shape:
        """The shape at one end of its range, or where it is best."""
        return tuple(int(getattr(size, point)) if isinstance(size, Axis) else size for size in self.shape)

    def check(self, shape: Sequence[int], model: str) -> None:
        """Refuse a shape that the model was not made for.

        Raises:
            EngineError: with the model, the input, what came and what is taken.
        """
        fits = len(shape) == len(self.shape) and all(
            wanted.allows(size) if isinstance(wanted, Axis) else wanted == size
            for wanted, size in zip(self.shape, shape, strict=True)
        )
        if not fits:
            raise EngineError(
                f"{model}: input {self.name} is {list(shape)}, but it was made for {self}",
                code="bad_shape",
                hint="use a size that it takes, or build an engine for this one",
            )

    def __str__(self) -> str:
        return f"[{', '.join(str(size) for size in self.shape)}]"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model from the outside.

    Args:
        name: for people and for file names: "unet", "taesd_decoder".
        inputs: in the order of the module's arguments.
        outputs: names, in the order of what the module returns.
        precision: of its weights: fp32, fp16 or bf16.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    precision: str = "fp32"

    @property
    def is_dynamic(self) -> bool:
        """Whether any input may vary in size."""
        return any(one.is_dynamic for one in self.inputs)

    def input(self, name: str) -> TensorSpec:
        """An input by its name.

        Raises:
            EngineError: there is none.
        """
        for one in self.inputs:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.inputs)
        raise EngineError(f"{self.name} has no input {name}", code="bad_input", hint=f"it has {known}")

    def shapes(self, point: Point = "opt") -> dict[str, Shape]:
        """All inputs at one point of their ranges."""
        return {one.name: one.at(point) for one in self.inputs}

    def check(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Refuse shapes that do not fit, alone or together.

        Raises:
            EngineError: an input is missing, too much, or of another shape; or two inputs disagree about an axis.
        """
        for name in shapes:
            self.input(name)
        sizes: dict[str, tuple[int, str]] = {}
        for one in self.inputs:
            if one.name not in shapes:
                raise EngineError(f"{self.name}: input {one.name} is missing", code="bad_input")
            one.check(shapes[one.name], self.name)
            for axis, size in zip(one.shape, shapes[one.name], strict=True):
                if not isinstance(axis, Axis):
                    continue
                before, where = sizes.setdefault(axis.name, (size, one.name))
                if before != size:
                    raise EngineError(
                        f"{self.name}: {axis.name} is {before} in input {where} and {size} in {one.name}",
                        code="bad_shape",
                    )

    def renamed(self, names: Mapping[str, str]) -> ModelSpec:
        """The same with other names of inputs and outputs; those that are not given stay."""
        inputs = tuple(replace(one, name=names.get(one.name, one.name)) for one in self.inputs)
        return replace(self, inputs=inputs, outputs=tuple(names.get(name, name) for name in self.outputs))

    def to_json(self) -> dict[str, Any]:
        """For the key and the notes of an engine."""
        return {
            "name": self.name,
            "precision": self.precision,
            "outputs": list(self.outputs),
            "inputs": [
                {"name": one.name, "dtype": one.dtype, "shape": [_axis_to_json(size) for size in one.shape]}
                for one in self.inputs
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ModelSpec:
        """What `to_json` wrote."""
        inputs = tuple(
            TensorSpec(
                one["name"], one["dtype"], tuple(Axis(**a) if isinstance(a, dict) else int(a) for a in one["shape"])
            )
            for one in document["inputs"]
        )
        return cls(document["name"], inputs, tuple(document["outputs"]), document["precision"])


def _axis_to_json(size: int | Axis) -> Any:
    if isinstance(size, int):
        return size
    return {"name": size.name, "min": size.min, "opt": size.opt, "max": size.max, "step": size.step}
