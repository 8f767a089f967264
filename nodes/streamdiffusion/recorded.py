"""A tick as one launch: encoder, stream batch, ControlNets, UNet and decoder, and all that is done between them.

A recording remembers addresses and nothing of the host, so all that may change from tick to tick is in tensors that
stay: the picture, the numbers of the steps and of the guidance, the noise, and the inputs of the networks. They are
written before the launch, and only when they changed. What cannot change that way is the layout (`TickShape`), which
has a recording of its own.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from comfystream.accel.runner import memory_trouble
from comfystream.errors import EngineError
from comfystream.node_progress import report

from .bound import BoundNetworks
from .conditioning import Rows
from .control import ActiveControl
from .core import Guidance, StreamBatch
from .core.batch import Tables
from .core.guidance import GuidanceMode
from .layout import Layout, TickShape
from .model import StreamModel

__all__ = ["RecordedTick"]

log = logging.getLogger(__name__)


class RecordedTick:
    """The tick of one layout, recorded. Making it runs it some times, on buffers that nobody else has.

    Args:
        model: whose networks.
        networks: bound for this layout alone.
        layout: what they run.
        shape: the rest of the tick.

    Attributes:
        picture: [frames, 3, height, width] of 0..1, what the next launch takes; to be written before.
        batch: the frames on their way; its layout is fixed.
        why_not: empty when a tick is one launch, else why its parts are launched one by one.

    Raises:
        EngineError: the device is full, or what the backend runs cannot be recorded.
    """

    def __init__(self, model: StreamModel, networks: BoundNetworks, layout: Layout, shape: TickShape) -> None:
        self._model, self._networks = model, networks
        self._nets, self._rows = layout.controls, layout.rows[0]
        width, height = layout.size
        shrink, frames = model.autoencoder.shrink, layout.frames
        with memory_trouble(model.name):
            self.picture = torch.zeros((frames, 3, height, width), device=model.device, dtype=model.dtype)
            latent = (model.latent_channels, height // shrink, width // shrink)
            noise = self.picture.new_zeros((shape.slots, *latent))
            guidance = Guidance(shape.mode, 1.0 if shape.mode is GuidanceMode.NONE else 2.0, 1.0)
            is_velocity = model.predicts_velocity
            tables = Tables.blank(shape.slots, frames, guidance, noise, shape.adds_noise, is_velocity)
            self.batch = StreamBatch(tables, noise, is_fixed=True)
            self._blank = self.picture.new_zeros((frames, *latent)) if shape.is_from_noise else None
            self._made = torch.zeros_like(self.picture)
            self.why_not = ""
            self._replay = self._run
            self._record()
        self.batch.reset()
        if not self.why_not:
            rows, slots = self._rows, shape.slots
            log.info("%s: %d steps, %d rows, %dx%d: a tick is one launch", model.name, slots, rows, width, height)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of a latent."""
        return tuple(self.batch.shape)

    def tell(self, tables: Tables, told: Rows, controls: list[ActiveControl], scales: Tensor | None) -> None:
        """What the next launches use.

        Args:
            tables: the steps; another object whenever its values are others. The batch has to know them, too.
            told: what each row is told; another object whenever it is changed.
            controls: one for each ControlNet of the layout, in its order.
            scales: [layers], strength of the picture prompt; another object whenever its values are others.
        """
        self._networks.tell(self._rows, tables.model_times, told, controls, scales)

    def tick(self) -> Tensor:
        """One launch, more where the first picture has to fill all slots.

        Returns:
            [frames, 3, height, width] of 0..1, in memory of its own: what the allocator gives again only when nobody
            holds it any more.
        """
        while not self.batch.is_filled:
            self._launch()
        self._launch()
        return self._made.clone()

    def _launch(self) -> None:
        self._replay()
        self.batch.advance()

    def _record(self) -> None:
        acceleration = self._model.acceleration
        assert acceleration is not None
        capture = acceleration.capture
        assert capture is not None
        try:
            self._replay = capture(self._run)
        except EngineError as error:
            if error.code != "not_capturable" or acceleration.records_networks:
                raise
            self.why_not = error.message
            log.warning("a tick of %s is not one launch: %s", self._model.name, error.message)
            report(f"a tick is not one launch: {error.message}")

    def _run(self) -> None:
        """What is recorded: reads and writes tensors that stay, and nothing else that may ever change."""
        latent = self._blank if self._blank is not None else self._networks.encode(self.picture)
        made = self._networks.decode(self.batch.run(latent, self._denoise))
        self._made.copy_((made / 2 + 0.5).clamp_(0, 1))

    def _denoise(self, x: Tensor, times: Tensor) -> Tensor:
        return self._networks.run(x, self._nets)
