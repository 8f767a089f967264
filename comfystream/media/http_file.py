"""A file over HTTP that FFmpeg reads through us: every address is looked at first, and reading can be ended."""

from __future__ import annotations

import base64
import http.client
import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from comfystream.errors import NetworkError

__all__ = ["HttpFile"]

MOST_REDIRECTIONS = 5
POLL_S = 0.25


class _Patient(io.RawIOBase):
    """The bytes of a socket: waits in small steps, so that it can be told to stop; at its end then.

    Python's own file of a socket cannot be read any more after the first timeout.
    """

    def __init__(self, sock: socket.socket, stopped: threading.Event, timeout_s: float) -> None:
        self._sock = sock
        self._held = sock.makefile("rb", buffering=0)  # http.client closes the socket before the body is read
        self._stopped = stopped
        self._timeout_s = timeout_s
        sock.settimeout(POLL_S)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        deadline = time.monotonic() + self._timeout_s
        while not self._stopped.is_set():
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise TimeoutError("no answer in time") from None
        return 0

    def close(self) -> None:
        if not self.closed:
            self._held.close()
        super().close()


class _Made:
    """What http.client takes for a socket: all that it asks of it is a file."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def makefile(self, mode: str) -> io.BufferedReader:
        return self._file


class HttpFile:
    """What stands at an address, to read and, where the server knows ranges, to seek in.

    Args:
        url: http or https.
        may_open: raises when an address must not be opened; asked for each redirection.
        stopped: ends waiting for the other side.
        timeout_s: how long the other side may be silent.

    Raises:
        NetworkError: it is not there.
    """

    def __init__(self, url: str, may_open: Callable[[str], object], stopped: threading.Event, timeout_s: float) -> None:
        self._url = url
        self._may_open = may_open
        self._stopped = stopped
        self._timeout_s = timeout_s
        self._at = 0
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None
        response = self._response = self._get(0)
        length = response.getheader("Content-Length")
        self._length = int(length) if length is not None and length.isdecimal() else None
        self._has_ranges = response.getheader("Accept-Ranges", "").lower() == "bytes"

    def _get(self, start: int) -> http.client.HTTPResponse:
        for _ in range(MOST_REDIRECTIONS):
            response = self._ask(self._url, start)
            if response.status not in (301, 302, 303, 307, 308):
                break
            self._url = urljoin(self._url, response.getheader("Location", ""))
            self._may_open(self._url)
        if response.status not in (200, 206) or (start and response.status != 206):
            raise NetworkError(
                f"{_shown(self._url)}: the server says {response.status} {response.reason}", code="unreachable"
            )
        return response

    def _ask(self, url: str, start: int) -> http.client.HTTPResponse:
        self._let_go()
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"User-Agent": "ComfyStream", "Accept-Encoding": "identity"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            self._connection = kind(parts.hostname or "", parts.port, timeout=self._timeout_s)
            self._connection.response_class = self._response_of  # type: ignore[assignment]
            self._connection.request("GET", _target(parts), headers=headers)
            response = self._connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NetworkError(f"{_shown(url)}: {_reason(error)}", code="unreachable") from error
        return response

    def _response_of(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        file: Any = _Made(io.BufferedReader(_Patient(sock, self._stopped, self._timeout_s)))
        return http.client.HTTPResponse(file, *args, **kwargs)

    def read(self, size: int = -1) -> bytes:
        """What is there, at most `size` bytes; empty at the end, and when it was stopped."""
        assert self._response is not None
        try:
            data = self._response.read1(size)
        except http.client.HTTPException as error:
            if self._stopped.is_set():
                return b""
            raise ConnectionError(_reason(error)) from error
        self._at += len(data)
        return data

    def seekable(self) -> bool:
        """Whether the server gives parts."""
        return self._has_ranges and self._length is not None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go on elsewhere."""
        if not self.seekable() or self._length is None:
            raise io.UnsupportedOperation("seek")
        at = offset + (self._at if whence == io.SEEK_CUR else self._length if whence == io.SEEK_END else 0)
        if at != self._at and at < self._length:
            self._response = self._get(at)
        self._at = at
        return at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def close(self) -> None:
        """Let go. Idempotent."""
        self._let_go()

    def _let_go(self) -> None:
        if self._response is not None:
            self._response.close()  # it holds the socket
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
