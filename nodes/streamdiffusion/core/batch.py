"""The stream batch: every tick, one model call takes as many frames as there are steps, each one step further.

"StreamDiffusion" (arXiv 2312.12491), section 3.1. Slot k holds the frame of k ticks ago at the noise level of step k:
a frame comes out after as many ticks as there are steps.

What is kept from tick to tick are the predictions x0 of every slot, not noisy latents: noise is put onto them at the
beginning of the next tick, with the tables and the noise of then. So other steps, another seed or another number of
steps hold from the next tick on, for the frames that are on their way, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .guidance import Guidance, GuidanceMode
from .schedule import SlotTables
from .transfer import brought

__all__ = ["Denoise", "StreamBatch", "Tables"]

# (x [rows, channels, h, w], timesteps [rows]) -> predicted noise or velocity of the same shape; `Guidance` lays the
# rows out, `Tables` says which it is
Denoise = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Tables:
    """What the steps of a stream are, on its device; replaced as a whole, never changed.

    Attributes:
        slots: how many steps, n.
        frames: rows per slot, F.
        guidance: how predictions are guided.
        values: per row of the n * F.
        model_times: timesteps of all rows that the model runs.
        next_ratio: alpha of the next slot by sigma of the next slot, for the rows of all slots but the last.
        adds_noise: whether noise is put on between steps.
        predicts_velocity: whether the model predicts v = alpha * noise - sigma * x0 rather than the noise.
    """

    slots: int
    frames: int
    guidance: Guidance
    values: SlotTables
    model_times: Tensor
    next_ratio: Tensor
    adds_noise: bool = True
    predicts_velocity: bool = False

    @staticmethod
    def make(
        values: SlotTables,
        frames: int,
        guidance: Guidance,
        device: torch.device | str = "cpu",
        adds_noise: bool = True,
        predicts_velocity: bool = False,
    ) -> Tables:
        """Lay the numbers of the steps out for a guidance, and bring them to the device."""
        slots = len(values.timesteps) // frames
        front = guidance.unguided_rows(slots, frames)
        times = torch.cat([values.timesteps[:front], values.timesteps])
        ratio = values.alpha[frames:] / values.sigma[frames:]
        moved = SlotTables(*(brought(getattr(values, name), device) for name in SlotTables.__slots__))
        there = brought(times, device), brought(ratio, device)
        return Tables(slots, frames, guidance, moved, *there, adds_noise, predicts_velocity)

    @staticmethod
    def blank(
        slots: int,
        frames: int,
        guidance: Guidance,
        like: Tensor,
        adds_noise: bool = True,
        predicts_velocity: bool = False,
    ) -> Tables:
        """Tables of a layout whose numbers are not known yet: where and in what precision `like` is."""
        ones = like.new_ones((slots * frames, 1, 1, 1))
        times = torch.zeros(slots * frames, dtype=torch.int64)
        values = SlotTables(times, ones, ones, ones, ones)
        return Tables.make(values, frames, guidance, like.device, adds_noise, predicts_velocity)

    @property
    def keeps_velocity(self) -> bool:
        """Whether guided predictions are velocities: the stock noise is noise, and so is what it guides."""
        return self.predicts_velocity and self.guidance.active in (GuidanceMode.NONE, GuidanceMode.FULL)

    def copied(self, into: Tables | None = None) -> Tables:
        """The same in tensors of its own, or in those of other tables of this layout."""
        theirs = self._tensors()
        own = [one.clone() for one in theirs] if into is None else into._tensors()
        if into is not None:
            for target, source in zip(own, theirs, strict=True):
                target.copy_(source)
        *values, times, ratio = own
        return replace(self, values=SlotTables(*values), model_times=times, next_ratio=ratio)

    def _tensors(self) -> list[Tensor]:
        return [*(getattr(self.values, name) for name in SlotTables.__slots__), self.model_times, self.next_ratio]


class StreamBatch:
    """State of one stream. Used by one thread; nothing in `tick` waits for the device.

    All that `run` reads is in tensors that keep their place: the numbers of the steps, scale and delta of the guidance,
    the noise. `change` writes into them, so a recorded `run` hears of it, as long as the layout is the same: slots,
    frames, mode of guidance, size.

    Args:
        tables: the steps to begin with.
        noise: [n, channels, height, width]; the frames of a slot share it.
        is_fixed: the layout stays what it is.
    """

    def __init__(self, tables: Tables, noise: Tensor, is_fixed: bool = False) -> None:
        self.is_fixed = is_fixed
        self._ticks = 0
        self._allocate(tables, noise)

    @property
    def tables(self) -> Tables:
        """The steps in force, as they were given."""
        return self._given

    @property
    def shape(self) -> torch.Size:
        """(channels, height, width) of a frame."""
        return self._x0.shape[1:]

    @property
    def delay_ticks(self) -> int:
        """A frame comes out with the call that is so many after its own."""
        return self._tables.slots - 1

    @property
    def is_warm(self) -> bool:
        """Whether what comes out was a frame that went in."""
        return self._ticks >= self._tables.slots

    @property
    def is_filled(self) -> bool:
        """Whether the next tick gives what was a frame that went in."""
        return self._ticks >= self._tables.slots - 1

    def _allocate(self, tables: Tables, noise: Tensor) -> None:
        self._given, self._tables = tables, tables.copied()
        self._scale = noise.new_full((), tables.guidance.scale)
        self._delta = noise.new_full((), tables.guidance.delta)
        rows, front = tables.slots * tables.frames, tables.guidance.unguided_rows(tables.slots, tables.frames)
        self._noise = noise.repeat_interleave(tables.frames, dim=0)
        self._model_in = noise.new_zeros((front + rows, *noise.shape[1:]))
        self._x = self._model_in[front:]
        self._x0 = noise.new_zeros((rows, *noise.shape[1:]))
        self._stock = self._noise.clone()
        self._guided = torch.empty_like(self._x0)
        self._drift = torch.empty_like(self._x0)
        self._scaled = torch.empty_like(self._x0)
        self._noised = torch.empty_like(self._model_in)

    def change(self, tables: Tables | None = None, noise: Tensor | None = None) -> None:
        """Use other steps or other noise from the next tick on. Frames on their way keep their place.

        Slot k goes on holding the frame of k ticks ago. Where there are more slots than before, the oldest frame is
        repeated until the next ones arrive; where there are fewer, the oldest ones are left out.

        Args:
            tables: other steps, another guidance.
            noise: [n, channels, height, width]; needed when there are more slots or another size.

        Raises:
            ValueError: the noise is of another number of slots, or the layout is fixed and this is another one.
        """
        tables = tables or self._given
        if noise is None:
            noise = self._noise[:: self._tables.frames][: tables.slots]
        if len(noise) != tables.slots:
            raise ValueError(f"noise of {len(noise)} slots does not fit {tables.slots} steps")
        if self._fits(tables, noise):
            self._set(tables, noise)
            return
        if self.is_fixed:
            raise ValueError("this batch keeps its layout")
        before, x0, ticks = self._given, self._x0, self._ticks
        self._allocate(tables, noise)
        self._go_on(before, x0, ticks)

    def continue_from(self, other: StreamBatch) -> None:
        """Take over the frames that are on their way in another batch, by the rule of `change`."""
        self.reset()
        self._go_on(other._given, other._x0, other._ticks)

    def _fits(self, tables: Tables, noise: Tensor) -> bool:
        return self._layout(tables) == self._layout(self._given) and noise.shape[1:] == self._x0.shape[1:]

    def _layout(self, tables: Tables) -> tuple[object, ...]:
        """What cannot change in place; whether noise is put on between steps is part of a recording only."""
        return tables.slots, tables.frames, tables.guidance.active, tables.adds_noise or not self.is_fixed

    def _set(self, tables: Tables, noise: Tensor) -> None:
        if tables is not self._given:
            self._given, self._tables = tables, tables.copied(self._tables)
            self._scale.fill_(tables.guidance.scale)
            self._delta.fill_(tables.guidance.delta)
        self._noise.copy_(noise.repeat_interleave(tables.frames, dim=0))

    def _go_on(self, before: Tables, x0: Tensor, ticks: int) -> None:
        slots, frames = self._tables.slots, self._tables.frames
        if frames != before.frames or x0.shape[1:] != self._x0.shape[1:]:
            self._ticks = 0
            return
        for slot in range(slots):
            source = min(slot, before.slots - 1)
            self._x0[slot * frames : (slot + 1) * frames] = x0[source * frames : (source + 1) * frames]
        self._ticks = slots if ticks >= before.slots else ticks

    def reset(self) -> None:
        """Forget all frames."""
        self._ticks = 0
        self._x0.zero_()
        self._stock.copy_(self._noise)

    def fill(self, latent: Tensor, denoise: Denoise) -> None:
        """Take one frame as if it had come in all ticks before, so that the first result is a picture."""
        while not self.is_filled:
            self.tick(latent, denoise)

    def tick(self, latent: Tensor, denoise: Denoise) -> Tensor:
        """One step for all frames on their way.

        Args:
            latent: the frames that come in, [F, channels, height, width].
            denoise: the model.

        Returns:
            What goes out, of the same shape; a view that holds until the next tick.
        """
        made = self.run(latent, denoise)
        self.advance()
        return made

    def advance(self) -> None:
        """Count a tick whose `run` was done, by itself or as a recording."""
        self._ticks += 1

    def run(self, latent: Tensor, denoise: Denoise) -> Tensor:
        """What the device does in a tick; see `tick`."""
        tables, frames = self._tables, self._tables.frames
        values, x, x0 = tables.values, self._x, self._x0
        if tables.slots > 1:  # slot k takes what slot k-1 predicted
            torch.mul(x0[:-frames], values.alpha[frames:], out=x[frames:])
            if tables.adds_noise:
                x[frames:].addcmul_(self._noise[frames:], values.sigma[frames:])
        torch.mul(latent, values.alpha[:frames], out=x[:frames])
        x[:frames].addcmul_(self._noise[:frames], values.sigma[:frames])
        predicted = self._guide(denoise)
        if tables.keeps_velocity:
            self._take_velocity(x, predicted, out=x0)
        else:
            self._predict(x, predicted, out=x0)
        if tables.guidance.active in (GuidanceMode.SELF, GuidanceMode.INITIALIZE):
            self._move_stock(predicted)
        return x0[-frames:]

    def _guide(self, denoise: Denoise) -> Tensor:
        """Predicted noise of all slots, or velocity where that stays."""
        tables = self._tables
        frames, rows, mode = tables.frames, len(self._x), tables.guidance.active
        if mode is GuidanceMode.NONE:
            return denoise(self._x, tables.model_times)
        front = len(self._model_in) - rows
        self._model_in[:front].copy_(self._x[:front])
        predicted = denoise(self._model_in, tables.model_times)
        if mode is GuidanceMode.FULL:
            return torch.lerp(predicted[:front], predicted[front:], self._scale, out=self._guided)
        if tables.predicts_velocity:
            predicted = self._as_noise(predicted, front)
        text = predicted[front:]
        self._stock[:frames].copy_(predicted[:front] if front else self._noise[:frames])
        torch.mul(self._stock, self._delta, out=self._drift)
        return torch.lerp(self._drift, text, self._scale, out=self._guided)

    def _as_noise(self, velocity: Tensor, front: int) -> Tensor:
        """The noise in what a model saw that predicts velocity: alpha v + sigma x, of unguided rows too."""
        values, seen = self._tables.values, self._model_in
        for rows, own in ((slice(front), slice(front)), (slice(front, None), slice(None))):
            torch.mul(velocity[rows], values.alpha[own], out=self._noised[rows])
            self._noised[rows].addcmul_(seen[rows], values.sigma[own])
        return self._noised

    def _take_velocity(self, x: Tensor, velocity: Tensor, out: Tensor) -> None:
        """x0 = c_out (alpha x - sigma v) + c_skip x; no division, so it holds where next to nothing of x0 is in x."""
        values = self._tables.values
        torch.mul(velocity, values.sigma, out=out)
        out.neg_().addcmul_(x, values.alpha).mul_(values.c_out).addcmul_(x, values.c_skip)

    def _predict(self, x: Tensor, predicted: Tensor, out: Tensor, rows: slice = slice(None)) -> Tensor:
        """x0 = c_out (x - sigma e) / alpha + c_skip x."""
        values = self._tables.values
        torch.mul(predicted, values.sigma[rows], out=out)
        torch.sub(x, out, out=out)
        out.div_(values.alpha[rows]).mul_(values.c_out[rows])
        return out.addcmul_(x, values.c_skip[rows])

    def _move_stock(self, predicted: Tensor) -> None:
        """The stock noise goes one slot on: the next slot's noise, and how far the prediction moved it."""
        frames = self._tables.frames
        if self._tables.slots == 1:
            return
        before = slice(0, len(self._stock) - frames)
        scaled, drift = self._scaled[before], self._drift[before]
        torch.mul(self._stock[before], self._tables.values.sigma[before], out=scaled)
        self._predict(scaled, predicted[before], out=drift, rows=before)
        drift.mul_(self._tables.next_ratio)
        torch.add(self._noise[frames:], drift, out=self._stock[frames:])
