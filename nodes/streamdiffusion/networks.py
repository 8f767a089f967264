"""How a stream calls the networks of its model: as they are, or by the runners of a backend."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from comfystream.accel.runner import Runner
from comfystream.errors import EngineError
from comfystream.gpu_turns import device_wide

from .bound import Bound, BoundNetworks
from .conditioning import Rows
from .control import ActiveControl, residuals
from .layout import Layout, Shapes
from .model import StreamModel
from .ready import made_ready
from .recorded import RecordedTick
from .shelf import BoundRunner

__all__ = ["Networks", "RunnerNetworks", "TorchNetworks", "networks_of"]

KEPT_LAYOUTS = 4


class Networks(Protocol):
    """The networks of one stream. `prepare` may be called by another thread than the rest."""

    keeps_idle_controls: bool
    """Whether a ControlNet of strength 0 stays in the layout, so that nothing is made anew when it comes back."""

    recorded: RecordedTick | None
    """The tick of the layout in use, where it is recorded as a whole: then nothing else is called but that."""

    def is_ready(self, layout: Layout) -> bool:
        """Whether a tick with this layout makes nothing that takes long."""

    def prepare(self, layout: Layout) -> None:
        """Do all that takes long."""

    def use(self, layout: Layout) -> None:
        """What the next calls are in."""

    def close(self) -> None:
        """Let go of all buffers."""

    def encode(self, picture: Tensor) -> Tensor:
        """[frames, 3, height, width] of 0..1 to latents, which hold until the next call."""

    def decode(self, latent: Tensor) -> Tensor:
        """Latents to pictures of about -1..1, which hold until the next call."""

    def predict(
        self, x: Tensor, times: Tensor, told: Rows, controls: Sequence[ActiveControl], scales: Tensor | None
    ) -> Tensor:
        """What the UNet says of [rows, channels, h, w]; holds until the next call.

        Args:
            x: the rows.
            times: [rows]; another object whenever its values are others.
            told: what each row is told; another object whenever it is changed.
            controls: the ControlNets in use.
            scales: [layers], strength of the picture prompt; another object whenever its values are others.
        """


def networks_of(model: StreamModel) -> Networks:
    """As the model says."""
    return TorchNetworks(model) if model.acceleration is None else RunnerNetworks(model)


class TorchNetworks:
    """The networks as they are."""

    keeps_idle_controls = False
    recorded: RecordedTick | None = None

    def __init__(self, model: StreamModel) -> None:
        self._model = model
        self._is_placed = model.is_placed

    def is_ready(self, layout: Layout) -> bool:
        return self._is_placed

    def prepare(self, layout: Layout) -> None:
        """Bring the UNet to the device.

        Raises:
            EngineError: the device is full.
        """
        if not self._is_placed:
            self._model.place()
            _wait_for(self._model.device)
            self._is_placed = True

    def use(self, layout: Layout) -> None:
        self.prepare(layout)

    def close(self) -> None:
        pass

    def encode(self, picture: Tensor) -> Tensor:
        return self._model.autoencoder.encode(picture * 2 - 1)

    def decode(self, latent: Tensor) -> Tensor:
        return self._model.autoencoder.decode(latent)

    def predict(
        self, x: Tensor, times: Tensor, told: Rows, controls: Sequence[ActiveControl], scales: Tensor | None
    ) -> Tensor:
        adapter = self._model.image_prompt
        if adapter is not None and scales is not None:
            adapter.scales.copy_(scales)  # streams that share a model set it in turn
        active = [(net.module, pictures, scale) for net, pictures, scale in controls]
        down, middle = residuals(active, x, times, told.tokens[:, : told.text_tokens], told.added)
        predicted: Tensor = self._model.unet(
            x,
            times,
            encoder_hidden_states=told.tokens,
            timestep_cond=told.scale,
            added_cond_kwargs=told.added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return predicted


def _wait_for(device: torch.device) -> None:
    """All of it is done before another thread goes on with it."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


