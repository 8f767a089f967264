"""A live session into a file: fragmented MP4, which plays up to its last fragment whatever happens to the process."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Protocol

import av.error

from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.container import output_error
from comfystream.media.fragments import cut_torn_end
from comfystream.media.live_mux import LiveMux, MuxOptions

__all__ = ["LiveWriter", "RecordWriter"]

_LOOK_NS = 1_000_000_000
RECORDING = MuxOptions(
    format="mp4",
    # The index of each fragment stands before it, and every packet is handed to the kernel at once: what a killed
    # process leaves is whole up to its last fragment. Fragments end at key frames, and at least once a second.
    muxer={
        "movflags": "frag_keyframe+delay_moov+default_base_moof",
        "frag_duration": "1000000",
        "flush_packets": "1",
        "max_interleave_delta": "1000000",
    },
    video={"preset": "veryfast", "crf": "20", "bf": "0", "rc-lookahead": "10"},
)


class LiveWriter(Protocol):
    """Takes the frames of a session, on one thread."""

    @property
    def frames(self) -> int:
        """How many were written."""
        ...

    @property
    def size(self) -> int:
        """Bytes that went out."""
        ...

    @property
    def left_out(self) -> int:
        """Frames that had no track, or were from before the beginning."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether bytes arrive where they should."""
        ...

    def write(self, frame: VideoFrame | AudioFrame, now_ns: int) -> None:
        """Encode and send one frame, which came at `now_ns`; may wait.

        Raises:
            MediaError, NetworkError: it cannot go on.
        """
        ...

    def finish(self) -> None:
        """Write the end; raises what `write` raises."""
        ...

    def abort(self) -> None:
        """End a `write` that waits, or the next one, with an error; from any thread. Idempotent."""
        ...

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        ...


class _File:
    """A new file that is written without a buffer, so that each write is with the kernel."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        self.size = 0
        self.is_given_up = False
        self.is_torn = False

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            if self.is_given_up:
                raise OSError(errno.ETIMEDOUT, "the disk did not answer in time")
            if self.is_torn:  # what would fit behind a hole is of no use
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            try:
                left = left[os.write(self._fd, left) :]
            except OSError:
                self.is_torn = True
                raise
        self.size = max(self.size, self.tell())
        return len(data)

    def tell(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._fd, offset, whence)

    @property
    def is_gone(self) -> bool:
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RecordWriter:
    """Writes a recording.

    Args:
        path: a new file in a folder that is there.
        expects: what the session is known to give, as `LiveMux` takes it.

    Raises:
        MediaError: the file is there already, or cannot be made.
    """

    def __init__(self, path: Path, expects: frozenset[str] = frozenset()) -> None:
        self._path = path
        try:
            self._file = _File(path)
        except FileExistsError:
            raise MediaError(f"{path.name} exists already", code="exists", hint="give another name") from None
        except OSError as error:
            raise output_error(path, error) from error
        self._mux = LiveMux(self._file, RECORDING, expects)
        self._looked_ns = 0

    @property
    def frames(self) -> int:
        """How many were written."""
        return self._mux.frames

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    @property
    def left_out(self) -> int:
        """Frames that had no track, or were from before the beginning."""
        return self._mux.left_out

    @property
    def is_running(self) -> bool:
        """Whether it has begun."""
        return self._mux.is_open

    def write(self, frame: VideoFrame | AudioFrame, now_ns: int) -> None:
        """Encode one frame; what `LiveWriter.write` says."""
        try:
            if now_ns - self._looked_ns > _LOOK_NS:
                self._look(now_ns)
            self._mux.write(frame, now_ns)
        except (av.error.FFmpegError, OSError) as error:
            raise self._explained(error) from error

    def finish(self) -> None:
        """Write the end."""
        try:
            self._mux.finish()
        except (av.error.FFmpegError, OSError) as error:
            raise self._explained(error) from error

    def abort(self) -> None:
        """Write no more; what `LiveWriter.abort` says."""
        self._file.is_given_up = True

    def close(self) -> None:
        """Leave the file as it is, but for a fragment that is not whole; one without any is removed."""
        self._mux.close()
        self._file.close()
        size = self.size
        if self._file.is_torn or self._file.is_given_up:
            with contextlib.suppress(OSError):
                size = cut_torn_end(self._path)
        if not size:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _look(self, now_ns: int) -> None:
        self._looked_ns = now_ns
        if self._file.is_gone:
            raise MediaError(f"{self._path.name} was removed while it was written", code="vanished")

    def _explained(self, error: av.error.FFmpegError | OSError) -> MediaError:
        return error if isinstance(error, MediaError) else output_error(Path(self._path.name), error)
