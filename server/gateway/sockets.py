"""Web sockets passed on between a client and a runner: messages, close codes and back-pressure, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from ..http.errors import BadRequest

__all__ = ["MOST_MESSAGE", "is_socket", "pass_socket"]

MOST_MESSAGE = 16 << 20
PING_S = 60.0  # a side that answers nothing for one and a half times that is gone
CLOSE_S = 3.0
MOST_REASON = 123  # bytes that fit into a close frame
_NO_CODE = 0  # a close frame without one

Socket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


@dataclass(frozen=True, slots=True)
class _Goodbye:
    """Why it ends, as whoever is still there is told."""

    code: int
    reason: str


_CLIENT_GONE = _Goodbye(WSCloseCode.GOING_AWAY, "the client has gone")
_RUNNER_GONE = _Goodbye(WSCloseCode.INTERNAL_ERROR, "the runner has gone")
_OVER = _Goodbye(WSCloseCode.GOING_AWAY, "the session has ended")
_TOO_BIG = _Goodbye(WSCloseCode.MESSAGE_TOO_BIG, f"a message has more than {MOST_MESSAGE >> 20} MiB")


def is_socket(request: web.Request) -> bool:
    """Whether the client wants to leave plain HTTP.

    Raises:
        BadRequest: it does, for something else than a web socket.
    """
    if "upgrade" not in request.headers.get("Connection", "").lower():
        return False
    if not web.WebSocketResponse().can_prepare(request).ok:
        words = "of upgrades only web sockets are passed on here"
        raise BadRequest(words, status=501, code="no_upgrade", hint="Upgrade: websocket, with GET and version 13")
    return True


async def pass_socket(
    request: web.Request,
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    over: asyncio.Event,
    *,
    verify_tls: bool = True,
) -> web.WebSocketResponse:
    """Connect to the runner, and pass messages on until one side closes, has gone, or `over` is set.

    A message waits until the other side has taken the one before, so that a slow reader slows its writer down.

    Args:
        request: the client's; it is answered only when the runner has agreed, with the protocol that it chose.
        session: makes the connection.
        url: of the runner.
        headers: for it, without those of the handshake.
        over: ends it.
        verify_tls: False accepts any certificate of the runner.

    Raises:
        BadRequest: the runner refuses, with its status, or cannot be reached: 502.
    """
    runner = await _connect(request, session, url, headers, verify_tls)
    client = web.WebSocketResponse(
        timeout=CLOSE_S,
        heartbeat=PING_S,
        protocols=(runner.protocol,) if runner.protocol else (),
        compress=False,
        max_msg_size=MOST_MESSAGE,
        autoclose=False,  # the answer is sent when it is known what the other side has to be told
    )
    relay = _Relay(client, runner)
    try:
        await client.prepare(request)
        await relay.run(over)
    finally:
        ends = [_close(runner, relay.goodbye)]
        if client.prepared:
            ends.append(_close(client, relay.goodbye))
        await asyncio.gather(*ends)
    return client


async def _connect(
    request: web.Request, session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], verify_tls: bool
) -> aiohttp.ClientWebSocketResponse:
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ())).split(",")
    try:
        return await session.ws_connect(
            url,
            headers={name: value for name, value in headers.items() if not name.lower().startswith("sec-websocket-")},
            protocols=tuple(name.strip() for name in offered if name.strip()),
            ssl=verify_tls,
            heartbeat=PING_S,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
            max_msg_size=MOST_MESSAGE,
            autoclose=False,
        )
    except aiohttp.WSServerHandshakeError as error:
        status = error.status if error.status >= 400 else 502
        words = f"the runner refuses the web socket: {error.status} {error.message}"
        raise BadRequest(words, status=status, code="socket_refused") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise BadRequest(f"the runner cannot be reached: {error}", status=502, code="runner_gone") from error


class _Relay:
    """Two sides while both are there.

    Attributes:
        goodbye: why it has ended.
    """

    def __init__(self, client: web.WebSocketResponse, runner: aiohttp.ClientWebSocketResponse) -> None:
        self._client, self._runner = client, runner
        self.goodbye = _CLIENT_GONE

    async def run(self, over: asyncio.Event) -> None:
        """Until one side ends it, or `over` is set. It is cancelled when the client's connection is lost."""
        up = asyncio.create_task(_pass(self._client, self._runner, _CLIENT_GONE, _RUNNER_GONE), name="socket-up")
        down = asyncio.create_task(_pass(self._runner, self._client, _RUNNER_GONE, _CLIENT_GONE), name="socket-down")
        ending = asyncio.create_task(over.wait(), name="socket-over")
        tasks = {up, down, ending}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.goodbye = next((one.result() for one in (up, down) if one in done), _OVER)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait({up}, timeout=CLOSE_S)  # it knows what was last said on that connection
            self.goodbye = up.result() if done else _CLIENT_GONE
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _pass(source: Socket, sink: Socket, source_gone: _Goodbye, sink_gone: _Goodbye) -> _Goodbye:
    """One way, until it ends; says why."""
    while True:
        message = await source.receive()
        try:
            if message.type is WSMsgType.TEXT:
                await sink.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            else:
                return _goodbye(message, source_gone)
        except ConnectionError:
            return sink_gone


def _goodbye(message: WSMessage, gone: _Goodbye) -> _Goodbye:
    if message.type is WSMsgType.CLOSE:
        given: Any = message.data
        return _Goodbye(WSCloseCode.OK if given == _NO_CODE else int(given), message.extra or "")
    error: Any = message.data
    is_too_big = isinstance(error, aiohttp.WebSocketError) and error.code == WSCloseCode.MESSAGE_TOO_BIG
    return _TOO_BIG if is_too_big else gone


async def _close(socket: Socket, goodbye: _Goodbye) -> None:
    """Say goodbye to a side that is still there; it has `CLOSE_S` to answer."""
    reason = goodbye.reason.encode()[:MOST_REASON].decode(errors="ignore").encode()
    await socket.close(code=goodbye.code, message=reason)
