"""Conformance of a subscriber. The number in a name is that of the check in docs/trickle.md."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fake_trickle_server import Exchange, FakeTrickleServer
from jumping_loop import on_jumping_loop
from on_loop import on_loop, until

from comfystream.errors import NetworkError
from comfystream.trickle.reader import EndReason, ReaderOptions, TrickleReader
from comfystream.trickle.server import TrickleOptions, TrickleServer

QUICK = ReaderOptions(retry_s=0.01, most_retry_s=0.05)


def closed(exchange: Exchange) -> None:
    exchange.answer(200, b"Entry not found", Lp_Trickle_Closed="terminated", Lp_Trickle_Latest=9)


def scripted(*steps: Callable[[Exchange], object]) -> Callable[[Exchange], Awaitable[None]]:
    """One step for each GET; after the last the channel is closed."""
    left = list(steps)

    async def script(exchange: Exchange) -> None:
        done = (left.pop(0) if left else closed)(exchange)
        if asyncio.iscoroutine(done):
            await done

    return script


async def read_all(reader: TrickleReader) -> list[tuple[int, bytes]]:
    async with reader:
        return [(segment.number, b"".join([chunk async for chunk in segment.chunks()])) async for segment in reader]


async def all_of(*steps: Callable[[Exchange], object], **more: object) -> tuple[list[tuple[int, bytes]], list[str]]:
    async with FakeTrickleServer(scripted(*steps)).serving() as fake:
        found = await read_all(TrickleReader(fake.url, options=QUICK, **more))  # type: ignore[arg-type]
        return found, fake.numbers("GET")


@on_loop
async def test_b39_it_starts_at_the_current_one_and_asks_ahead() -> None:
    async def unfinished(exchange: Exchange) -> None:
        exchange.start(Lp_Trickle_Seq=4, Lp_Trickle_Latest=5, Content_Type="video/MP2T")
        exchange.chunk(b"begun")
        await asyncio.Event().wait()

    async def never(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    steps = scripted(unfinished, never)
    async with FakeTrickleServer(steps).serving() as fake, TrickleReader(fake.url, options=QUICK) as reader:
        segment = await reader.next()
        assert segment is not None
        assert (segment.number, segment.latest, segment.content_type) == (4, 5, "video/MP2T")
        await fake.until(lambda fake: len(fake.heard) == 2)
        assert fake.numbers("GET") == ["-2", "5"]
        assert await anext(segment.chunks()) == b"begun"


@on_loop
async def test_b40_closed_is_the_end_whatever_else_it_says() -> None:
    found, asked = await all_of(lambda exchange: exchange.segment(b"zero", 0))
    assert (found, asked) == ([(0, b"zero")], ["-2", "1"])


@on_loop
async def test_b40_not_found_is_the_end_and_not_asked_again() -> None:
    steps = scripted(lambda exchange: exchange.answer(404))
    async with FakeTrickleServer(steps).serving() as fake, TrickleReader(fake.url, options=QUICK) as reader:
        assert await reader.next() is None
        assert reader.end is EndReason.NOT_FOUND
        assert await reader.next() is None
    assert len(fake.heard) == 1


@on_loop
async def test_b40_a_channel_that_is_yet_to_come_is_waited_for() -> None:
    gone = [lambda exchange: exchange.answer(404)] * 3
    async with FakeTrickleServer(scripted(*gone, lambda exchange: exchange.segment(b"x", 0))).serving() as fake:
        patient = ReaderOptions(retry_s=0.01, channel_wait_s=30)
        assert await read_all(TrickleReader(fake.url, options=patient)) == [(0, b"x")]


@on_loop
async def test_b41_no_entry_goes_to_the_latest() -> None:
    found, asked = await all_of(
        lambda exchange: exchange.segment(b"a", 3),
        lambda exchange: exchange.answer(470, b"Entry not found", Lp_Trickle_Latest=20, Lp_Trickle_Seq=4),
        lambda exchange: exchange.segment(b"b", 20),
        lambda exchange: exchange.answer(470, b"Entry not found", Lp_Trickle_Latest=2, Lp_Trickle_Seq=21),
        lambda exchange: exchange.segment(b"c", 2),
        lambda exchange: exchange.answer(470, b"Entry not found"),
        lambda exchange: exchange.segment(b"d", 7),
    )
    assert asked == ["-2", "4", "20", "21", "2", "3", "-1", "8"]
    assert found == [(3, b"a"), (20, b"b"), (2, b"c"), (7, b"d")]


@on_loop
async def test_b41_http_trickle_says_no_entry_for_an_empty_segment() -> None:
    found, asked = await all_of(
        lambda exchange: exchange.segment(b"a", 3),
        lambda exchange: exchange.answer(470, b"Entry not found", Lp_Trickle_Latest=5, Lp_Trickle_Seq=4),
        lambda exchange: exchange.segment(b"b", 5),
    )
    assert (found, asked) == ([(3, b"a"), (5, b"b")], ["-2", "4", "5", "6"])


@on_jumping_loop
async def test_b41_no_entry_without_progress_is_asked_with_patience() -> None:
    stuck = [lambda exchange: exchange.answer(470, Lp_Trickle_Latest=4, Lp_Trickle_Seq=4)] * 20
    before_s = asyncio.get_running_loop().time()
    await all_of(*stuck)
    assert asyncio.get_running_loop().time() - before_s > 10


@on_loop
async def test_b42_an_empty_segment_is_passed_over() -> None:
    found, asked = await all_of(
        lambda exchange: exchange.answer(Lp_Trickle_Seq=0, Lp_Trickle_Latest=1),
        lambda exchange: exchange.segment(b"one", 1),
    )
    assert (found, asked) == ([(1, b"one")], ["-2", "1", "2"])


@on_jumping_loop
async def test_b43_ten_minutes_without_data_are_no_error_and_nothing_comes_twice() -> None:
    server = TrickleServer(TrickleOptions(idle_s=10_000, gone_check_s=1000))
    channel = server.create("ch")
    async with server.serving() as base:
        reading = asyncio.create_task(read_all(TrickleReader(f"{base}/ch")))
        channel.publish(b"zero")
        for number in range(1, 4):
            await asyncio.sleep(600)
            channel.publish(b"%d" % number)
        await asyncio.sleep(1)
        server.close("ch")
        assert await reading == [(0, b"zero"), (1, b"1"), (2, b"2"), (3, b"3")]


@on_jumping_loop
async def test_b43_a_waiting_request_is_sent_anew_every_twenty_seconds() -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    steps = scripted(never, never, never, lambda exchange: exchange.segment(b"x", 0))
    async with FakeTrickleServer(steps).serving() as fake:
        before_s = asyncio.get_running_loop().time()
        assert await read_all(TrickleReader(fake.url)) == [(0, b"x")]
        assert 60 <= asyncio.get_running_loop().time() - before_s < 70
        assert fake.numbers("GET") == ["-2", "-2", "-2", "-2", "1"]


@on_jumping_loop
async def test_b43_waiting_for_the_next_one_is_for_one_number() -> None:
    """Asked anew as -1 it could mean a later one, and the one between would be lost."""

    async def never(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with FakeTrickleServer(
        scripted(lambda exchange: exchange.answer(200, b"7"), never, lambda exchange: exchange.segment(b"x", 7))
    ).serving() as fake:
        assert await read_all(TrickleReader(fake.url, start=-1)) == [(7, b"x")]
        assert fake.numbers("GET") == ["next", "7", "7", "8"]


@on_jumping_loop
async def test_b44_a_late_and_slow_segment_comes_whole() -> None:
    server = TrickleServer()
    channel = server.create("ch")
    async with server.serving() as base:
        reading = asyncio.create_task(read_all(TrickleReader(f"{base}/ch")))
        await asyncio.sleep(29)
        segment = channel.open()
        for number in range(10):
            segment.write(b"%d" % number)
            await asyncio.sleep(1)
        channel.finish(segment)
        await asyncio.sleep(1)
        server.close("ch")
        assert await reading == [(0, b"0123456789")]


@on_loop
async def test_b45_a_body_that_breaks_off_goes_on_with_the_next() -> None:
    async def breaks(exchange: Exchange) -> None:
        exchange.start(Lp_Trickle_Seq=0)
        exchange.chunk(b"half")
        await asyncio.sleep(0.05)
        exchange.hang_up()

    steps = scripted(breaks, lambda exchange: exchange.segment(b"one", 1))
    async with FakeTrickleServer(steps).serving() as fake, TrickleReader(fake.url, options=QUICK) as reader:
        segment = await reader.next()
        assert segment is not None
        assert [chunk async for chunk in segment.chunks()] == [b"half"]
        assert segment.is_broken
        segment = await reader.next()
        assert segment is not None
        assert (segment.number, await segment.read()) == (1, b"one")
        assert reader.stats.broken == 1


@on_loop
async def test_b45_a_whole_body_cannot_be_had_of_a_broken_one() -> None:
    async def breaks(exchange: Exchange) -> None:
        exchange.start(Lp_Trickle_Seq=0)
        exchange.chunk(b"half")
        exchange.hang_up()

    async with FakeTrickleServer(scripted(breaks)).serving() as fake, TrickleReader(fake.url, options=QUICK) as reader:
        segment = await reader.next()
        while segment is not None and segment.is_broken:  # hung up before the first byte was seen: asked again
            segment = await reader.next()
        if segment is not None:
            with pytest.raises(NetworkError) as caught:
                await segment.read()
            assert caught.value.code == "segment_broken"


@on_loop
async def test_b45_five_failures_in_a_row_are_too_many() -> None:
    failing = [lambda exchange: exchange.hang_up()] * 2 + [lambda exchange: exchange.answer(500)] * 10
    steps = scripted(*failing)
    async with FakeTrickleServer(steps).serving() as fake, TrickleReader(fake.url, options=QUICK) as reader:
        with pytest.raises(NetworkError) as caught:
            await reader.next()
        assert caught.value.code == "channel_unreachable"
        assert "500" in caught.value.message
        assert reader.stats.failures == 5
        assert set(fake.numbers("GET")) == {"-2"}  # aiohttp repeats a GET that was hung up on once more by itself
        assert len({exchange.connection for exchange in fake.heard}) == len(fake.heard)


@on_loop
async def test_b45_a_segment_in_between_starts_the_count_anew() -> None:
    fail, segment = (lambda exchange: exchange.answer(503)), (lambda exchange: exchange.segment(b"x", 3))
    found, asked = await all_of(*[fail] * 4, segment, *[fail] * 4)
    assert found == [(3, b"x")]
    assert asked == ["-2"] * 5 + ["4"] * 5


@on_jumping_loop
async def test_b45_a_body_that_stalls_counts_as_broken() -> None:
    async def stalls(exchange: Exchange) -> None:
        exchange.start(Lp_Trickle_Seq=0)
        exchange.chunk(b"half")
        await asyncio.Event().wait()

    async with FakeTrickleServer(scripted(stalls, lambda exchange: exchange.segment(b"x", 1))).serving() as fake:
        assert await read_all(TrickleReader(fake.url)) == [(0, b"half"), (1, b"x")]


@on_loop
async def test_a_segment_is_read_up_to_a_limit() -> None:
    steps = scripted(lambda exchange: exchange.segment(b"x" * 1000, 0))
    async with FakeTrickleServer(steps).serving() as fake, TrickleReader(fake.url, options=QUICK) as reader:
        segment = await reader.next()
        assert segment is not None
        with pytest.raises(NetworkError) as caught:
            await segment.read(999)
        assert caught.value.code == "segment_too_large"


@on_loop
async def test_a_segment_that_is_not_read_is_left_for_the_next() -> None:
    server = TrickleServer()
    channel = server.create("ch")
    async with server.serving() as base, TrickleReader(f"{base}/ch", options=QUICK) as reader:
        stuck = channel.open()
        stuck.write(b"never finished")
        first = await reader.next()
        channel.publish(b"one")
        second = await reader.next()
        assert first is not None
        assert second is not None
        assert (first.number, second.number, await second.read()) == (0, 1, b"one")


@on_loop
async def test_closing_lets_a_waiting_server_go() -> None:
    server = TrickleServer(TrickleOptions(gone_check_s=0.02))
    channel = server.create("ch")
    async with server.serving() as base:
        reader = TrickleReader(f"{base}/ch", options=QUICK)
        waiting = asyncio.create_task(reader.next())
        await until(lambda: channel.held(0) is not None)
        waiting.cancel()
        await reader.close()
        await reader.close()
