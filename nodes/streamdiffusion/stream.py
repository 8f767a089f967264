"""One stream of frames through a model. Any thread may replace its settings; the next frame uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .beside import Beside
from .conditioning import Conditioning
from .control_rows import ControlRows
from .core import Glide, SimilarityFilter, StreamBatch, denoise_in_turn, mixed_noise
from .core.batch import Tables
from .core.transfer import brought
from .image_prompt import layer_weights
from .layout import Layout, TickShape
from .model import StreamModel
from .networks import networks_of
from .preprocess import pictures_of
from .recorded import RecordedTick
from .settings import StreamSettings

__all__ = ["Stream"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Settings, and what they ask of the networks."""

    settings: StreamSettings
    layout: Layout


class Stream:
    """Frames in, frames out. `process` is called by one thread at a time.

    The first frame makes the model's networks ready, which may build engines: call `prepare` before, where no frame
    waits. Later, settings that need something that takes long are made ready on another thread, and frames go on with
    the settings of before until then.

    Args:
        model: what makes the pictures.
        settings: to begin with. Replace the attribute to change something: the frame loop reads it once per frame, so
            it takes no lock and never sees half a change.

    Attributes:
        records_ticks: whether a tick is recorded as one launch, where the backend can.
        skipped: how many ticks gave an older picture.
    """

    is_from_noise = False
    """Whether frames begin as noise alone; the picture then says only the size."""

    def __init__(self, model: StreamModel, settings: StreamSettings) -> None:
        self.model = model
        self.settings = settings.checked()
        self._batch: StreamBatch | None = None
        self._tables_key: tuple[Any, ...] = ()
        self._noise_key: tuple[Any, ...] = ()
        self._noise = Glide()
        self._conditioning = Conditioning(model)
        self._controls = ControlRows()
        self._filter = SimilarityFilter()
        self._output: Tensor | None = None
        self._waiting: list[Tensor] = []
        self._ready: deque[Tensor] = deque()
        self._used_noise: Tensor | None = None
        self._used_settings: StreamSettings | None = None
        self._style_scales: tuple[Any, Tensor | None] = ((), None)
        self._networks = networks_of(model)
        self._plan: _Plan | None = None
        self._work: tuple[Layout, Beside] | None = None
        self._refused: StreamSettings | None = None
        self._has_controls = model.acceleration is not None and model.acceleration.takes_controls
        self.records_ticks = True
        self.skipped = 0

    @property
    def tick_graph(self) -> str:
        """Whether a tick is one launch: "yes", or "no" with the reason."""
        recorded = self._networks.recorded
        if recorded is None:
            return "no: each network is launched by itself"
        return f"no: {recorded.why_not}" if recorded.why_not else "yes"

    @property
    def delay_frames(self) -> int:
        """By how many frames the output is behind."""
        settings = self._plan.settings if self._plan is not None else self.settings
        slots = len(settings.steps) if settings.is_batched else 1
        return slots * settings.frames - 1

    def reset(self) -> None:
        """Forget all frames; what is loaded stays."""
        self._batch, self._output = None, None
        self._filter.reset()
        self._controls = ControlRows()
        self._waiting.clear()
        self._ready.clear()

    @torch.inference_mode()
    def process(self, image: Tensor) -> Tensor:
        """As many frames as are given.

        Args:
            image: [frames, height, width, 3] of 0..1.

        Returns:
            The same shape but for the size (see `StreamSettings.size`); on the model's device.

        Raises:
            ConfigError: the settings cannot be used. The stream stays as it is.
        """
        plan = self._plan = self._next_plan(image)
        self._networks.use(plan.layout)
        recorded = self._networks.recorded
        into = recorded.picture if recorded is not None and len(image) == plan.settings.frames else None
        pictures = pictures_of(image, plan.layout.size, self.model.device, self.model.dtype, into)
        if plan.settings.frames == len(pictures):
            return self._group(pictures, plan.settings).movedim(1, -1)
        return torch.cat([self._gather(picture[None], plan.settings) for picture in pictures]).movedim(1, -1)

    def is_ready(self, image: Tensor) -> bool:
        """Whether `process` would begin at once with a frame like this one."""
        return self._networks.is_ready(self._wanted(image).layout)

    @torch.inference_mode()
    def prepare(self, image: Tensor) -> None:
        """Do all that takes long for frames like this one; any thread may call it while no frame is processed.

        Raises:
            ComfyStreamError: as `process`.
        """
        self._networks.prepare(self._wanted(image).layout)

    def close(self) -> None:
        """Let go of what a backend holds for this stream; no frame may come any more."""
        self._drop_work()
        self._networks.close()

    def _wanted(self, image: Tensor) -> _Plan:
        settings = self.settings.checked()
        self._has_controls |= bool(settings.controls)
        nets = tuple(dict.fromkeys(control.model for control in settings.controls))
        rows, tokens = settings.row_counts(), settings.prompt.tokens.shape[1]
        size = self._size_for(image, settings)
        tick = self._tick_shape(settings, len(nets))
        return _Plan(settings, Layout(rows, settings.frames, size, tokens, nets, self._has_controls, tick))

    def _tick_shape(self, settings: StreamSettings, nets: int) -> TickShape | None:
        """What one launch is: not frames that take their steps in turn, and no network that is used twice."""
        acceleration = self.model.acceleration
        if not self.records_ticks or acceleration is None or acceleration.capture is None:
            return None
        if not settings.is_batched or nets != len(settings.controls):
            return None
        return TickShape(len(settings.steps), settings.guidance.active, settings.adds_noise, self.is_from_noise)

    def _next_plan(self, image: Tensor) -> _Plan:
        """What the settings ask for; while that is being made ready, what ran before."""
        wanted, running = self._wanted(image), self._plan
        if running is None or self._networks.is_ready(wanted.layout):
            self._drop_work()
            self._networks.prepare(wanted.layout)
            return wanted
        if wanted.settings is self._refused:
            return running
        if self._work is None or self._work[0] != wanted.layout:
            self._drop_work()
            self._work = (wanted.layout, Beside(lambda: self._networks.prepare(wanted.layout)))
        beside = self._work[1]
        beside.tell()
        if not beside.is_done:
            return running
        self._work = None
        self._refused = wanted.settings  # told once; a stream that goes on says no more of it
        beside.result()
        self._refused = None
        return wanted

    def _drop_work(self) -> None:
        if self._work is not None:
            self._work[1].stop()
            self._work = None

    def _size_for(self, image: Tensor, settings: StreamSettings) -> tuple[int, int]:
        """(width, height) that the model takes, nearest to what is asked for."""
        shrink = self.model.autoencoder.shrink
        width, height = settings.size or (image.shape[2], image.shape[1])
        return max(shrink, round(width / shrink) * shrink), max(shrink, round(height / shrink) * shrink)

    def _gather(self, picture: Tensor, settings: StreamSettings) -> Tensor:
        """One frame in, one out, where the batch takes several at a time; the first one stands for those before it."""
        is_first = self._output is None or not (self._ready or self._waiting)
        self._waiting += [picture] * (settings.frames if is_first else 1)
        if len(self._waiting) >= settings.frames:
            group, self._waiting = self._waiting[: settings.frames], self._waiting[settings.frames :]
            self._ready.extend(self._group(torch.cat(group), settings).split(1))
        if not self._ready:
            assert self._output is not None
            return self._output[-1:]
        return self._ready.popleft()

    def _group(self, picture: Tensor, settings: StreamSettings) -> Tensor:
        """One tick: F frames in, F frames out."""
        if self._is_similar(picture, settings) and self._output is not None:
            self.skipped += 1
            return self._output
        self._used_settings = settings
        recorded = self._networks.recorded
        if recorded is not None:
            self._output = self._replay(recorded, picture, settings)
        else:
            made = self._denoise(self._latent(picture), picture, settings)
            self._output = (self._networks.decode(made) / 2 + 0.5).clamp_(0, 1)
        return self._output

    def _latent(self, picture: Tensor) -> Tensor:
        if not self.is_from_noise:
            return self._networks.encode(picture)
        shrink = self.model.autoencoder.shrink
        sides = picture.shape[2] // shrink, picture.shape[3] // shrink
        return picture.new_zeros((len(picture), self.model.latent_channels, *sides))

    def _replay(self, recorded: RecordedTick, picture: Tensor, settings: StreamSettings) -> Tensor:
        """One tick as one launch: what changed is written where the recording reads it."""
        size = (picture.shape[-1], picture.shape[-2])
        tables, noise = self._tables(settings), self._noise_of(settings, recorded.latent_shape)
        front, rows = tables.guidance.unguided_rows(tables.slots, tables.frames), tables.slots * tables.frames
        self._conditioning.update(settings, size)
        self._controls.push(settings.controls, picture, tables.slots, tables.frames, self._output, keeps_idle=True)
        self._enter(recorded.batch, tables, noise)
        told = self._conditioning.rows(front, rows, size)
        recorded.tell(tables, told, self._controls.active(front, rows), self._scales())
        if picture is not recorded.picture:
            recorded.picture.copy_(picture)
        return recorded.tick()

    def _enter(self, batch: StreamBatch, tables: Tables, noise: Tensor) -> None:
        """Go on in a batch, from the one before it if that was another."""
        before, self._batch = self._batch, batch
        if before is not batch or tables is not batch.tables or noise is not self._used_noise:
            batch.change(tables, noise)
        self._used_noise = noise
        if before is None:
            batch.reset()
        elif before is not batch:
            batch.continue_from(before)

    def _is_similar(self, picture: Tensor, settings: StreamSettings) -> bool:
        """Whether the last result will do; never where a setting changed, or a prompt or a seed is on its way."""
        rule = settings.similarity
        if rule is None:
            return False
        if self._is_changing(settings) or self._output is None or self._output.shape != picture.shape:
            self._filter.reset()
        return self._filter.should_skip(picture, rule.threshold, rule.most_in_a_row)

    def _is_changing(self, settings: StreamSettings) -> bool:
        """Whether the next picture differs even if the frame does not."""
        return settings is not self._used_settings or self._noise.is_moving or self._conditioning.is_moving

    def _denoise(self, latent: Tensor, picture: Tensor, settings: StreamSettings) -> Tensor:
        size = (picture.shape[-1], picture.shape[-2])
        tables, noise = self._tables(settings), self._noise_of(settings, tuple(latent.shape[1:]))
        self._conditioning.update(settings, size)
        slots, keeps_idle = tables.slots if settings.is_batched else 1, self._networks.keeps_idle_controls
        self._controls.push(settings.controls, picture, slots, tables.frames, self._output, keeps_idle)
        if not settings.is_batched:
            self._batch = None
            return denoise_in_turn(tables, noise, latent, self._models_in_turn(tables, size))
        batch = self._batch
        if batch is None or batch.is_fixed:
            batch = StreamBatch(tables, noise)
        self._enter(batch, tables, noise)
        front = tables.guidance.unguided_rows(tables.slots, tables.frames)
        model = self._model_for(front, tables.slots * tables.frames, size)
        batch.fill(latent, model)
        return batch.tick(latent, model)

    def _scales(self) -> Tensor | None:
        """[layers], strength of the IP-Adapter in this tick; the same object as long as it is the same."""
        adapter = self.model.image_prompt
        if adapter is None:
            return None
        style = self._used_settings.style if self._used_settings is not None else None
        key = (style.scale, style.weight_type) if style is not None else (0.0, "linear")
        if key != self._style_scales[0]:
            weights = layer_weights(list(adapter.layers), key[1])
            made = torch.tensor([key[0] * weight for weight in weights])
            self._style_scales = (key, made.to(adapter.scales))
        return self._style_scales[1]

    def _models_in_turn(self, tables: Tables, size: tuple[int, int]) -> list[Callable[[Tensor, Tensor], Tensor]]:
        frames, guidance = tables.frames, tables.guidance
        unguided = guidance.unguided_rows(tables.slots, frames) // frames
        return [self._model_for(frames if slot < unguided else 0, frames, size) for slot in range(tables.slots)]

    def _model_for(self, front: int, rows: int, size: tuple[int, int]) -> Callable[[Tensor, Tensor], Tensor]:
        """The UNet for `front` unguided rows and `rows` guided ones."""
        told, scales = self._conditioning.rows(front, rows, size), self._scales()

        def denoise(x: Tensor, times: Tensor) -> Tensor:
            return self._networks.predict(x, times, told, self._controls.active(front, len(x) - front), scales)

        return denoise

    def _tables(self, settings: StreamSettings) -> Tables:
        """Made anew only when something in them changed."""
        key = (settings.steps, settings.schedule, settings.guidance, settings.frames, settings.adds_noise)
        if key != self._tables_key:
            values = settings.schedule.tables(settings.steps, settings.frames, self.model.dtype)
            told = settings.frames, settings.guidance, self.model.device, settings.adds_noise
            self._made_tables = Tables.make(values, *told, self.model.predicts_velocity)
            self._tables_key = key
        return self._made_tables

    def _noise_of(self, settings: StreamSettings, shape: tuple[int, ...]) -> Tensor:
        """[slots, *shape]; the same object as long as it is the same."""
        seeds = (settings.seeds, settings.seed_method, settings.has_normalised_seeds)
        key = (*seeds, len(settings.steps), shape)
        if key != self._noise_key:
            noise = mixed_noise(settings.seeds, len(settings.steps), shape, *seeds[1:])
            moved = brought(noise, self.model.device, self.model.dtype)
            self._noise.aim([moved], settings.transition_frames, "slerp")
            self._noise_key = key
        return self._noise.step()[0]
