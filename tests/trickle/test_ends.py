"""Our reader and writer on the server under test: ours, or the one that TRICKLE_SERVER_URL names."""

from __future__ import annotations

import asyncio

import pytest
from on_loop import on_loop, until
from trickle_wire import new_name

from comfystream.trickle.connection import Connection
from comfystream.trickle.reader import EndReason, TrickleReader
from comfystream.trickle.wire import ChannelOver
from comfystream.trickle.writer import TrickleWriter


async def read_into(found: list[tuple[int, bytes]], reader: TrickleReader) -> None:
    async for segment in reader:
        found.append((segment.number, b"".join([chunk async for chunk in segment.chunks()])))


@on_loop
async def test_segments_arrive_as_they_are_made_and_the_end_is_told(server_url: str) -> None:
    url = f"{server_url}/{new_name()}"
    async with TrickleWriter(url, content_type="text/plain") as writer:
        assert await writer.create()
        async with TrickleReader(url) as reader:
            for number in range(12):
                segment = await writer.segment()
                await segment.write(b"begun ")
                seen = await reader.next()
                assert seen is not None
                assert (seen.number, seen.content_type) == (number, "text/plain")
                chunks = seen.chunks()
                assert await anext(chunks) == b"begun "
                await segment.write(b"ended")
                assert await anext(chunks) == b"ended"
                await segment.close()
                assert [chunk async for chunk in chunks] == []
            await writer.close(5.0, delete_channel=True)
            assert await reader.next() is None
            assert reader.end in (EndReason.CLOSED, EndReason.NOT_FOUND)
            assert reader.stats.failures == writer.stats.failures == 0


@on_loop
async def test_a_channel_that_is_deleted_ends_the_writer(server_url: str) -> None:
    url = f"{server_url}/{new_name()}"
    owner = Connection(url)
    async with TrickleWriter(url, content_type="text/plain") as writer:
        await writer.create()
        segment = await writer.segment()
        await segment.write(b"x")
        await segment.close()
        await asyncio.sleep(0.3)
        assert await owner.drop(None)
        await until(lambda: writer.is_over)
        with pytest.raises(ChannelOver) as caught:
            await writer.send(b"y")
        assert caught.value.is_clean
    await owner.close()


@on_loop
async def test_a_second_publisher_goes_on_after_the_first(server_url: str) -> None:
    url = f"{server_url}/{new_name()}"
    found: list[tuple[int, bytes]] = []
    first = TrickleWriter(url, content_type="text/plain")
    await first.create()
    async with TrickleReader(url) as reader:
        reading = asyncio.create_task(read_into(found, reader))
        for number in range(3):
            assert await first.send(b"%d" % number) == number
        await until(lambda: len(found) == 3)
        await first.close()
        async with TrickleWriter(url, content_type="text/plain", start=None) as second:
            number = await second.send(b"second")
            assert number >= 3
            await second.send(b"and more")
            await until(lambda: len(found) == 5)
            assert found[3:] == [(number, b"second"), (number + 1, b"and more")]
            await second.close(delete_channel=True)
        await reading


@on_loop
async def test_an_announced_segment_that_is_deleted_is_passed_over_by_both(server_url: str) -> None:
    url = f"{server_url}/{new_name()}"
    other = Connection(url)
    found: list[tuple[int, bytes]] = []
    async with TrickleWriter(url, content_type="text/plain") as writer, TrickleReader(url) as reader:
        await writer.create()
        reading = asyncio.create_task(read_into(found, reader))
        assert [await writer.send(b"0"), await writer.send(b"1")] == [0, 1]
        await until(lambda: len(found) == 2)
        announced = writer._ahead
        assert announced is not None
        while announced.outcome is None:
            await other.drop(2)
            await asyncio.sleep(0.02)
        assert await writer.send(b"3") == 3
        await until(lambda: found[-1] == (3, b"3"))
        await writer.close(delete_channel=True)
        await reading
    await other.close()
