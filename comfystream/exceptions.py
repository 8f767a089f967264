"""Errors under the names that node packs have always imported; they belong to the tree in `comfystream.errors`."""

from __future__ import annotations

from comfystream.errors import MediaError

__all__ = ["ComfyStreamAudioBufferError", "ComfyStreamInputTimeoutError"]


class ComfyStreamInputTimeoutError(MediaError, TimeoutError):
    """No live input came in time.

    Args:
        input_type: "video" or "audio".
        timeout_seconds: how long was waited.
    """

    default_code = "input_timeout"

    def __init__(self, input_type: str, timeout_seconds: float) -> None:
        super().__init__(f"no {input_type} input for {timeout_seconds:g} s", hint="is the stream still sending?")
        self.input_type = input_type
        self.timeout_seconds = timeout_seconds


class ComfyStreamAudioBufferError(MediaError):
    """The sound stopped before a buffer was full.

    Args:
        timeout_seconds: how long was waited.
        needed_samples: how many samples make a buffer.
        available_samples: how many had come.
    """

    default_code = "audio_buffer"

    def __init__(self, timeout_seconds: float, needed_samples: int, available_samples: int) -> None:
        super().__init__(
            f"sound ran dry: {available_samples} of {needed_samples} samples, nothing for {timeout_seconds:g} s",
            hint="a smaller buffer_size needs less sound at once",
        )
        self.timeout_seconds = timeout_seconds
        self.needed_samples = needed_samples
        self.available_samples = available_samples
