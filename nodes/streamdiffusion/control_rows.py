"""Control pictures of the frames on their way: each frame keeps its own until it comes out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .control import ActiveControl, Control
from .core.transfer import brought
from .preprocess import constant, draw

__all__ = ["ControlRows"]


class ControlRows:
    """One buffer [slots * frames, 3, height, width] per ControlNet in use. Used by one thread."""

    def __init__(self) -> None:
        self._rows: dict[int, Tensor] = {}
        self._controls: tuple[Control, ...] = ()
        self._frames = 1

    def push(
        self,
        controls: tuple[Control, ...],
        picture: Tensor,
        slots: int,
        frames: int,
        last_output: Tensor | None,
        keeps_idle: bool = False,
    ) -> None:
        """A group of frames comes in: draw its control pictures, and move those of the others one slot on.

        Args:
            controls: what is in use for this tick.
            picture: the frames, [F, 3, height, width] of 0..1.
            slots: how many steps.
            frames: F.
            last_output: what the stream put out last.
            keeps_idle: whether those of strength 0 are run, too.
        """
        self._controls = tuple(control for control in controls if control.scale > 0 or keeps_idle)
        self._frames = frames
        before, self._rows = self._rows, {}
        for control in self._controls:
            key = id(control.model)
            drawn = self._drawn(control, picture, last_output)
            self._rows[key] = self._moved(before.get(key), drawn, slots, frames)

    @staticmethod
    def _drawn(control: Control, picture: Tensor, last_output: Tensor | None) -> Tensor:
        if control.picture is None:
            return draw(control.preprocessor, picture, control.parameters, last_output)
        given = brought(control.picture[..., :3], picture.device, picture.dtype).movedim(-1, 1)
        if given.shape[-2:] != picture.shape[-2:]:
            given = interpolate(given, picture.shape[-2:], mode="bilinear", antialias=True)
        return given if len(given) == len(picture) else given[:1]

    @staticmethod
    def _moved(rows: Tensor | None, drawn: Tensor, slots: int, frames: int) -> Tensor:
        if rows is None or rows.shape[1:] != drawn.shape[1:] or len(rows) % frames:
            fresh = drawn.new_empty((slots, frames, *drawn.shape[1:]))
            return fresh.copy_(drawn).flatten(0, 1)
        if len(rows) != slots * frames:  # the same way as the stream batch lays its slots out anew
            sources = [min(slot, len(rows) // frames - 1) for slot in range(slots)]
            rows = torch.cat([rows[source * frames : (source + 1) * frames] for source in sources])
        for slot in range(slots - 1, 0, -1):
            rows[slot * frames : (slot + 1) * frames].copy_(rows[(slot - 1) * frames : slot * frames])
        rows[:frames].copy_(drawn)
        return rows

    def active(self, front: int, needed: int) -> list[ActiveControl]:
        """What is in use, for `front` unguided rows and `needed` guided ones behind them."""
        found = []
        for control in self._controls:
            rows = self._rows[id(control.model)]
            shown = rows if len(rows) == needed else rows[:needed]
            strength = constant((control.scale,), shown.device, shown.dtype)
            found.append((control.model, torch.cat([shown[:front], shown]) if front else shown, strength))
        return found
