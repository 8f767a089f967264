"""Prompts to embeddings, the way each kind of Stable Diffusion was trained, and kept so that a text is encoded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.errors import AssetError

from .core import blend
from .loading.infer import Family

__all__ = ["ComfyTower", "Embedding", "PromptEncoder", "TextTower", "blend_embeddings"]

KEPT = 64  # embeddings, 0.1 to 0.7 MB each
TOKENS = 77


@dataclass(frozen=True, slots=True)
class Embedding:
    """What a model is told.

    Attributes:
        tokens: [1, tokens, width].
        pooled: [1, width] for SDXL, else None.
        text: where it came from, for people.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    text: str = ""

    def parts(self) -> tuple[Tensor, ...]:
        """The tensors, for what mixes them one by one."""
        return (self.tokens,) if self.pooled is None else (self.tokens, self.pooled)

    @staticmethod
    def of(parts: Sequence[Tensor], text: str = "") -> Embedding:
        """Back from `parts`."""
        return Embedding(parts[0], parts[1] if len(parts) > 1 else None, text)


def blend_embeddings(
    values: Sequence[Embedding], weights: Sequence[float], method: str = "slerp", is_normalised: bool = True
) -> Embedding:
    """Mix embeddings by weight; tokens and pooled vector alike."""
    parts = [value.parts() for value in values]
    mixed = [blend(same, weights, method, is_normalised) for same in zip(*parts, strict=True)]
    return Embedding.of(mixed, " + ".join(value.text for value in values))


@dataclass(frozen=True, slots=True)
class TextTower:
    """A text encoder with its tokenizer.

    Attributes:
        module: transformers' CLIPTextModel or CLIPTextModelWithProjection.
        tokenizer: None when there is none to be had; then encoding raises.
        pad: the token that fills up to 77.
        from_the_end: the hidden layer that is read, counted from the last (0).
        is_normed: whether the final layer norm is applied to it.
    """

    module: Any
    tokenizer: Any
    pad: int
    from_the_end: int = 0
    is_normed: bool = True

    def encode(self, text: str, skip: int = 0) -> tuple[Tensor, Tensor | None]:
        """Hidden states [1, 77, width], and the projected vector where the module has one."""
        ids = torch.tensor([self._ids(text)], device=self.module.device)
        given = self.module(input_ids=ids, output_hidden_states=True)
        hidden = given.hidden_states[-1 - self.from_the_end - skip]
        if self.is_normed:
            hidden = getattr(self.module, "text_model", self.module).final_layer_norm(hidden)
        return hidden, getattr(given, "text_embeds", None)

    def _ids(self, text: str) -> list[int]:
        if self.tokenizer is None:
            raise AssetError(
                "this model has no tokenizer, so it cannot read a prompt",
                code="no_tokenizer",
                hint="a single file holds none: name a tokenizer folder, or connect ComfyUI's CLIP",
            )
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=TOKENS).input_ids
        return ids + [self.pad] * (TOKENS - len(ids))


class ComfyTower:
    """ComfyUI's CLIP, whose tokenizers and encoders know their model.

    Args:
        clip: ComfyUI's CLIP object.
    """

    def __init__(self, clip: Any) -> None:
        self._clip = clip
        self.module = nn.Identity()  # ComfyUI places its own

    def encode(self, text: str, skip: int = 0) -> tuple[Tensor, Tensor | None]:
        """As `TextTower.encode`; layers are skipped by ComfyUI's own node."""
        return self._clip.encode_from_tokens(self._clip.tokenize(text), return_pooled=True)


@dataclass(slots=True)
class PromptEncoder:
    """The towers of one model with one set of LoRAs, and what they made of the last texts. Any thread may ask.

    Another set of LoRAs is another encoder, so nothing that another set made is ever found here.
    """

    family: Family
    towers: tuple[TextTower | ComfyTower, ...]
    dtype: torch.dtype = torch.float32
    _kept: OrderedDict[tuple[str, int], Embedding] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @torch.inference_mode()
    def encode(self, text: str, clip_skip: int = 0) -> Embedding:
        """The embedding of a prompt.

        Args:
            text: anything; what is longer than 75 tokens is cut.
            clip_skip: so many layers before the usual one.

        Raises:
            AssetError: the model has no text encoder or no tokenizer.
        """
        key = (text, clip_skip)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        made = self._encode(text, clip_skip)
        with self._lock:
            self._kept[key] = made
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made

    def _encode(self, text: str, skip: int) -> Embedding:
        if not self.towers:
            raise AssetError("this model has no text encoder", hint="connect a CLIP, or a prompt made elsewhere")
        encoded = [tower.encode(text, skip) for tower in self.towers]
        tokens = torch.cat([hidden for hidden, _ in encoded], dim=-1).to(self.dtype)
        pooled = encoded[-1][1] if self.family is Family.SDXL else None
        return Embedding(tokens, pooled.to(self.dtype) if pooled is not None else None, text)
