"""Servers that die and come back, publishers that die, readers that are too slow, and everything at once."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest
from on_loop import on_loop, until

from comfystream.trickle.channel import Channel
from comfystream.trickle.reader import EndReason, ReaderOptions, TrickleReader
from comfystream.trickle.server import TrickleOptions, TrickleServer
from comfystream.trickle.writer import TrickleWriter, WriterOptions

STUBBORN = {"retry_s": 0.02, "most_retry_s": 0.1, "most_failures": 200}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """The server as people run it; `kill` leaves it no time to say goodbye."""

    def __init__(self, port: int) -> None:
        command = "import sys; from comfystream_server.cli import main; sys.exit(main())"
        words = [sys.executable, "-P", "-c", command, "trickle", "server", "--port", str(port)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Process:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("trickle server: http://127.0.0.1:")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)


@pytest.mark.slow
@on_loop
async def test_a_server_that_dies_and_comes_back_is_found_again_by_both_ends() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/ch"
    found: list[bytes] = []
    async with (
        TrickleWriter(url, content_type="x/y", options=WriterOptions(**STUBBORN)) as writer,  # type: ignore[arg-type]
        TrickleReader(url, options=ReaderOptions(**STUBBORN, channel_wait_s=60)) as reader,  # type: ignore[arg-type]
    ):
        with Process(port):
            await writer.send(b"before")
            reading = asyncio.create_task(read_into(found, reader))
            await until(lambda: b"before" in found)
        with Process(port):
            writing = asyncio.create_task(write_until(writer, lambda: b"after" in found))
            await until(lambda: b"after" in found, "a segment of the server that came back")
            await writing
            assert not reading.done()
            reading.cancel()


@on_loop
async def test_a_server_that_ends_says_so() -> None:
    server = TrickleServer()
    server.create("ch")
    async with server.serving() as base:
        reader = TrickleReader(f"{base}/ch")
        waiting = asyncio.create_task(reader.next())
        await until(lambda: server.get("ch").held(0))  # type: ignore[union-attr]
    async with reader:
        assert await waiting is None
        assert reader.end is EndReason.CLOSED


async def read_into(found: list[bytes], reader: TrickleReader) -> None:
    async for segment in reader:
        found.append(b"".join([chunk async for chunk in segment.chunks()]))


async def write_until(writer: TrickleWriter, is_done: object) -> None:
    while not is_done():  # type: ignore[operator]
        await writer.send(b"after")
        await asyncio.sleep(0.02)


@on_loop
async def test_a_publisher_that_dies_in_a_segment_is_followed_by_another() -> None:
    server = TrickleServer(TrickleOptions(grace_s=0.05))
    server.create("ch")
    async with server.serving() as base, TrickleReader(f"{base}/ch") as reader:
        found: list[bytes] = []
        reading = asyncio.create_task(read_into(found, reader))
        dying = TrickleWriter(f"{base}/ch", content_type="x/y")
        segment = await dying.segment()
        await segment.write(b"half")
        await until(lambda: server.get("ch").next_write == 1)  # type: ignore[union-attr]
        await dying._connection.close()
        segment._post._task.cancel()
        async with TrickleWriter(f"{base}/ch", content_type="x/y", start=None) as second:
            assert await second.send(b"whole") == 1
            await until(lambda: b"whole" in found)
        server.close("ch")
        await reading
        assert found == [b"half", b"whole"]


@on_loop
async def test_a_reader_that_is_too_slow_loses_and_goes_on_at_the_newest() -> None:
    server = TrickleServer()
    channel = server.create("ch")
    async with server.serving() as base, TrickleReader(f"{base}/ch") as reader:
        channel.publish(b"0")
        first = await reader.next()
        assert first is not None
        for number in range(1, 30):
            channel.publish(b"%d" % number)
        numbers = [first.number]
        waiting = asyncio.create_task(read_numbers(reader, numbers))
        await until(lambda: reader.stats.skipped)
        await asyncio.sleep(0)
        channel.publish(b"30")
        await until(lambda: 30 in numbers)
        server.close("ch")
        await waiting
        assert numbers == sorted(set(numbers)), "nothing twice, nothing backwards"


async def read_numbers(reader: TrickleReader, numbers: list[int]) -> None:
    async for segment in reader:
        assert await segment.read() == b"%d" % segment.number
        numbers.append(segment.number)


@on_loop
async def test_a_reader_that_takes_no_bytes_holds_up_nobody() -> None:
    server = TrickleServer()
    channel = server.create("ch")
    async with server.serving() as base, TrickleReader(f"{base}/ch") as stuck, TrickleReader(f"{base}/ch") as quick:
        payload = b"x" * 3_000_000
        async with TrickleWriter(f"{base}/ch", content_type="x/y") as writer:
            await writer.send(payload)
            assert await stuck.next() is not None
            for number in range(1, 12):
                assert await writer.send(payload) == number
            segment = await quick.next()
            assert segment is not None
            assert await segment.read() == payload
        assert channel.held(2) is None


@on_loop
async def test_many_of_everything_at_once() -> None:
    server = TrickleServer(TrickleOptions(auto_create=True, window=50))
    async with server.serving() as base:

        async def pair(name: int) -> None:
            async with TrickleWriter(f"{base}/{name}", content_type="x/y") as writer:
                await writer.create()
                found: list[bytes] = []
                reader = TrickleReader(f"{base}/{name}", start=0)
                reading = asyncio.create_task(read_into(found, reader))
                for number in range(20):
                    async with await writer.segment() as segment:
                        for _ in range(3):
                            await segment.write(b"%d." % number)
                await writer.close(20, delete_channel=False)
                await until(lambda: len(found) == 20)
                server.close(str(name))
                await reading
                await reader.close()
                assert found == [b"%d." % number * 3 for number in range(20)]

        await asyncio.gather(*(pair(name) for name in range(8)))


@on_loop
async def test_in_process_readers_and_publishers_need_no_http() -> None:
    server = TrickleServer()
    channel = server.create("ch", "application/json")

    async def all_of(channel: Channel) -> list[tuple[int, bytes]]:
        return [(segment.number, await segment.read()) async for segment in channel.subscribe()]

    reading = asyncio.create_task(all_of(channel))
    await asyncio.sleep(0)
    for number in range(3):
        channel.publish(b"%d" % number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    async with server.serving() as base, TrickleReader(f"{base}/ch") as reader:
        segment = await reader.next()
        assert segment is not None
        assert (segment.number, segment.content_type) == (2, "application/json")
    server.close("ch")
    assert await reading == [(0, b"0"), (1, b"1"), (2, b"2")]
