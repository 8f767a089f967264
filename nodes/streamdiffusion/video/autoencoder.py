"""An autoencoder for video as it comes: each half keeps what its next call has to know of the calls before.

The first latent frame holds one picture, every other one four. So the first chunk of k latent frames takes and gives
1 + 4 (k - 1) pictures, every later one 4 k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from comfystream.accel.accelerate import How, accelerate
from comfystream.accel.runner import Runner

from .causal import spec_of
from .pipelines import FRAMES_PER_LATENT

__all__ = ["AutoencoderStream", "Half", "HalfStream", "VideoAutoencoder"]

Memory = list[Any]
"""What a half keeps between calls, by place: tensors, and None before the first call."""


class Half(Protocol):
    """Encoder or decoder. Shared by all streams, so it keeps nothing itself.

    Attributes:
        places: length of its memory.
        settles: so many calls after a beginning all shapes stay as they are.
    """

    places: int
    settles: int

    def run(self, x: Tensor, memory: Memory, is_first: bool) -> Tensor:
        """One latent frame's worth.

        Args:
            x: [frames, channels, height, width]: one or four pictures of 0..1, or one latent.
            memory: is read and written anew.
            is_first: whether the stream begins here.
        """
        ...


class _Settled(nn.Module):
    """A half that has settled, with tensors alone: memory is input, and overwritten in place.

    Args:
        half: encoder or decoder.
        kept: places of the memory that hold something.
    """

    def __init__(self, half: Half, kept: Sequence[int]) -> None:
        super().__init__()
        self.inner, self._kept = half, tuple(kept)

    def forward(self, x: Tensor, *kept: Tensor) -> Tensor:
        memory: Memory = [None] * self.inner.places
        for place, value in zip(self._kept, kept, strict=True):
            memory[place] = value
        made = self.inner.run(x, memory, is_first=False)
        for place, value in zip(self._kept, kept, strict=True):
            value.copy_(memory[place])
        return made


class HalfStream:
    """A half with the memory of one stream. Used by one thread.

    Args:
        half: encoder or decoder.
        name: for messages.
        how: how it is run once it has settled.
        runs: modules that are run, by name, shared by all streams of a model so that each is compiled once.
    """

    def __init__(self, half: Half, name: str, how: How, runs: dict[str, nn.Module]) -> None:
        self._half, self._name, self._how, self._runs = half, name, how, runs
        self._runner: Runner | None = None
        self._kept: list[int] = []
        self.forget()

    @property
    def place(self) -> str:
        """What it is run by once it has settled, for people."""
        return self._runner.place if self._runner is not None else f"{self._name} (eager)"

    def forget(self) -> None:
        """The next call begins a stream."""
        self._memory: Memory = [None] * self._half.places
        self._calls = 0

    def prepare(self, first: Tensor, later: Tensor) -> None:
        """Build the runner for a size, outside of the stream; nothing to do where torch runs it as it is.

        Args:
            first: what a stream begins with, for the shape.
            later: what follows.
        """
        if self._how.backend == "eager":
            return
        self.forget()
        for number in range(self._half.settles):
            self._plain(later if number else first)
        self._kept = [place for place, value in enumerate(self._memory) if isinstance(value, Tensor)]
        inputs = {"x": later, **{f"memory_{place}": self._memory[place] for place in self._kept}}
        spec = spec_of(self._name, inputs, "made", later.dtype)
        module = self._runs.setdefault(self._name, _Settled(self._half, self._kept))
        self._runner = accelerate(module, spec, self._how).runner
        self.forget()

    def __call__(self, x: Tensor) -> Tensor:
        """See `Half.run`."""
        runner = self._runner
        if runner is None or self._calls < self._half.settles:
            return self._plain(x)
        if self._calls == self._half.settles:
            for place in self._kept:
                runner.put(f"memory_{place}", self._memory[place])
        self._calls += 1
        runner.put("x", x)
        runner.enqueue()
        return runner.outputs["made"].clone()

    def _plain(self, x: Tensor) -> Tensor:
        made = self._half.run(x, self._memory, is_first=self._calls == 0)
        self._calls += 1
        return made


@dataclass(frozen=True, slots=True)
class VideoAutoencoder:
    """Both halves, shared by all streams.

    Attributes:
        kind: wan or tae.
        module: holds the weights of both.
        encoder, decoder: its halves.
        channels: of a latent.
        shrink: a picture's side by a latent's.
        runs: see `HalfStream`.
    """

    kind: str
    module: nn.Module
    encoder: Half
    decoder: Half
    channels: int = 16
    shrink: int = 8
    runs: dict[str, nn.Module] = field(default_factory=dict, compare=False)


class AutoencoderStream:
    """Pictures to latents and back, chunk by chunk, for one stream of one size. Used by one thread.

    Args:
        model: the autoencoder.
        size: (height, width) of pictures.
        how: how it is run.
    """

    def __init__(self, model: VideoAutoencoder, size: tuple[int, int], how: How) -> None:
        self._encoder = HalfStream(model.encoder, f"{model.kind} video encoder", how, model.runs)
        self._decoder = HalfStream(model.decoder, f"{model.kind} video decoder", how, model.runs)
        weight = next(model.module.parameters())
        picture = torch.zeros(FRAMES_PER_LATENT, 3, *size, device=weight.device, dtype=weight.dtype)
        sides = (side // model.shrink for side in size)
        latent = torch.zeros(1, model.channels, *sides, device=weight.device, dtype=weight.dtype)
        self._encoder.prepare(picture[:1], picture)
        self._decoder.prepare(latent, latent)
        self._has_begun = False

    @property
    def places(self) -> list[str]:
        """What each half is run by, for people."""
        return [self._encoder.place, self._decoder.place]

    def forget(self) -> None:
        """The next chunk begins a stream."""
        self._has_begun = False
        self._encoder.forget()
        self._decoder.forget()

    def encode(self, pictures: Tensor) -> Tensor:
        """A chunk of pictures.

        Args:
            pictures: [frames, 3, height, width] of 0..1: 1 + 4 (k - 1) to begin with, later 4 k.

        Returns:
            [1, k, channels, height, width].
        """
        groups = [pictures[:1]] if not self._has_begun else []
        rest = pictures[len(groups) :]
        if rest.shape[0] % FRAMES_PER_LATENT:
            raise ValueError(f"{len(pictures)} pictures are no whole latent frames")
        self._has_begun = True
        groups += rest.split(FRAMES_PER_LATENT) if len(rest) else ()
        return torch.cat([self._encoder(group) for group in groups])[None]

    def decode(self, latents: Tensor) -> Tensor:
        """Back to [frames, 3, height, width] of 0..1, as many as `encode` took."""
        return torch.cat([self._decoder(latent) for latent in latents[0].split(1)]).clamp(0, 1)
