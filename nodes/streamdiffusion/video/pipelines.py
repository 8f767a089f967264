"""What is known of the published models: how they were distilled says how they have to be run."""

from __future__ import annotations

from dataclasses import dataclass

from comfystream.errors import ConfigError

from ..core.video import Window

__all__ = ["FRAMES_PER_LATENT", "PATCH", "PIPELINES", "Pipeline", "check_size", "pipeline_of"]

FRAMES_PER_LATENT = 4
PATCH = 16  # pixels of a token's side: 8 of the autoencoder, 2 of the transformer's patches


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How one kind of model is run.

    Attributes:
        name: as in the node's list.
        chunk: latent frames that are made at a time.
        window: latent frames that a chunk looks at, itself included, and how many of them are the first of the stream.
        text_steps: denoising steps where there is no picture.
        video_steps: denoising steps where there is one; the first is set by the noise that is put on.
        size: (width, height) that it was made for.
        context: with 0, a chunk looks at what earlier chunks wrote when they were made. Else so many latent frames are
            run again before each chunk, at the first positions, and nothing older is seen.
        attention_bias: the weight of remembered frames by default; 1 leaves attention as it is.
    """

    name: str
    chunk: int
    window: Window
    text_steps: tuple[int, ...]
    video_steps: tuple[int, ...]
    size: tuple[int, int]
    context: int = 0
    attention_bias: float = 1.0

    @property
    def frames(self) -> int:
        """Pictures of a chunk."""
        return FRAMES_PER_LATENT * self.chunk

    @property
    def first_frames(self) -> int:
        """Pictures of the first chunk: the first latent frame holds one picture, every other one four."""
        return 1 + FRAMES_PER_LATENT * (self.chunk - 1)

    def delay_frames(self, works_ahead: bool = False) -> int:
        """By how many pictures the output is behind the input; one chunk more where chunks are made beside the next."""
        return (2 if works_ahead else 1) * self.frames - 1


# These were distilled at 1000, 750, 500 and 250 of a schedule that is shifted by 5 (`warp_denoising_step` of their
# configurations): t becomes 5 t / (1 + 4 t), with t of 0..1. What stands here is what the model was told.
_FOUR, _TWO = (1000, 937, 833, 625), (1000, 750)
_LARGE = (576, 320)

# memflow is not here: it needs a bank of memories beside the window. Steps, windows and sizes are facts of the
# published configurations (StreamDiffusionV2, LongLive, Reward Forcing, Krea Realtime).
PIPELINES: dict[str, Pipeline] = {
    made.name: made
    for made in (
        Pipeline("streamdiffusionv2", 1, Window(6), (1000, 750), (750, 250), (512, 512)),
        Pipeline("longlive", 3, Window(12, 3), _FOUR, _TWO, _LARGE),
        Pipeline("reward_forcing", 3, Window(9, 3), _FOUR, _TWO, _LARGE),
        Pipeline("krea_realtime_video", 3, Window(6), _FOUR, _TWO, _LARGE, context=3, attention_bias=0.3),
    )
}


def pipeline_of(name: str) -> Pipeline:
    """A pipeline by its name.

    Raises:
        ConfigError: it is not known.
    """
    if name not in PIPELINES:
        raise ConfigError(f"pipeline {name!r} is unknown", hint=f"one of {', '.join(PIPELINES)}")
    return PIPELINES[name]


def check_size(width: int, height: int) -> tuple[int, int]:
    """A size that a transformer can divide into tokens.

    Raises:
        ConfigError: a side is no multiple of 16, or out of range.
    """
    for name, side in (("width", width), ("height", height)):
        if not PATCH <= side <= 2048 or side % PATCH:
            raise ConfigError(
                f"{name} is {side}", code="bad_size", hint=f"use a multiple of {PATCH} from {PATCH} to 2048"
            )
    return width, height
