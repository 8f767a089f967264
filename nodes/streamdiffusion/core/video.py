"""Video that is made chunk by chunk: a causal transformer that remembers keys and values of the chunks before.

"Self Forcing" (arXiv 2506.08009) and "StreamDiffusionV2" (arXiv 2511.07399). A chunk is denoised in a few steps; then
one more pass over the clean result writes what later chunks will look at. This is the algorithm for any such model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from comfystream.errors import ConfigError

from .noise import slot_noise

__all__ = ["CausalModel", "ChunkDenoiser", "ChunkRing", "KeyValueWindow", "VideoSteps", "motion_noise_scale"]

TRAIN_STEPS = 1000


class KeyValueWindow:
    """Keys and values of one attention block: the first frames of the stream (the sink), and the last ones.

    Args:
        frames: how many latent frames are kept, the sink included.
        sink: how many of the first ones are never dropped.
    """

    def __init__(self, frames: int, sink: int = 0) -> None:
        if not 0 <= sink < frames:
            raise ConfigError(f"a window of {frames} frames cannot keep the first {sink}", hint="use a smaller sink")
        self._frames, self._sink = frames, sink
        self._kept: list[tuple[Tensor, Tensor]] = []

    def seen(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """What a chunk looks at: all that is kept, then itself; [rows, tokens, heads, width] each."""
        keys, values = [pair[0] for pair in self._kept], [pair[1] for pair in self._kept]
        return torch.cat([*keys, key], 1), torch.cat([*values, value], 1)

    def keep(self, key: Tensor, value: Tensor, frames: int) -> None:
        """Remember a clean chunk of so many latent frames; the oldest beyond the sink are dropped."""
        self._kept += zip(key.chunk(frames, 1), value.chunk(frames, 1), strict=True)
        surplus = len(self._kept) - self._frames
        if surplus > 0:
            del self._kept[self._sink : self._sink + surplus]

    def clear(self) -> None:
        """Forget everything."""
        self._kept = []


class CausalModel(Protocol):
    """Predicts the clean chunk."""

    def __call__(
        self, latents: Tensor, timestep: float, windows: Sequence[KeyValueWindow], start: int, keeps: bool
    ) -> Tensor:
        """One pass.

        Args:
            latents: [1, frames, channels, height, width].
            timestep: 0 (clean) to 1000.
            windows: one per block.
            start: index of the chunk's first latent frame, for the positions.
            keeps: whether each block puts its keys and values into its window.
        """
        ...


@dataclass(frozen=True, slots=True)
class VideoSteps:
    """How a chunk is denoised.

    Attributes:
        timesteps: falling, each 1..1000.
        noise_scale: how much of the source is replaced by noise; 1 for text alone.
        seed: of the stream; every chunk has its own noise.
        most_frames: latent frames after which everything is forgotten (the length of the position table).
    """

    timesteps: tuple[int, ...] = (750, 250)
    noise_scale: float = 0.7
    seed: int = 0
    most_frames: int = 1024

    def checked(self) -> VideoSteps:
        """Itself.

        Raises:
            ConfigError: no steps, or they do not fall, or a number is out of range.
        """
        falls = all(one > two for one, two in zip(self.timesteps, self.timesteps[1:], strict=False))
        if not self.timesteps or not falls or not all(0 < step <= TRAIN_STEPS for step in self.timesteps):
            raise ConfigError(f"denoising steps {list(self.timesteps)} must fall from 1000 to 1 at most")
        if not 0 <= self.noise_scale <= 1:
            raise ConfigError(f"noise_scale is {self.noise_scale}", hint="use 0 to 1")
        return self


class ChunkDenoiser:
    """State of one video stream. Used by one thread.

    Args:
        model: the causal model.
        blocks: how many windows it needs.
        window: latent frames that each keeps.
        sink: how many of the first frames are kept for good.
    """

    def __init__(self, model: CausalModel, blocks: int, window: int, sink: int = 0) -> None:
        self._model = model
        self._windows = [KeyValueWindow(window, sink) for _ in range(blocks)]
        self.start = 0

    def reset(self) -> None:
        """Forget all chunks."""
        self.start = 0
        for window in self._windows:
            window.clear()

    def chunk(self, shape: tuple[int, ...], steps: VideoSteps, source: Tensor | None = None) -> Tensor:
        """The next chunk.

        Args:
            shape: [1, frames, channels, height, width] of latents.
            steps: how; may change from chunk to chunk.
            source: latents of the frames that came in, or None for text alone.
        """
        steps = steps.checked()
        if self.start + shape[1] > steps.most_frames:
            self.reset()
        noises = slot_noise(steps.seed + self.start, len(steps.timesteps), shape)
        first, times = noises[0], [float(step) for step in steps.timesteps]
        latents = first
        if source is not None:  # the first step is at the noise that is really there
            latents = steps.noise_scale * first.to(source) + (1 - steps.noise_scale) * source
            times[0] = max(1000 * steps.noise_scale - 100, times[1] if len(times) > 1 else 1.0)
        for number, time in enumerate(times):
            clean = self._model(latents, time, self._windows, self.start, keeps=False)
            if number + 1 < len(times):
                level = times[number + 1] / TRAIN_STEPS
                latents = (1 - level) * clean + level * noises[number + 1].to(clean)
        self._model(clean, 0.0, self._windows, self.start, keeps=True)
        self.start += shape[1]
        return clean


def motion_noise_scale(chunk: Tensor, previous: float) -> float:
    """Less noise where much moves, so that fast things keep their shape; changes slowly.

    Args:
        chunk: frames [frames, channels, height, width] of 0..1.
        previous: the scale of the chunk before.
    """
    if len(chunk) < 2:
        return previous
    moved = (chunk[1:] - chunk[:-1]).float().pow(2).mean(dim=(1, 2, 3)).sqrt().max()
    motion = min(float(moved) / 0.2, 1.0)
    return 0.9 * (0.8 - 0.2 * motion) + 0.1 * previous


class ChunkRing:
    """One frame in, one frame out, where the work is done in chunks. Used by one thread.

    Args:
        size: frames of a chunk; so large is the delay, too.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: list[Tensor] = []
        self._ready: deque[Tensor] = deque()
        self._last: Tensor | None = None

    @property
    def delay_frames(self) -> int:
        """By how many frames the output is behind the input."""
        return self._size

    def push(self, frame: Tensor) -> list[Tensor] | None:
        """Take a frame; gives the chunk when it is complete."""
        self._waiting.append(frame)
        if len(self._waiting) < self._size:
            return None
        chunk, self._waiting = self._waiting, []
        return chunk

    def put(self, frames: Sequence[Tensor]) -> None:
        """Results of a chunk; the first chunk of a decoder may have fewer."""
        self._ready.extend(frames)

    def pop(self) -> Tensor | None:
        """The next result; the last one again where none is ready, None before the first."""
        if self._ready:
            self._last = self._ready.popleft()
        return self._last

    def reset(self) -> None:
        """Forget what waits, so that nothing old comes out behind something new; the last result is held."""
        self._waiting.clear()
        self._ready.clear()
