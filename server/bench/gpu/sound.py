"""Speech to text: the encoder of Whisper on its whole window, and ten tokens, once per second of sound."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from comfystream.accel.accelerate import Accelerated, How, accelerate
from comfystream.accel.spec import PRECISIONS, ModelSpec, TensorSpec

from .cost import Cost, count
from .models import library, random_weights
from .prepared import Prepared
from .scale import Scale
from .stages import Stages
from .streams import DTYPES, backends_of

__all__ = ["WhisperCase"]

BEGIN, TOKENS = 4, 10
"""What every text begins with (start, language, task, no times), and what one second of speech makes."""


class _Encoder(nn.Module):
    """Mel spectrogram [1, bands, frames] -> [1, frames / 2, width]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model.get_encoder()

    def forward(self, mel: Tensor) -> Tensor:
        found: Tensor = self.inner(mel, return_dict=False)[0]
        return found


class _Decoder(nn.Module):
    """All tokens so far and what was heard -> scores of what follows each token.

    Nothing is remembered from token to token, so that all shapes are fixed: reading the weights is what one costs, and
    they are read once for one token as for fourteen.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner, self.scores = model.get_decoder(), model.proj_out

    def forward(self, tokens: Tensor, heard: Tensor) -> Tensor:
        made = self.inner(input_ids=tokens, encoder_hidden_states=heard, use_cache=False, return_dict=False)[0]
        found: Tensor = self.scores(made)
        return found


class _Listener:
    """Greedy text by two networks."""

    def __init__(self, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.encode, self.decode = encode, decode

    def hear(self, mel: Tensor) -> Tensor:
        """The scores of the last token; each token depends on those before it, and none leaves the device."""
        heard = self.encode(mel)
        tokens = torch.ones(1, BEGIN + TOKENS, dtype=torch.int64, device=mel.device)
        for at in range(BEGIN, BEGIN + TOKENS):
            scores = self.decode(tokens, heard)
            tokens[:, at] = scores[:, at - 1].argmax(-1)
        return scores[:, -1]


@dataclass(frozen=True, slots=True)
class WhisperCase:
    """Whisper in one of its sizes.

    Attributes:
        size: tiny or base.
    """

    size: str

    def prepare(self, scale: Scale, rows: int, backend: str, device: str, precision: str) -> Prepared:
        """Make the model, count, accelerate.

        Raises:
            ComfyStreamError: the backend cannot.
        """
        transformers, place = library("transformers"), torch.device(device)
        config = transformers.WhisperConfig(**scale.whispers[self.size])
        with place:
            model = random_weights(transformers.WhisperForConditionalGeneration(config)).to(DTYPES[precision])
        shape = (1, config.num_mel_bins, 2 * config.max_source_positions)
        mel = torch.rand(shape, device=place, dtype=DTYPES[precision])
        encoder, decoder = _Encoder(model).eval(), _Decoder(model).eval()
        cost = _count(encoder, decoder, mel)
        began = time.perf_counter()
        networks = _ready(encoder, decoder, mel, config.d_model, backend, precision)
        cold_s = time.perf_counter() - began
        began = time.perf_counter()
        _close(_ready(encoder, decoder, mel, config.d_model, backend, precision))
        cached_s = time.perf_counter() - began
        facts = {
            "model": f"Whisper {self.size}",
            "weights": "random",
            "window": f"{mel.shape[-1] / 100:g} s",
            "tokens": TOKENS,
            "precision": precision,
        }
        listener = _listener(*networks)
        return Prepared(
            torch.inference_mode()(lambda given: listener.hear(given)),
            mel,
            cost,
            cold_s,
            cached_s,
            facts,
            lambda: _proof(networks),
            lambda stages: _stage(stages, listener),
            close=lambda: _close(networks),
        )


def _count(encoder: nn.Module, decoder: nn.Module, mel: Tensor) -> Cost:
    plain = _Listener(encoder, decoder)
    with torch.inference_mode():
        return count(lambda: plain.hear(mel), [encoder, decoder])


def _ready(
    encoder: nn.Module, decoder: nn.Module, mel: Tensor, width: int, backend: str, precision: str
) -> tuple[Accelerated, Accelerated]:
    dtype, heard = PRECISIONS[precision], (1, mel.shape[-1] // 2, width)
    hears = ModelSpec("whisper encoder", (TensorSpec("mel", dtype, tuple(mel.shape)),), ("heard",), precision)
    says = ModelSpec(
        "whisper decoder",
        (TensorSpec("tokens", "int64", (1, BEGIN + TOKENS)), TensorSpec("heard", dtype, heard)),
        ("scores",),
        precision,
    )
    how = How(backend, "cpu" if backend == "onnxruntime" else str(mel.device))
    return accelerate(encoder, hears, how), accelerate(decoder, says, how)


def _listener(encoder: Accelerated, decoder: Accelerated) -> _Listener:
    def encode(mel: Tensor) -> Tensor:
        return encoder.runner.run({"mel": mel})["heard"]

    def decode(tokens: Tensor, heard: Tensor) -> Tensor:
        return decoder.runner.run({"tokens": tokens, "heard": heard})["scores"]

    return _Listener(encode, decode)


def _close(networks: tuple[Accelerated, Accelerated]) -> None:
    for one in networks:
        one.runner.close()


def _proof(networks: tuple[Accelerated, Accelerated]) -> dict[str, Any]:
    places = backends_of([one.runner for one in networks])
    engines = {one.engine[:16]: one.runner.spec.name for one in networks if one.engine}
    return {"networks": places, "graph": any("CUDA graph" in one for one in places), "engines": engines}


def _stage(stages: Stages, listener: _Listener) -> None:
    stages.on(listener, "encode", "encoder")
    stages.on(listener, "decode", "decoder")
