"""Prompts as Wan's transformers read them: UMT5, 512 tokens, what is beyond the text zeroed."""

from __future__ import annotations

import html
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch

from comfystream.errors import AssetError

from ..text import Embedding

__all__ = ["TOKENS", "VideoText"]

KEPT = 32  # embeddings, 4 MB each
TOKENS = 512


@dataclass(slots=True)
class VideoText:
    """A text encoder with its tokenizer, and what it made of the last texts. Any thread may ask.

    Attributes:
        module: transformers' UMT5EncoderModel, or None.
        tokenizer: None when there is none to be had; then encoding raises.
        dtype: of the embeddings.
        tokens: of each embedding.
    """

    module: Any
    tokenizer: Any
    dtype: torch.dtype = torch.float32
    tokens: int = TOKENS
    _kept: OrderedDict[str, Embedding] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @torch.inference_mode()
    def encode(self, text: str) -> Embedding:
        """The embedding of a prompt.

        Args:
            text: anything; what is longer than the tokens is cut.

        Raises:
            AssetError: the model has no text encoder or no tokenizer.
        """
        with self._lock:
            found = self._kept.get(text)
            if found is not None:
                self._kept.move_to_end(text)
                return found
        made = self._encode(text)
        with self._lock:
            self._kept[text] = made
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made

    def _encode(self, text: str) -> Embedding:
        if self.module is None or self.tokenizer is None:
            missing = "text encoder" if self.module is None else "tokenizer"
            raise AssetError(
                f"this video model has no {missing}, so it cannot read a prompt",
                code="no_tokenizer",
                hint="name the folder of UMT5 in text_encoder, and of its tokenizer in tokenizer",
            )
        plain = " ".join(html.unescape(html.unescape(text)).split())
        given = self.tokenizer(
            plain, padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt"
        )
        ids, mask = (given[name].to(self.module.device) for name in ("input_ids", "attention_mask"))
        hidden = self.module(input_ids=ids, attention_mask=mask).last_hidden_state
        return Embedding((hidden * mask[..., None]).to(self.dtype), None, text)
