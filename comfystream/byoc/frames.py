"""Frames as a `FrameProcessor` sees them. A tensor is made when it is asked for, so a frame that is passed on costs
nothing.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from comfystream import frames
from comfystream.errors import MediaError
from comfystream.media.convert import ImageWriter, TensorReader

if TYPE_CHECKING:
    import av
    import torch

__all__ = ["AudioFrame", "VideoFrame", "to_sound"]


class VideoFrame:
    """One picture.

    Attributes:
        timestamp: media time in units of `time_base` seconds.
        time_base: seconds, as a fraction.
    """

    def __init__(self, frame: frames.VideoFrame, tensor: torch.Tensor | None = None) -> None:
        self._frame = frame
        self._tensor = tensor
        self._is_replaced = tensor is not None

    @classmethod
    def from_frame(cls, frame: frames.VideoFrame) -> VideoFrame:
        """A view of one of the stream's frames."""
        return cls(frame)

    @property
    def timestamp(self) -> int:
        """Media time in units of `time_base` seconds."""
        return self._frame.pts

    @property
    def time_base(self) -> Fraction:
        """Seconds."""
        return self._frame.time_base

    @property
    def width(self) -> int:
        """Of the picture that came in."""
        return self._frame.image.width

    @property
    def height(self) -> int:
        """Of the picture that came in."""
        return self._frame.image.height

    @property
    def image(self) -> av.VideoFrame:
        """The picture as it came in, as PyAV has it; its own time fields mean nothing."""
        return self._frame.image

    @property
    def tensor(self) -> torch.Tensor:
        """float32 [1, height, width, 3], RGB, 0..1, on the CPU."""
        if self._tensor is None:
            self._tensor = TensorReader().read(self._frame.image)
        return self._tensor

    @property
    def frame(self) -> frames.VideoFrame:
        """The stream's frame that this is a view of."""
        return self._frame

    def replace_tensor(self, tensor: torch.Tensor) -> VideoFrame:
        """The same moment with another picture: [batch,] height, width, channels or [batch,] channels, height, width.

        Args:
            tensor: 1, 3 or 4 channels, 0..1 or uint8, any size and device.
        """
        return VideoFrame(self._frame, tensor)

    def replace_image(self, image: av.VideoFrame) -> VideoFrame:
        """The same moment with another picture, as PyAV has it."""
        old = self._frame
        return VideoFrame(frames.VideoFrame(old.id, old.pts, old.time_base, image, old.stamps))

    def to_frame(self, writer: ImageWriter) -> frames.VideoFrame:
        """What goes out.

        Raises:
            MediaError: the tensor is no picture.
        """
        if not self._is_replaced:
            return self._frame
        old, image = self._frame, writer.write(_channels_last(self._tensor), self._frame.image)
        return frames.VideoFrame(old.id, old.pts, old.time_base, image, old.stamps)


def _channels_last(tensor: Any) -> Any:
    if not hasattr(tensor, "dim"):
        raise MediaError(
            f"a picture must be a torch tensor, got {type(tensor).__name__}",
            code="not_a_picture",
            hint="return frame.replace_tensor(tensor), or the frame itself",
        )
    shape = tuple(tensor.shape)
    if len(shape) in (3, 4) and shape[-1] not in (1, 3, 4) and shape[-3] in (1, 3, 4):
        return tensor.movedim(-3, -1)
    return tensor


class AudioFrame:
    """A run of sound.

    Attributes:
        samples: float32 [channels, samples], nominal range -1..1.
        rate: samples per second and channel.
    """

    format = "fltp"

    def __init__(self, frame: frames.AudioFrame) -> None:
        self._frame = frame
        self.samples: NDArray[np.float32] = frame.samples
        self.rate = frame.sample_rate

    @property
    def timestamp(self) -> int:
        """Media time of the first sample in units of `time_base` seconds."""
        return self._frame.pts

    @property
    def time_base(self) -> Fraction:
        """Seconds."""
        return self._frame.time_base

    @property
    def nb_samples(self) -> int:
        """Samples per channel."""
        return int(self.samples.shape[-1])

    @property
    def layout(self) -> str:
        """FFmpeg's name for the channels."""
        return "mono" if self.samples.shape[0] == 1 else "stereo"

    def replace_samples(self, samples: NDArray[np.float32]) -> AudioFrame:
        """The same moment with other samples: float32 [channels, samples] or [samples]."""
        made = AudioFrame(self._frame)
        made.samples = samples
        return made


def to_sound(given: AudioFrame) -> frames.AudioFrame:
    """What goes out.

    Raises:
        MediaError: the samples are none.
    """
    came, samples = given._frame, given.samples
    if samples is came.samples:
        return came
    samples = np.asarray(samples, np.float32)
    samples = samples[np.newaxis] if samples.ndim == 1 else samples
    if samples.ndim != 2 or not 1 <= samples.shape[0] <= 8:
        raise MediaError(f"sound must be [channels, samples], got {list(samples.shape)}", code="not_sound")
    return frames.AudioFrame(came.id, came.pts, came.time_base, samples, int(given.rate), came.stamps)
