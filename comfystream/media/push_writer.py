"""A live session to a receiver of RTMP, SRT or RTSP, through the program `ffmpeg`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections import deque
from typing import IO

import av.error

from comfystream.errors import ComfyStreamError, MediaError, NetworkError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.live_mux import LiveMux, MuxOptions
from comfystream.media.push_target import PushCommand, push_command, shown, without_secrets

__all__ = ["PushWriter"]

END_S = 2.0
SAY_WHY_S = 0.5
_KEPT_LINES = 8
_SERVER_SAYS = "Server error: "


def push_options(kbps: int) -> MuxOptions:
    """H.264 and AAC as receivers of live streams want it."""
    return MuxOptions(
        format="flv",
        muxer={"flvflags": "no_duration_filesize", "flush_packets": "1", "max_interleave_delta": "500000"},
        video={
            "preset": "veryfast",
            "tune": "zerolatency",
            "profile": "main",
            "b": f"{kbps}k",
            "maxrate": f"{kbps}k",
            "bufsize": f"{2 * kbps}k",
        },
        has_silence=True,
    )


class _Pipe:
    """The program's input; what it has taken is counted."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self.size = 0

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            left = left[self._pipe.write(left) or 0 :]
        self.size += len(data)
        return len(data)


def _start(command: PushCommand) -> subprocess.Popen[bytes]:
    """The program; what is secret it reads from a pipe, because others can read its arguments."""
    if not command.preset:
        return _open(command.arguments)
    *arguments, address = command.arguments
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as file:
            file.write(command.preset.encode())  # two short lines: the pipe takes them at once
        return _open([*arguments, "-fpre", f"/dev/fd/{reading}", address], reading)
    finally:
        os.close(reading)


def _open(arguments: list[str], *files: int) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        arguments, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True, pass_fds=files
    )


class PushWriter:
    """One connection to a receiver; when it breaks, another writer makes the next.

    Args:
        url: where to.
        kbps: of the pictures.
        expects: what the session is known to give, as `LiveMux` takes it.

    Raises:
        MediaError: the program is not installed.
    """

    def __init__(self, url: str, kbps: int, expects: frozenset[str] = frozenset()) -> None:
        self._url = url
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process = _start(push_command(url))
        assert self._process.stdin is not None
        self._pipe = _Pipe(self._process.stdin)
        self._mux = LiveMux(self._pipe, push_options(kbps), expects)
        self._sent = 0
        self._watchers = [
            threading.Thread(target=work, args=(stream,), name=f"push-{self._process.pid}", daemon=True)
            for work, stream in ((self._follow, self._process.stdout), (self._listen, self._process.stderr))
        ]
        for watcher in self._watchers:
            watcher.start()

    @property
    def frames(self) -> int:
        """How many were written."""
        return self._mux.frames

    @property
    def size(self) -> int:
        """Bytes that were handed over."""
        return self._pipe.size

    @property
    def left_out(self) -> int:
        """Frames that had no track, or were from before the beginning."""
        return self._mux.left_out

    @property
    def is_running(self) -> bool:
        """Whether the receiver takes them."""
        return self._sent > 0

    def write(self, frame: VideoFrame | AudioFrame, now_ns: int) -> None:
        """Encode one frame; what `LiveWriter.write` says."""
        if self._process.poll() is not None:
            raise self._broken()
        try:
            self._mux.write(frame, now_ns)
        except (av.error.FFmpegError, OSError) as error:
            raise self._explained(error) from error

    def finish(self) -> None:
        """Send the rest and say goodbye, in bounded time."""
        guard = threading.Timer(END_S, self.abort)
        guard.start()
        try:
            self._mux.finish()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
        except (av.error.FFmpegError, OSError) as error:
            raise self._explained(error) from error
        finally:
            guard.cancel()
            self.close()

    def abort(self) -> None:
        """End the program; a `write` that waits fails."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        """End the program and what follows it. Idempotent."""
        self.abort()
        self._mux.close()  # into a pipe that nobody reads: it does not wait
        self._process.wait()
        for watcher in self._watchers:
            watcher.join(END_S)

    def _explained(self, error: av.error.FFmpegError | OSError) -> ComfyStreamError:
        if isinstance(error, BrokenPipeError) or self._process.poll() is not None:
            return self._broken()
        self.close()
        return MediaError(f"{shown(self._url)}: the stream cannot be written: {error}", code="push_failed")

    def _broken(self) -> NetworkError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(SAY_WHY_S)
        self.close()
        lines = [line for line in self._said if line]
        told = [line.partition(_SERVER_SAYS)[2] for line in lines if _SERVER_SAYS in line]  # more than the last line
        said = (told or lines or [""])[-1]
        place = shown(self._url)
        address, secrets = without_secrets(self._url)
        said = said.replace(address, "")
        for name, secret in secrets.items():  # servers like to repeat what they were asked for
            is_key = name != "rtmp_app" or len(secrets) == 1
            for word in (secret, secret.partition("?")[0]):
                said = said.replace(word, "...") if is_key and word else said
        reason = said.strip(" :")[:200] or f"ffmpeg ended with code {self._process.returncode}"
        return NetworkError(f"{place}: {reason}", code="push_failed")

    def _follow(self, stream: IO[bytes]) -> None:
        """`ffmpeg -progress` writes `total_size=N` twice a second."""
        with stream:
            for line in stream:
                name, _, value = line.decode("ascii", "replace").strip().partition("=")
                if name in ("total_size", "frame") and value.isdigit():
                    self._sent = max(self._sent, int(value))

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._said.append(line.decode("utf-8", "replace").strip())
