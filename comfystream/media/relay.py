"""A stream that PyAV's FFmpeg cannot open by itself, such as SRT: fetched by the `ffmpeg` program, unchanged."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

from comfystream.errors import MediaError
from comfystream.media.push_target import without_secrets

__all__ = ["Relay"]

POLL_MS = 200
MOST_REASON = 300


class Relay:
    """The stream as MPEG-TS, to read. Its process ends with it.

    Args:
        url: what to fetch; one of a kind that `protocols` allows.
        name: for messages.
        protocols: FFmpeg's whitelist.
        stopped: ends waiting for the other side.
        first_s, timeout_s: how long it may take to the first bytes, and be silent after that.

    Raises:
        MediaError: there is no `ffmpeg` program.
    """

    def __init__(
        self, url: str, name: str, protocols: str, stopped: threading.Event, first_s: float, timeout_s: float
    ) -> None:
        program = shutil.which("ffmpeg")
        if program is None:
            raise MediaError(
                f"{name}: such addresses are read by the program ffmpeg, which is not here",
                code="no_protocol",
                hint="install ffmpeg on the server",
            )
        self._stopped = stopped
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + first_s
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the relay
        options = {"probesize": "500000", "analyzeduration": "1000000"}
        options["listen_timeout"] = str(int(first_s * 1e6))  # nor does it outlive us for long
        take = ["-map", "0:v:0", "-map", "0:a:0?", "-c", "copy"]
        give = ["-f", "mpegts", "-muxdelay", "0", "-muxpreload", "0", "-flush_packets", "1", "pipe:1"]
        with _input(url, options, protocols) as (arguments, files):
            self._process = subprocess.Popen(
                [program, "-nostdin", "-hide_banner", "-loglevel", "error", "-fflags", "nobuffer"]
                + [*arguments, *take, *give],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._said,
                pass_fds=files,
            )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN | select.POLLHUP)

    def read(self, size: int = -1) -> bytes:
        """What is there, at most `size` bytes; empty at the end, when it was stopped, and when nothing comes."""
        while not self._stopped.is_set() and time.monotonic() < self._deadline:
            if self._poll.poll(POLL_MS):
                self._deadline = time.monotonic() + self._timeout_s
                return os.read(self._pipe, size if size > 0 else 1 << 16)
        return b""

    @property
    def reason(self) -> str:
        """What the program says about its end; empty when it says nothing."""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else ""
        return last.rpartition(": ")[2][:MOST_REASON]

    def close(self) -> None:
        """End the process. Idempotent."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            self._said.close()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def _input(url: str, options: dict[str, str], protocols: str) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Arguments that make ffmpeg read an address, and files that it needs for that.

    Others can read a program's arguments. An address with a passphrase or a key is told in a list of one entry, through
    a pipe; on Windows, where they cannot, as it is.
    """
    if not without_secrets(url)[1] or sys.platform == "win32":
        given = [word for name, value in options.items() for word in (f"-{name}", value)]
        yield ["-protocol_whitelist", protocols, *given, "-f", "mpegts", "-i", url], ()
        return
    reading, writing = os.pipe()
    try:
        with open(writing, "w", encoding="utf-8") as file:
            file.write(_concat_list(url, options))  # less than what a pipe takes at once
        allowed = f"{protocols},file,fd,pipe"
        yield ["-protocol_whitelist", allowed, "-f", "concat", "-safe", "0", "-i", f"/dev/fd/{reading}"], (reading,)
    finally:
        os.close(reading)


def _concat_list(url: str, options: dict[str, str]) -> str:
    """A list of one address for FFmpeg's demuxer "concat"."""
    address = url.replace("'", r"'\''")
    lines = [
        "ffconcat version 1.0",
        f"file '{address}'",
        *(f"option {name} {value}" for name, value in options.items()),
    ]
    return "\n".join([*lines, ""])
