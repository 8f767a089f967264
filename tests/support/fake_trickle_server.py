"""A trickle server whose every answer a test scripts: for what a real one does only when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable


class Exchange:
    """One request, as it comes in, and the means to answer it."""

    def __init__(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        first, *lines = head.split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.what = self.path.rsplit("/", 1)[-1]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.connection = connection
        self.body = b""
        self.is_ended = False
        self.is_cut = False
        self._grown = asyncio.Event()
        self._reader, self._writer = reader, writer

    @property
    def number(self) -> int:
        return int(self.what)

    async def follow(self) -> None:
        """Take the body in until it ends or the client hangs up."""
        if self.headers.get("transfer-encoding") == "chunked":
            try:
                while size := int((await self._reader.readuntil(b"\r\n")).strip() or b"0", 16):
                    self.body += (await self._reader.readexactly(size + 2))[:-2]
                    self._wake()
                await self._reader.readexactly(2)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.is_cut = True
        self.is_ended = not self.is_cut
        self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._grown.wait()

    async def first_byte(self) -> None:
        await self.until(lambda: bool(self.body))

    async def whole(self) -> None:
        await self.until(lambda: self.is_ended or self.is_cut)

    # --- answers

    def interim(self) -> None:
        self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def start(self, status: int = 200, *, length: int | None = None, **headers: object) -> None:
        """A head; `Lp_Trickle_Seq=3` is the header of that name. Without a length the body is chunked."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": length}
        lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        self._writer.write("\r\n".join(lines).encode())

    def chunk(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")

    def answer(self, status: int = 200, body: bytes = b"", **headers: object) -> None:
        self.start(status, length=len(body), **headers)
        self._writer.write(body)

    def segment(self, body: bytes, seq: int) -> None:
        self.start(Lp_Trickle_Seq=seq)
        self.chunk(body)
        self.end()

    def done(self) -> None:
        """What a server says to a publisher at the end of a segment."""
        self.answer(Lp_Trickle_Seq=self.what)

    def hang_up(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


class FakeTrickleServer:
    """Keeps what it heard; `script` is called for each request, on a task of its own."""

    def __init__(self, script: Script) -> None:
        self.heard: list[Exchange] = []
        self.url = ""
        self._script = script
        self._connections = 0
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeTrickleServer]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ch"
        try:
            yield self
        finally:
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")
                await self._exchange(Exchange(head, reader, writer, number))
                await writer.drain()
        writer.close()

    async def _exchange(self, exchange: Exchange) -> None:
        self.heard.append(exchange)
        self._changed.set()
        self._changed = asyncio.Event()
        script = asyncio.ensure_future(self._script(exchange))
        try:
            await exchange.follow()
            if not exchange.is_cut:
                await script
        finally:
            script.cancel()
        if exchange.is_cut:
            raise ConnectionResetError

    async def until(self, condition: Callable[[FakeTrickleServer], bool]) -> None:
        """Wait until what was heard fulfils it; looked at with each request."""
        while not condition(self):
            await self._changed.wait()

    def of(self, method: str) -> list[Exchange]:
        return [exchange for exchange in self.heard if exchange.method == method]

    def numbers(self, method: str) -> list[str]:
        return [exchange.what for exchange in self.of(method)]
