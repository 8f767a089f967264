"""Which backend runs a model's networks. One that is asked for by name and does not work raises; nothing falls back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from comfystream.accel.accelerate import How
from comfystream.accel.backend import Backend, Capture
from comfystream.accel.model_specs import SCALE
from comfystream.accel.registry import Choice, choose
from comfystream.accel.spec import PRECISIONS
from comfystream.errors import ConfigError
from comfystream.node_progress import report

if TYPE_CHECKING:
    from .model import StreamModel

__all__ = ["ACCELERATIONS", "Acceleration", "accelerated"]

PLAIN = ("none", "xformers")  # "xformers" asks for fused attention, which torch has by itself
ACCELERATIONS = ("none", "auto", "eager", "cuda-graph", "inductor", "tensorrt", "tensorrt-rtx", "onnxruntime")
FEWEST_MOST_ROWS = 4
CAPTURES = ("cuda-graph", "inductor")


@dataclass(frozen=True, slots=True)
class Acceleration:
    """How the networks of a model are run.

    Attributes:
        choice: the backend, and why it is this one.
        how: device, cache of engines, options of the build.
        precision: of the networks: fp32, fp16 or bf16.
        max_rows: most rows of the UNet; 0 is what the first stream needs, and at least 4.
        min_rows: fewest rows; the same as `max_rows` makes engines of one shape, which are fastest.
        sizes: (smallest, largest) side of the pictures that engines take, in pixels; None is the size of the first one.
        takes_controls: whether the UNet is made for ControlNets before there is one.
    """

    choice: Choice
    how: How = field(default_factory=How)
    precision: str = "fp32"
    max_rows: int = 0
    min_rows: int = 1
    sizes: tuple[int, int] | None = None
    takes_controls: bool = False

    @property
    def backend(self) -> str:
        """Its name."""
        return self.choice.backend.name

    @property
    def has_engines(self) -> bool:
        """Whether something is built that may take minutes."""
        has_plan = bool(self.choice.backend.plan_name)
        return has_plan and (self.backend != "inductor" or self.how.keeps_engine)

    @property
    def records_networks(self) -> bool:
        """Whether the backend runs nothing but what it can record."""
        return self.backend in CAPTURES

    @property
    def capture(self) -> Capture | None:
        """Records a whole tick as one launch; None where that cannot be."""
        return self.choice.backend.tick_capture(self.how.device)

    @property
    def binds_quickly(self) -> bool:
        """Whether other shapes within the ranges may be bound in a live tick."""
        return not self.records_networks and self.capture is None

    def rows_up_to(self, rows: int, most: int = 0) -> int:
        """The most rows of the networks for a stream that uses `rows`.

        Args:
            rows: of this stream.
            most: what the networks that are there were made for; 0 when there are none.

        Raises:
            ConfigError: more than that.
        """
        limit = self.max_rows or most or max(rows, FEWEST_MOST_ROWS)
        if rows > limit:
            raise ConfigError(
                f"these settings need {rows} rows, but the model is accelerated ({self.backend}) for up to {limit}",
                code="too_many_rows",
                hint="use fewer steps, a smaller frame_buffer_size or a cfg_type of fewer rows, or raise max_rows",
            )
        return limit


def accelerated(
    model: StreamModel,
    name: str,
    *,
    max_rows: int = 0,
    min_rows: int = 1,
    sizes: tuple[int, int] | None = None,
    precision: str = "auto",
    takes_controls: bool = False,
    how: How | None = None,
    known: Mapping[str, Backend] | None = None,
) -> StreamModel:
    """The model as a backend runs it. Engines are built when a stream is prepared, for the shapes that it uses.

    Args:
        model: LoRAs and an IP-Adapter may still be added to the result.
        name: none, auto, or a backend; see `ACCELERATIONS`.
        max_rows: most rows of the UNet (steps, frames and guidance); 0 is what the first stream needs, and at least 4.
        min_rows: fewest rows.
        sizes: (smallest, largest) side of pictures, multiples of 64; None is the size of the first one.
        precision: fp32, fp16, bf16, or "auto" for the model's own.
        takes_controls: makes the UNet ready for ControlNets that come in later.
        how: cache and options of the build; backend and device in it are not used.
        known: backends to choose from; all by default.

    Raises:
        EngineError: there is no such backend, or it does not work here; nothing else is taken in its place.
        ConfigError: numbers out of range.
    """
    if model.autoencoder.shrink != SCALE and name not in PLAIN:
        raise ConfigError(
            f"the autoencoder of {model.name} makes pictures {model.autoencoder.shrink} times smaller, not {SCALE}",
            hint="set acceleration to none for it",
        )
    if name in PLAIN:
        return model.with_parts(acceleration=None)
    _check(max_rows, min_rows, sizes, precision)
    choice = choose(name, has_gpu=model.device.type == "cuda", known=known)
    if name == "auto":
        report(choice.reason)
    device = "cpu" if choice.backend.name == "onnxruntime" else str(model.device)
    own = {str(dtype): short for short, dtype in PRECISIONS.items()}[str(model.dtype).removeprefix("torch.")]
    made = Acceleration(
        choice,
        replace(how or How(), backend=choice.backend.name, device=device),
        own if precision == "auto" else precision,
        max_rows,
        min_rows,
        sizes,
        takes_controls,
    )
    return model.with_parts(acceleration=made)


def _check(max_rows: int, min_rows: int, sizes: tuple[int, int] | None, precision: Any) -> None:
    if precision != "auto" and precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r} is unknown", hint=f"use auto, {', '.join(PRECISIONS)}")
    if max_rows < 0 or min_rows < 1 or (max_rows and min_rows > max_rows):
        raise ConfigError(f"{min_rows} to {max_rows} rows is no range", hint="max_rows is 0 (automatic), 1 or more")
    if sizes is not None and not (64 <= sizes[0] <= sizes[1] <= 2048 and not any(side % 64 for side in sizes)):
        raise ConfigError(
            f"sizes from {sizes[0]} to {sizes[1]} are no range", hint="multiples of 64, the smaller one first"
        )
