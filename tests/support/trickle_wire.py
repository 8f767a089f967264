"""A trickle server on a thread of its own, and plain sockets that show what really goes over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from comfystream.trickle.server import TrickleOptions, TrickleServer

DEADLINE_S = 30.0
QUIET_S = 0.15
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_names = itertools.count()


def new_name(word: str = "ch") -> str:
    """A channel that no test has used, on a server that others may use, too."""
    return f"{word}-{os.getpid()}-{next(_names)}"


class RunningServer:
    """A server with its own loop; `on_loop` runs something there and gives its result."""

    def __init__(self, options: TrickleOptions, base_path: str = "/", port: int = 0) -> None:
        self.url = ""
        self._options, self._base_path, self._port = options, base_path, port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self.server: TrickleServer
        self._thread = threading.Thread(target=self._run, name="trickle-server")
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.server = TrickleServer(self._options)
        async with self.server.serving(port=self._port, base_path=self._base_path) as url:
            self.url = url
            self._ready.set()
            await self._stop.wait()

    def on_loop(self, do: Callable[[TrickleServer], Any]) -> Any:
        async def done() -> Any:
            return do(self.server)

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(DEADLINE_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def running(base_path: str = "/", port: int = 0, **options: Any) -> Iterator[RunningServer]:
    server = RunningServer(TrickleOptions(**options), base_path, port)
    try:
        yield server
    finally:
        server.close()


class Answer:
    """The head of a response."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.version, status, *reason = first.split(" ", 2)
        self.status = int(status)
        self.reason = "".join(reason)
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def __getitem__(self, name: str) -> str | None:
        return self.headers.get(name.lower())

    @property
    def seq(self) -> int:
        return int(self.headers["lp-trickle-seq"])

    @property
    def latest(self) -> int | None:
        text = self["Lp-Trickle-Latest"]
        return None if text is None else int(text)

    @property
    def is_closed(self) -> bool:
        return "lp-trickle-closed" in self.headers


class Wire:
    """One connection, one request, byte by byte."""

    def __init__(
        self, base: str, method: str, path: str, headers: dict[str, str] | None = None, body: str = ""
    ) -> None:
        parts = urlsplit(base)
        self._is_head = method == "HEAD"
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 80), DEADLINE_S)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self._data = b""
        self._is_chunked = False
        self._left: int | None = None
        lines = [f"{method} {parts.path}{path} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", "" if body == "chunked" else body]).encode())

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # --- out

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    # --- in

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the server hung up after {self._data!r}")
        self._data += data

    def head(self, with_interim: bool = False) -> Answer:
        """The next head; interim ones only when they are asked for."""
        while True:
            while b"\r\n\r\n" not in self._data:
                self._more()
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            answer = Answer(head)
            if answer.status != 100 or with_interim:
                break
        self._is_chunked = answer["Transfer-Encoding"] == "chunked"
        self._left = 0 if self._is_head else int(answer["Content-Length"] or 0) if not self._is_chunked else None
        return answer

    def read(self, count: int) -> bytes:
        """So many bytes of a chunked body, across chunks."""
        body = b""
        while len(body) < count:
            piece = self._piece()
            assert piece, f"the body ended after {body!r}"
            body += piece
        assert len(body) == count, body
        return body

    def rest(self) -> bytes:
        """The body to its end."""
        if not self._is_chunked:
            while len(self._data) < (self._left or 0):
                self._more()
            body, self._data = self._data[: self._left], self._data[self._left or 0 :]
            return body
        body = b""
        while piece := self._piece():
            body += piece
        return body

    def _piece(self) -> bytes:
        while b"\r\n" not in self._data:
            self._more()
        size, _, self._data = self._data.partition(b"\r\n")
        length = int(size, 16)
        while len(self._data) < length + 2:
            self._more()
        piece, self._data = self._data[:length], self._data[length + 2 :]
        return piece

    def is_waiting(self, for_s: float = QUIET_S) -> bool:
        """True when the server says nothing for a while, keep-alives left aside."""
        until = time.monotonic() + for_s
        try:
            while (left_s := until - time.monotonic()) > 0:
                if self._data.removeprefix(CONTINUE):
                    return False
                self._data = b""
                self.socket.settimeout(left_s)
                self._more()
        except TimeoutError:
            return True
        except EOFError:
            return False
        finally:
            self.socket.settimeout(DEADLINE_S)
        return not self._data.removeprefix(CONTINUE)

    def is_hung_up(self) -> bool:
        """True when the server closes the connection within the deadline."""
        try:
            self._more()
        except (EOFError, ConnectionError):
            return True
        return False


class Peer:
    """Whole requests on a channel; `with` gives open ones."""

    def __init__(self, base: str, name: str) -> None:
        self.base, self.name = base, name

    def open(self, method: str, what: object = None, headers: dict[str, str] | None = None, body: str = "") -> Wire:
        path = f"/{self.name}" if what is None else f"/{self.name}/{what}"
        return Wire(self.base, method, path, headers, body)

    def ask(self, method: str, what: object = None, headers: dict[str, str] | None = None, body: str = "") -> Answer:
        return self.whole(method, what, headers, body)[0]

    def whole(
        self, method: str, what: object = None, headers: dict[str, str] | None = None, body: str = ""
    ) -> tuple[Answer, bytes]:
        with self.open(method, what, headers, body) as wire:
            return wire.head(), wire.rest()

    def create(self, mime: str = "video/MP2T") -> Peer:
        assert self.ask("POST", headers={"Expect-Content": mime}).status == 200
        return self

    def write(self, number: int, text: str) -> Answer:
        return self.ask("POST", number, body=text)

    def get(self, number: int) -> tuple[Answer, bytes]:
        return self.whole("GET", number)

    def next(self) -> int:
        return int(self.whole("GET", "next")[1])

    def wait_for_next(self, number: int) -> None:
        """Until the server is to write that number next."""
        until = time.monotonic() + DEADLINE_S
        while self.next() != number:
            assert time.monotonic() < until, f"next is {self.next()}, not {number}"

    def wait_for_slot(self, number: int) -> None:
        """Until the server knows of a request for that number: only then it can be deleted. Closes it."""
        until = time.monotonic() + DEADLINE_S
        while self.ask("DELETE", number).status != 200:
            assert time.monotonic() < until, f"{number} never took its slot"