class RunnerNetworks:
    """Runners of the model's backend, with buffers that belong to this stream.

    A tick only copies what is new into them. What was bound for the last layouts stays, so that nothing is recorded
    anew on the way back; what is recorded with buffers goes with them.
    """

    keeps_idle_controls = True

    def __init__(self, model: StreamModel) -> None:
        assert model.acceleration is not None
        self._model, self._acceleration = model, model.acceleration
        self._making = threading.Lock()
        self._lock = threading.Lock()  # never held while something is made
        self._bound: dict[tuple[Hashable, ...], BoundRunner] = {}
        self._layouts: dict[Layout, BoundNetworks] = {}
        self._recorded: dict[Layout, RecordedTick] = {}
        self.calls = BoundNetworks(model, {})
        self.recorded: RecordedTick | None = None

    @property
    def _used(self) -> Bound:
        return self.calls.bound

    def is_ready(self, layout: Layout) -> bool:
        if layout in self._layouts:
            return True
        if self._making.locked():  # another thread makes something, which may take long
            return False
        networks = layout.networks(self._model, self._acceleration)
        has_all = all(one.shelf.get(one.key) is not None for one in networks)
        is_quick = has_all or (not self._acceleration.has_engines and self._model.is_placed)
        return self._acceleration.binds_quickly and is_quick

    def prepare(self, layout: Layout) -> None:
        """Make and bind what this layout runs, and record its tick.

        Raises:
            ConfigError, EngineError, AssetError: as `made_ready`; what the stream runs stays.
        """
        if layout in self._layouts:
            return
        with self._making:
            if layout not in self._layouts:
                self._prepare(layout)

    def _prepare(self, layout: Layout) -> None:
        bound: Bound = {}
        recorded = None
        try:
            for role, (runner, network) in made_ready(self._model, layout).items():
                bound[role] = [self._bind(runner, shapes, layout) for shapes in network.shapes]
            calls = BoundNetworks(self._model, bound)
            if layout.tick is not None:
                recorded = RecordedTick(self._model, calls, layout, layout.tick)
        except EngineError:
            self._forget_others()
            raise
        _wait_for(self._model.device)
        with self._lock:
            if recorded is not None:
                self._recorded[layout] = recorded
            self._layouts[layout] = calls
        if len(self._layouts) > KEPT_LAYOUTS:
            self._forget_others(bound)

    def _bind(self, prototype: Runner, shapes: Shapes, layout: Layout) -> BoundRunner:
        """A tick that is recorded as a whole has runners of its own: it is tried out while another one runs."""
        is_whole = layout.tick is not None
        key = (layout if is_whole else None, prototype, *sorted(shapes.items()))
        found = self._bound.get(key)
        if found is None:
            twin = (prototype.unrecorded() if is_whole else prototype).twin()
            try:
                twin.bind(shapes)
            except EngineError:
                twin.close()
                raise
            found = self._bound[key] = BoundRunner(twin)
        return found

    def _forget_others(self, *more: Bound) -> None:
        """Let go of all buffers but those in use, and these."""
        with self._lock:
            kept = (self._used, *more)
            self._layouts = {
                layout: calls for layout, calls in self._layouts.items() if any(calls.bound is one for one in kept)
            }
            self._recorded = {layout: one for layout, one in self._recorded.items() if layout in self._layouts}
            in_use = {id(one) for bound in kept for row in bound.values() for one in row}
            gone = [one for one in self._bound.values() if id(one) not in in_use]
            self._bound = {key: one for key, one in self._bound.items() if id(one) in in_use}
        for one in gone:
            one.runner.close()
        if self._model.device.type == "cuda":
            with device_wide():
                torch.cuda.empty_cache()

    def use(self, layout: Layout) -> None:
        self.prepare(layout)  # it is ready, unless another thread has just had to make room
        with self._lock:
            self.calls = self._layouts.get(layout, self.calls)
            self.recorded = self._recorded.get(layout)

    def close(self) -> None:
        self.calls, self.recorded = BoundNetworks(self._model, {}), None
        self._forget_others()

    def encode(self, picture: Tensor) -> Tensor:
        return self.calls.encode(picture)

    def decode(self, latent: Tensor) -> Tensor:
        return self.calls.decode(latent)

    def predict(
        self, x: Tensor, times: Tensor, told: Rows, controls: Sequence[ActiveControl], scales: Tensor | None
    ) -> Tensor:
        return self.calls.predict(x, times, told, controls, scales)
