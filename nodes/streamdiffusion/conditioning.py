"""What every row of the batch is told, in buffers that keep their place while only their contents change."""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .core import Glide
from .core.guidance import embedded_scale
from .core.transfer import brought
from .model import StreamModel
from .preprocess import constant
from .settings import StreamSettings

__all__ = ["Conditioning", "Rows"]


class Rows:
    """Tokens, and the further conditioning that some models take, for a number of rows.

    Args:
        tokens: [rows, tokens, width].
        text_tokens: how many of them are text; pictures follow.
        added: None but for SDXL.
        scale: [rows, width], the strength of the guidance; None but for UNets that were distilled with it.
    """

    def __init__(
        self, tokens: Tensor, text_tokens: int, added: dict[str, Tensor] | None, scale: Tensor | None = None
    ) -> None:
        self.tokens, self.text_tokens, self.added, self.scale = tokens, text_tokens, added, scale


@lru_cache(maxsize=32)
def _scale_on(scale: float, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[1, width], the strength of the guidance as a UNet is told it; brought to the device once."""
    return brought(embedded_scale(scale, width), device, dtype)


class Conditioning:
    """Prompt, style and size of one stream, as the model wants them. Used by one thread."""

    def __init__(self, model: StreamModel) -> None:
        self._model = model
        self._glide = Glide()
        self._aimed: Any = None
        self._negative: tuple[Tensor, ...] = ()
        self._style: tuple[Tensor, Tensor] | None = None
        self._scale: Tensor | None = None
        self._given: tuple[Any, ...] = ()  # compared by identity
        self._numbers: tuple[Any, ...] = ()
        self._rows: dict[tuple[int, int], Rows] = {}

    @property
    def is_moving(self) -> bool:
        """Whether the prompt is on its way to another."""
        return self._glide.is_moving

    def update(self, settings: StreamSettings, size: tuple[int, int]) -> None:
        """Take over what the settings say for this frame; nothing happens where nothing changed.

        Args:
            settings: of this frame.
            size: (width, height) of the picture.
        """
        place = self._model.device, self._model.dtype
        if settings.prompt is not self._aimed:
            self._aimed = settings.prompt
            parts = [part.to(*place) for part in settings.prompt.parts()]
            self._glide.aim(parts, settings.transition_frames, settings.transition_method)
        is_moving = self._glide.is_moving
        prompt = self._glide.step()
        given = (settings.prompt, settings.negative, settings.style and settings.style.tokens)
        numbers = (size, settings.guidance.scale if self._model.guidance_width else None)
        is_same = numbers == self._numbers and all(map(operator.is_, given, self._given))
        if is_same and not is_moving:
            return
        negative = settings.negative or settings.prompt
        self._negative = tuple(part.to(*place) for part in negative.parts())
        self._style = self._style_tokens(settings)
        self._scale = _scale_on(numbers[1], self._model.guidance_width, *place) if numbers[1] is not None else None
        self._given, self._numbers = given, numbers
        stale, self._rows = self._rows, {}
        for front, rows in stale:
            self._rows[front, rows] = self._fill(front, rows, prompt, size, stale[front, rows])

    def rows(self, front: int, rows: int, size: tuple[int, int]) -> Rows:
        """For `front` unguided rows and `rows` guided ones behind them."""
        found = self._rows.get((front, rows))
        if found is None:
            found = self._rows[front, rows] = self._fill(front, rows, self._glide.now, size, None)
        return found

    def _style_tokens(self, settings: StreamSettings) -> tuple[Tensor, Tensor] | None:
        adapter = self._model.image_prompt
        if adapter is None:
            return None
        if settings.style is None:
            blank = self._negative[0].new_zeros((1, adapter.tokens, self._negative[0].shape[-1]))
            return blank, blank
        place = self._model.device, self._model.dtype
        return settings.style.tokens.to(*place), settings.style.blank.to(*place)

    def _fill(
        self, front: int, rows: int, prompt: tuple[Tensor, ...], size: tuple[int, int], into: Rows | None
    ) -> Rows:
        text, picture = prompt[0].shape[1], self._style[0].shape[1] if self._style else 0
        shape = (front + rows, text + picture, prompt[0].shape[2])
        tokens = into.tokens if into is not None and into.tokens.shape == shape else prompt[0].new_empty(shape)
        tokens[front:, :text] = prompt[0]
        tokens[:front, :text] = self._negative[0][:, :text]
        if self._style:
            tokens[front:, text:], tokens[:front, text:] = self._style
        scale = self._scale.expand(front + rows, -1) if self._scale is not None else None
        if len(prompt) < 2:
            return Rows(tokens, text, None, scale)
        pooled = prompt[1].new_empty((front + rows, prompt[1].shape[1]))
        pooled[front:], pooled[:front] = prompt[1], self._negative[1]
        width, height = size
        sides = (float(height), float(width), 0.0, 0.0, float(height), float(width))
        times = constant(sides, pooled.device, pooled.dtype).expand(front + rows, -1)
        if into is not None and into.added is not None and into.added["text_embeds"].shape == pooled.shape:
            into.added["text_embeds"].copy_(pooled)
            into.added["time_ids"].copy_(times)
            return Rows(tokens, text, into.added, scale)
        return Rows(tokens, text, {"text_embeds": pooled, "time_ids": times.contiguous()}, scale)
