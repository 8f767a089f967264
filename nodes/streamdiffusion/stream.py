"""One stream of frames through a model. Any thread may replace its settings; the next frame uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .conditioning import Conditioning, Rows, predictor
from .control_rows import ControlRows
from .core import Glide, SimilarityFilter, StreamBatch, denoise_in_turn, mixed_noise
from .core.batch import Tables
from .core.schedule import alphas_cumprod
from .image_prompt import layer_weights
from .model import StreamModel
from .settings import StreamSettings

__all__ = ["Stream"]


class Stream:
    """Frames in, frames out. `process` is called by one thread at a time.

    Args:
        model: what makes the pictures.
        settings: to begin with. Replace the attribute to change something: the frame loop reads it once per frame, so
            it takes no lock and never sees half a change.
    """

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
        self._kept = alphas_cumprod().to(model.device)
        self._used_noise: Tensor | None = None
        self._used_settings: StreamSettings | None = None
        self._style_scales: tuple[Any, Tensor | None] = ((), None)
        self.skipped = 0

    @property
    def delay_frames(self) -> int:
        """By how many frames the output is behind."""
        settings = self.settings
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
        settings = self.settings.checked()
        pictures = self._pictures(image, settings)
        if settings.frames == len(pictures):
            return self._group(pictures, settings).movedim(1, -1)
        return torch.cat([self._gather(picture[None], settings) for picture in pictures]).movedim(1, -1)

    def _pictures(self, image: Tensor, settings: StreamSettings) -> Tensor:
        """[frames, 3, height, width] on the model's device, of a size that it takes."""
        picture = image[..., :3].to(self.model.device, self.model.dtype, non_blocking=True).movedim(-1, 1)
        shrink = self.model.autoencoder.shrink
        width, height = settings.size or (picture.shape[-1], picture.shape[-2])
        wanted = tuple(max(shrink, round(side / shrink) * shrink) for side in (height, width))
        if tuple(picture.shape[-2:]) != wanted:
            picture = interpolate(picture, wanted, mode="bilinear", antialias=True)
        return picture

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
        latent = self.model.autoencoder.encode(picture * 2 - 1)
        made = self._denoise(latent, picture, settings)
        self._output = (self.model.autoencoder.decode(made) / 2 + 0.5).clamp_(0, 1)
        return self._output

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
        tables, noise = self._tables(settings), self._noise_of(settings, latent)
        self._conditioning.update(settings, size)
        self._set_style(settings)
        slots = tables.slots if settings.is_batched else 1
        self._controls.push(settings.controls, picture, slots, tables.frames, self._output)
        if not settings.is_batched:
            self._batch = None
            return denoise_in_turn(tables, noise, latent, self._models_in_turn(tables, size))
        batch = self._batch
        if batch is None:
            batch = self._batch = StreamBatch(tables, noise)
        elif tables is not batch.tables or noise is not self._used_noise:
            batch.change(tables, noise)
        self._used_noise = noise
        front = tables.guidance.unguided_rows(tables.slots, tables.frames)
        model = self._model_for(front, tables.slots * tables.frames, size)
        batch.fill(latent, model)
        return batch.tick(latent, model)

    def _set_style(self, settings: StreamSettings) -> None:
        """Strength of the IP-Adapter for this tick; streams that share a model set it in turn."""
        adapter, style = self.model.image_prompt, settings.style
        if adapter is None:
            return
        key = (style.scale, style.weight_type) if style is not None else (0.0, "linear")
        if key != self._style_scales[0]:
            weights = layer_weights(list(adapter.layers), key[1])
            made = torch.tensor([key[0] * weight for weight in weights])
            self._style_scales = (key, made.to(adapter.scales))
        adapter.scales.copy_(self._style_scales[1])

    def _models_in_turn(self, tables: Tables, size: tuple[int, int]) -> list[Callable[[Tensor, Tensor], Tensor]]:
        frames, guidance = tables.frames, tables.guidance
        unguided = guidance.unguided_rows(tables.slots, frames) // frames
        return [self._model_for(frames if slot < unguided else 0, frames, size) for slot in range(tables.slots)]

    def _model_for(self, front: int, rows: int, size: tuple[int, int]) -> Callable[[Tensor, Tensor], Tensor]:
        def extra(x: Tensor, times: Tensor, told: Rows) -> tuple[Any, Any]:
            return self._controls.residuals(front, x, times, told.tokens[:, : told.text_tokens], told.added)

        return predictor(self.model, self._conditioning.rows(front, rows, size), extra, self._kept)

    def _tables(self, settings: StreamSettings) -> Tables:
        """Made anew only when something in them changed."""
        key = (settings.steps, settings.schedule, settings.guidance, settings.frames, settings.adds_noise)
        if key != self._tables_key:
            values = settings.schedule.tables(settings.steps, settings.frames, self.model.dtype)
            made = Tables.make(values, settings.frames, settings.guidance, self.model.device, settings.adds_noise)
            self._made_tables, self._tables_key = made, key
        return self._made_tables

    def _noise_of(self, settings: StreamSettings, latent: Tensor) -> Tensor:
        seeds = (settings.seeds, settings.seed_method, settings.has_normalised_seeds)
        key = (*seeds, len(settings.steps), tuple(latent.shape[1:]))
        if key != self._noise_key:
            noise = mixed_noise(settings.seeds, len(settings.steps), tuple(latent.shape[1:]), *seeds[1:])
            moved = noise.to(self.model.device, self.model.dtype)
            self._noise.aim([moved], settings.transition_frames, "slerp")
            self._noise_key = key
        return self._noise.step()[0]
