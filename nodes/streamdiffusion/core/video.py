"""Video that is made chunk by chunk: a causal transformer that remembers keys and values of the chunks before.

"Self Forcing" (arXiv 2506.08009) and "StreamDiffusionV2" (arXiv 2511.07399). A chunk is denoised in a few steps; then
one more pass over the clean result writes what later chunks will look at. This is the algorithm for any such model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from comfystream.errors import ConfigError

from .noise import slot_noise
from .transfer import brought

__all__ = ["CausalModel", "ChunkDenoiser", "ChunkRing", "VideoSteps", "Window", "motion_noise_scale"]

TRAIN_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Window:
    """The latent frames that a chunk looks at: the first ones of the stream (the sink), and the last ones.

    Frames are kept in slots that never move. A new frame takes the slot of the oldest one beyond the sink, which no
    later chunk may see anyway; so each pass over a chunk writes into the same slots, and the clean pass comes last.

    Attributes:
        frames: how many are seen, the chunk itself and the sink included.
        sink: how many of the first ones are never dropped.
    """

    frames: int
    sink: int = 0

    def checked(self, chunk: int) -> Window:
        """Itself.

        Raises:
            ConfigError: a chunk does not fit beside the sink.
        """
        if self.sink < 0 or chunk < 1 or self.sink + chunk > self.frames:
            raise ConfigError(
                f"a window of {self.frames} frames cannot keep the first {self.sink} beside a chunk of {chunk}",
                hint="use a smaller sink or a larger window",
            )
        return self

    def slots(self, start: int, count: int) -> list[int]:
        """Where `count` frames from the `start`th on are kept."""
        free = self.frames - self.sink
        return [
            frame if frame < self.sink else self.sink + (frame - self.sink) % free
            for frame in range(start, start + count)
        ]

    def seen(self, end: int) -> int:
        """How many slots, from the first on, hold something when `end` frames were written."""
        return min(end, self.frames)


class CausalModel(Protocol):
    """Predicts the clean chunk, and remembers keys and values of the chunks before."""

    def __call__(self, latents: Tensor, timestep: float, start: int) -> Tensor:
        """One pass. What it writes about these frames takes the place of what an earlier pass over them wrote.

        Args:
            latents: [1, frames, channels, height, width].
            timestep: 0 (clean) to 1000.
            start: index of the chunk's first latent frame.
        """
        ...

    def forget(self) -> None:
        """Forget all chunks."""
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
        model: the causal model, with a memory of its own.
        writes_clean: whether a last pass over the clean chunk writes what later chunks look at. Not needed where that
            is run again before each chunk.
    """

    def __init__(self, model: CausalModel, writes_clean: bool = True) -> None:
        self._model, self._writes_clean = model, writes_clean
        self.start = 0

    def reset(self) -> None:
        """Forget all chunks."""
        self.start = 0
        self._model.forget()

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
        times = [float(step) for step in steps.timesteps]
        latents = noises[0]
        if source is not None:  # the first step is at the noise that is really there
            noises = brought(noises, source.device, source.dtype)
            latents = steps.noise_scale * noises[0] + (1 - steps.noise_scale) * source
            times[0] = max(round(1000 * steps.noise_scale) - 100, times[1] if len(times) > 1 else 1.0)
        for number, time in enumerate(times):
            clean = self._model(latents, time, self.start)
            if number + 1 < len(times):
                level = times[number + 1] / TRAIN_STEPS
                noises = brought(noises, clean.device, clean.dtype)
                latents = (1 - level) * clean + level * noises[number + 1]
        if self._writes_clean:
            self._model(clean, 0.0, self.start)
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

    It holds a chunk of inputs and a chunk of outputs at most.

    Args:
        size: frames of a chunk.
        first: frames of the first chunk, where that has fewer.
    """

    def __init__(self, size: int, first: int | None = None) -> None:
        self._size, self._first = size, size if first is None else first
        self._is_first = True
        self._waiting: list[Tensor] = []
        self._ready: deque[Tensor] = deque(maxlen=size)
        self._last: Tensor | None = None

    @property
    def delay_frames(self) -> int:
        """By how many frames the output is behind the input, where a chunk is put back before the next `pop`."""
        return self._size - 1

    @property
    def is_empty(self) -> bool:
        """Whether `pop` would repeat the last result."""
        return not self._ready

    def push(self, frame: Tensor) -> list[Tensor] | None:
        """Take a frame; gives the chunk when it is complete."""
        self._waiting.append(frame)
        if len(self._waiting) < (self._first if self._is_first else self._size):
            return None
        chunk, self._waiting, self._is_first = self._waiting, [], False
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
        self._is_first = True
