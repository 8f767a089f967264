"""The server's own side of a request: it ends when its client does, quietly, and a closed channel says that it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import aiohttp.web
import pytest
from on_loop import on_loop, until

from comfystream.trickle.server import TrickleOptions, TrickleServer
from comfystream.trickle.wire import CLOSED, LATEST, SEQ
from comfystream.trickle.writer import TrickleWriter


def handlers() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if "RequestHandler" in repr(task.get_coro())]


async def endless() -> AsyncIterator[bytes]:
    yield b"begun"
    await asyncio.Event().wait()


async def ask(session: aiohttp.ClientSession, url: str, what: str) -> None:
    if what == "write":
        async with session.post(f"{url}/0", data=endless()):
            pass
    else:
        async with session.get(f"{url}/{1 if what == 'wait' else 0}") as response:
            await response.read()


@pytest.mark.parametrize("what", ["read", "wait", "write"])
@on_loop
async def test_a_client_that_hangs_up_is_let_go_at_once(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """No chance look after it, and no ten seconds that are waited for the rest of a body."""
    server = TrickleServer(TrickleOptions(gone_check_s=1000.0, keep_alive_s=1000.0))
    async with server.serving() as base:
        channel = server.create("ch")
        if what != "write":
            channel.open(0).write(b"begun")
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(ask(session, f"{base}/ch", what))
            await until(lambda: channel.next_write == 1 and handlers(), "the request")
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        began = asyncio.get_running_loop().time()
        await until(lambda: not handlers(), "the end of its handler")
        assert asyncio.get_running_loop().time() - began < 5
    assert not caplog.records


@on_loop
async def test_where_handlers_are_not_cancelled_a_look_finds_out(caplog: pytest.LogCaptureFixture) -> None:
    """As in an application that this one is mounted in."""
    server = TrickleServer(TrickleOptions(gone_check_s=0.02))
    runner = aiohttp.web.AppRunner(server.app(), access_log=None)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    server.create("ch").open(0).write(b"begun")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/ch/0") as response:
            assert await response.content.readany() == b"begun"
        await session.close()
    await until(lambda: not handlers(), "the end of its handler")
    await runner.cleanup()
    assert not caplog.records


@on_loop
async def test_a_closed_channel_that_still_has_its_name_says_that_it_is_closed() -> None:
    server = TrickleServer()
    async with server.serving() as base, aiohttp.ClientSession() as session:
        channel = server.create("ch", "x/y")
        channel.publish(b"zero")
        channel.close()
        async with session.get(f"{base}/ch/7") as response:
            assert (response.status, await response.text()) == (200, "Entry not found")
            assert (response.headers[LATEST], response.headers[SEQ]) == ("1", "7")
            assert CLOSED in response.headers
        async with session.get(f"{base}/ch/0") as response:
            assert (response.status, await response.text()) == (200, "zero")


@on_loop
async def test_a_writer_with_nothing_to_send_hears_of_the_end() -> None:
    server = TrickleServer()
    async with server.serving() as base:
        server.create("ch")
        async with TrickleWriter(f"{base}/ch", content_type="x/y") as writer:
            waiting = asyncio.create_task(writer.wait_over())
            await until(lambda: server.get("ch").held(0), "the announcement")  # type: ignore[union-attr]
            server.close("ch")
            await asyncio.wait([waiting], timeout=30)
            assert getattr(waiting.exception(), "code", "") == "channel_closed"
