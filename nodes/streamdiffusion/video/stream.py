"""One stream of video through a model. Any thread may replace its settings; the next chunk uses them."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from comfystream.accel.runner import memory_trouble
from comfystream.errors import ConfigError

from ..core.blend import Glide
from ..core.video import ChunkDenoiser, ChunkRing, VideoSteps, motion_noise_scale
from ..preprocess import pictures_of
from ..text import Embedding
from .ahead import Ahead
from .autoencoder import AutoencoderStream
from .causal import CausalWan, how_of
from .model import VideoModel
from .pipelines import FRAMES_PER_LATENT
from .settings import VideoSettings

__all__ = ["VideoStream"]

SCALE_JUMP = 0.1  # a larger step of the noise from one chunk to the next is another scene
ENDLESS = 1 << 62


class _Context:
    """The last clean latents and pictures, for pipelines that run them again before each chunk.

    The first latent frame of a stream holds one picture, so the first frame of a context is made of one, too: of the
    picture that stands at its place.
    """

    def __init__(self, count: int, encoder: AutoencoderStream) -> None:
        self._encoder = encoder
        self._latents: deque[Tensor] = deque(maxlen=count)
        self._pictures: deque[Tensor] = deque(maxlen=1 + FRAMES_PER_LATENT * (count - 1))
        self._made = 0

    def add(self, latents: Tensor, pictures: Tensor) -> None:
        """[1, k, channels, h, w], and what was made of them."""
        self._made += latents.shape[1]
        self._latents.extend(latents.split(1, 1))
        self._pictures.extend(pictures.split(1))

    def latents(self) -> Tensor:
        """What the next chunk looks at."""
        kept = list(self._latents)
        if self._made > len(kept):
            self._encoder.forget()
            kept[0] = self._encoder.encode(self._pictures[0])
        return torch.cat(kept, 1)

    def forget(self) -> None:
        """Begin anew."""
        self._latents.clear()
        self._pictures.clear()
        self._made = 0


class VideoStream:
    """Frames in, frames out, `delay_frames` later; or frames out of a prompt alone. Used by one thread.

    Args:
        model: what makes the pictures.
        settings: to begin with. Replace the attribute to change something; it is read once per frame, without a lock.

    Attributes:
        beginnings: how often it began, the first time included.
        denoiser, autoencoder: its parts, from the first frame on; for who measures them.
    """

    def __init__(self, model: VideoModel, settings: VideoSettings) -> None:
        self._ahead = Ahead(model.device)
        self.model = model
        self.settings = settings.checked()
        pipeline = model.pipeline
        self._ring = ChunkRing(pipeline.frames, pipeline.first_frames)
        self._kind: tuple[Any, ...] = ()
        self._resets = settings.resets
        self._glide = Glide()
        self._aimed: Embedding | None = None
        self._told: Tensor | None = None
        self._steps: tuple[int, ...] = ()
        self._scale: float | None = None
        self.beginnings = 0

    @property
    def delay_frames(self) -> int:
        """By how many frames the output is behind a picture that comes in; of a prompt alone there is no delay."""
        return self.model.pipeline.delay_frames(self.settings.works_ahead)

    @property
    def places(self) -> list[str]:
        """What its networks are run by, for people; empty before the first frame."""
        return [self._causal.place, *self.autoencoder.places] if self._kind else []

    def reset(self) -> None:
        """Begin anew with the next frame. What waits is dropped; the last result is held until there is another."""
        self._ahead.drop()
        self._ring.reset()
        if self._kind:
            self._forget()

    def __del__(self) -> None:
        """A chunk that is on its way ends first: its weights and pictures must not be given to others meanwhile."""
        self._ahead.drop()

    @torch.inference_mode()
    def process(self, image: Tensor | None) -> Tensor | None:
        """As many frames as are given, or one where nothing comes in.

        Args:
            image: [frames, height, width, 3] of 0..1, or None to make video of the prompt alone.

        Returns:
            [frames, height, width, 3] in the size of the settings, on the model's device; None before the first result.

        Raises:
            ConfigError: the settings cannot be used. The stream stays as it is.
        """
        settings = self.settings.checked()
        self._check_prompt(settings.prompt)
        size = settings.size or self.model.pipeline.size
        self._be(size, image is not None, settings)
        place = self.model.device, self.model.dtype
        pictures = [None] if image is None else pictures_of(image, size, *place).split(1)
        made = [one for one in [self._tick(picture, settings) for picture in pictures] if one is not None]
        return torch.cat(made).movedim(1, -1) if made else None

    def _check_prompt(self, prompt: Embedding) -> None:
        wanted = (1, self.model.text.tokens, self.model.transformer.config.text_dim)
        if tuple(prompt.tokens.shape) != wanted:
            raise ConfigError(
                f"this prompt is {list(prompt.tokens.shape)}, the video model reads {list(wanted)}",
                hint="encode it by the node StreamVideoPrompt of the same model",
            )

    def _be(self, size: tuple[int, int], is_video: bool, settings: VideoSettings) -> None:
        """Be made for this size and this mode; another one, or a wish to, begins anew."""
        if (size, is_video) != self._kind:
            self._ahead.drop()
            if not self._kind or size != self._kind[0]:
                self._ahead.now(lambda: self._make_parts(size))
            self._kind = (size, is_video)
            self.reset()
        elif settings.resets != self._resets:
            self.reset()
        self._resets = settings.resets

    def _make_parts(self, size: tuple[int, int]) -> None:
        model, (width, height) = self.model, size
        pipeline, shrink = model.pipeline, model.autoencoder.shrink
        how = how_of(model.acceleration, model.device)
        latent = (height // shrink, width // shrink)
        self._shape = (1, pipeline.chunk, model.autoencoder.channels, *latent)
        self._causal = CausalWan(
            model.step, pipeline.chunk, pipeline.window, latent, model.text.tokens, model.acceleration
        )
        self._causal.trust(self._bias_of(self.settings))
        self._causal.prepare()
        self.denoiser = ChunkDenoiser(self._causal, writes_clean=not pipeline.context)
        self.autoencoder = AutoencoderStream(model.autoencoder, (height, width), how)
        self._context = None
        if pipeline.context:
            plain = AutoencoderStream(model.autoencoder, (height, width), how_of("none", model.device))
            self._context = _Context(pipeline.context, plain)
        self._most = ENDLESS if pipeline.context else self._causal.most_frames
        self._told = None

    def _forget(self) -> None:
        """Keys, values, and what the autoencoder remembers."""
        self.beginnings += 1
        self.denoiser.reset()
        self.autoencoder.forget()
        self._scale = None
        if self._context is not None:
            self._context.forget()

    def _tick(self, picture: Tensor | None, settings: VideoSettings) -> Tensor | None:
        """One frame in or none, one frame out."""
        if picture is None:
            if self._ring.is_empty:
                self._put(None, settings)
        elif (chunk := self._ring.push(picture)) is not None:
            self._put(torch.cat(chunk), settings)
        return self._ring.pop()

    def _put(self, pictures: Tensor | None, settings: VideoSettings) -> None:
        """Make a chunk, or have it made and take the one before. One that fails leaves a stream that begins anew."""
        try:
            before = self._ahead.take()
            if before is not None:
                self._ring.put(before.split(1))
            if not settings.works_ahead:
                self._ring.put(self._ahead.now(lambda: self._chunk(pictures, settings)).split(1))
                return
            if pictures is None and before is None:  # nothing to show meanwhile
                self._ring.put(self._ahead.now(lambda: self._chunk(None, settings)).split(1))
            self._ahead.start(lambda: self._chunk(pictures, settings))
        except Exception:
            self.reset()
            raise

    def _chunk(self, pictures: Tensor | None, settings: VideoSettings) -> Tensor:
        """The next chunk; a full device is said with the model's name."""
        with memory_trouble(f"video by {self.model.name}"):
            return self._make(pictures, settings)

    def _make(self, pictures: Tensor | None, settings: VideoSettings) -> Tensor:
        pipeline, is_video = self.model.pipeline, pictures is not None
        steps, scale = settings.steps_of(pipeline, is_video), self._noise_scale(pictures, settings)
        if self.denoiser.start and self._must_forget(settings, steps, scale, is_video):
            self._forget()
            if pictures is not None:
                pictures = pictures[-pipeline.first_frames :]
        self._steps, self._scale = steps, scale
        self._tell(settings)
        self._causal.trust(self._bias_of(settings))
        source = None if pictures is None else self.autoencoder.encode(pictures)
        if self._context is not None and self.denoiser.start:
            self._causal.recall(self._context.latents(), self.denoiser.start)
        told = VideoSteps(steps, scale if is_video else 1.0, settings.seed, self._most)
        latents = self.denoiser.chunk(self._shape, told, source)
        made = self.autoencoder.decode(latents)
        if self._context is not None:
            self._context.add(latents, made)
        return made

    def _bias_of(self, settings: VideoSettings) -> float:
        bias = settings.attention_bias
        return self.model.pipeline.attention_bias if bias is None else bias

    def _noise_scale(self, pictures: Tensor | None, settings: VideoSettings) -> float:
        if pictures is None or not settings.follows_motion:
            return settings.noise_scale
        before = settings.noise_scale if self._scale is None else self._scale
        return motion_noise_scale(pictures, before)

    def _must_forget(self, settings: VideoSettings, steps: tuple[int, ...], scale: float, is_video: bool) -> bool:
        """Whether what is remembered does not fit the chunk to come."""
        if self.denoiser.start + self.model.pipeline.chunk > self._most:
            return True
        if not settings.manages_cache:
            return False
        is_switched = is_video and settings.prompt is not self._aimed and not settings.transition_chunks
        has_jumped = is_video and self._scale is not None and abs(scale - self._scale) > SCALE_JUMP
        return is_switched or has_jumped or steps != self._steps

    def _tell(self, settings: VideoSettings) -> None:
        """The prompt, or what is between two."""
        if settings.prompt is not self._aimed:
            self._aimed = settings.prompt
            tokens = settings.prompt.tokens.to(self.model.device, self.model.dtype)
            self._glide.aim([tokens], settings.transition_chunks, settings.transition_method)
        (now,) = self._glide.step()
        if now is not self._told:
            self._causal.tell(now)
            self._told = now
