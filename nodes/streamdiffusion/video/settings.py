"""All of a video stream that can change while it runs, in one value that is replaced as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from comfystream.errors import ConfigError

from ..core.blend import METHODS
from ..core.video import VideoSteps
from ..text import Embedding
from .pipelines import Pipeline, check_size

__all__ = ["VideoSettings"]


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """How a stream makes its next chunk.

    Attributes:
        prompt: what to make.
        steps: denoising steps, falling, 1000 to 1; empty for the pipeline's own.
        noise_scale: how much of a picture that comes in is replaced by noise, 0 to 1.
        follows_motion: whether the noise becomes less where much moves; `noise_scale` is where it begins.
        seed: of the noise.
        transition_chunks: over how many chunks another prompt comes in; 0 at once.
        transition_method: linear or slerp.
        attention_bias: the weight of remembered frames, above 0 to 1; None for the pipeline's own.
        manages_cache: begin anew where what is remembered no longer fits: another prompt at once over a picture, other
            steps, a jump of the noise.
        size: (width, height) to work at, multiples of 16; None for the pipeline's own.
        resets: another number than before begins anew.
        works_ahead: whether a chunk is made while the frames of the next one come in: an even flow of frames, one more
            chunk of delay. Else it is made in the tick that completes it.
    """

    prompt: Embedding
    steps: tuple[int, ...] = ()
    noise_scale: float = 0.7
    follows_motion: bool = False
    seed: int = 42
    transition_chunks: int = 0
    transition_method: str = "linear"
    attention_bias: float | None = None
    manages_cache: bool = True
    size: tuple[int, int] | None = None
    resets: int = 0
    works_ahead: bool = False

    def checked(self) -> VideoSettings:
        """Itself, when it can be used.

        Raises:
            ConfigError: a value out of range.
        """
        if self.steps:
            VideoSteps(self.steps).checked()
        if not 0 <= self.noise_scale <= 1:
            raise ConfigError(f"noise_scale is {self.noise_scale}", hint="use 0 to 1")
        if self.attention_bias is not None and not 0 < self.attention_bias <= 1:
            raise ConfigError(f"kv_cache_attention_bias is {self.attention_bias}", hint="use more than 0, to 1")
        if self.transition_method not in METHODS:
            raise ConfigError(f"interpolation method {self.transition_method!r} is unknown", hint="linear or slerp")
        if self.size is not None:
            check_size(*self.size)
        return self

    def steps_of(self, pipeline: Pipeline, is_video: bool) -> tuple[int, ...]:
        """The denoising steps in use."""
        return self.steps or (pipeline.video_steps if is_video else pipeline.text_steps)
