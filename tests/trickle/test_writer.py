"""Conformance of a publisher. The number in a name is that of the check in docs/trickle.md."""

from __future__ import annotations

import asyncio

import pytest
from fake_trickle_server import Exchange, FakeTrickleServer
from jumping_loop import on_jumping_loop
from on_loop import on_loop, until

from comfystream.errors import ConfigError, NetworkError
from comfystream.trickle.server import TrickleOptions, TrickleServer
from comfystream.trickle.wire import ChannelOver
from comfystream.trickle.writer import TrickleWriter, WriterOptions

QUICK = WriterOptions(retry_s=0.01, most_retry_s=0.05, first_look_s=0.05)


def writer_to(fake: FakeTrickleServer, **more: object) -> TrickleWriter:
    return TrickleWriter(fake.url, content_type="video/MP2T", **{"options": QUICK, **more})  # type: ignore[arg-type]


async def take(exchange: Exchange) -> None:
    """What a healthy server does."""
    if exchange.method == "POST":
        await exchange.whole()
        if exchange.is_ended:
            exchange.done()
    else:
        exchange.answer()


@on_loop
async def test_p31_numbers_start_at_zero_and_have_no_gaps() -> None:
    async with FakeTrickleServer(take).serving() as fake, writer_to(fake) as writer:
        for number in range(5):
            assert await writer.send(b"%d" % number) == number
    assert sorted(fake.numbers("POST")) == list("012345")
    assert [exchange.body for exchange in sorted(fake.of("POST"), key=lambda it: it.number)][:5] == [
        b"0", b"1", b"2", b"3", b"4"
    ]  # fmt: skip
    assert fake.of("POST")[0].headers["content-type"] == "video/MP2T"
    assert fake.of("POST")[0].headers["transfer-encoding"] == "chunked"
    assert not fake.of("DELETE")


@on_loop
async def test_p32_the_next_segment_is_announced_before_this_one_ends() -> None:
    """From 3.12 on, aiohttp holds the headers of a streamed body back until its first chunk."""
    async with FakeTrickleServer(take).serving() as fake, writer_to(fake) as writer:
        for number in range(3):
            segment = await writer.segment()
            await segment.write(b"begun")
            await fake.until(lambda fake, n=number: str(n + 1) in fake.numbers("POST"))  # type: ignore[misc]
            this, announced = (next(it for it in fake.of("POST") if it.number == n) for n in (number, number + 1))
            assert not this.is_ended
            assert announced.body == b""
            assert not announced.is_ended
            await segment.close()
        assert [exchange.number for exchange in fake.of("POST")] == [0, 1, 2, 3]


@on_loop
async def test_p32_no_more_than_one_is_announced() -> None:
    async with FakeTrickleServer(take).serving() as fake, writer_to(fake) as writer:
        for _ in range(4):
            await writer.send(b"x")
        await fake.until(lambda fake: len(fake.of("POST")) >= 5)
        assert max(exchange.number for exchange in fake.of("POST")) == 4


@on_jumping_loop
async def test_p33_an_announcement_may_wait_for_minutes() -> None:
    server = TrickleServer(TrickleOptions(idle_s=10_000))
    channel = server.create("ch")
    async with server.serving() as base, TrickleWriter(f"{base}/ch", content_type="x/y") as writer:
        await writer.send(b"first")
        before_s = asyncio.get_running_loop().time()
        await asyncio.sleep(120)
        assert await writer.send(b"second") == 1
        assert asyncio.get_running_loop().time() - before_s >= 120
        segment = channel.find(1)
        assert await segment.read() == b"second"
        assert writer.stats.failures == 0


@on_loop
async def test_p34_a_channel_that_is_not_there_is_asked_once() -> None:
    async def not_found(exchange: Exchange) -> None:
        exchange.answer(404, b"Stream not found\n")

    async with FakeTrickleServer(not_found).serving() as fake, writer_to(fake) as writer:
        for _ in range(3):
            with pytest.raises(ChannelOver) as caught:
                await writer.send(b"x")
            assert (caught.value.code, caught.value.is_clean) == ("channel_not_found", False)
        assert writer.is_over
    assert len(fake.heard) == 1


@on_loop
async def test_p34_closed_is_a_clean_end() -> None:
    async def closed(exchange: Exchange) -> None:
        exchange.answer(Lp_Trickle_Closed="terminated", Lp_Trickle_Seq=0)

    async with FakeTrickleServer(closed).serving() as fake, writer_to(fake) as writer:
        with pytest.raises(ChannelOver) as caught:
            await writer.send(b"x")
        assert (caught.value.code, caught.value.is_clean) == ("channel_closed", True)
        assert writer.is_over


@on_loop
async def test_p34_an_announcement_that_is_closed_ends_it_too() -> None:
    server = TrickleServer()
    server.create("ch")
    async with server.serving() as base, TrickleWriter(f"{base}/ch", content_type="x/y", options=QUICK) as writer:
        segment = await writer.segment()
        await segment.write(b"x")
        await segment.close()
        assert not writer.is_over
        server.close("ch")
        await until(lambda: writer.is_over, "the end")
        with pytest.raises(ChannelOver):
            await writer.segment()


@on_loop
async def test_p35_nothing_sent_is_tried_again_with_the_same_number_on_a_new_connection() -> None:
    tries = 0

    async def second_time(exchange: Exchange) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            exchange.hang_up()
            return
        await take(exchange)

    async with FakeTrickleServer(second_time).serving() as fake, writer_to(fake) as writer:
        segment = await writer.segment()
        await fake.until(lambda fake: len(fake.heard) >= 3)
        await segment.write(b"whole")
        await segment.close()
    assert fake.numbers("POST")[:3] == ["0", "0", "0"]
    assert len({exchange.connection for exchange in fake.heard[:3]}) == 3
    assert fake.heard[2].body == b"whole"
    assert not fake.of("DELETE")


@on_loop
async def test_p35_a_port_that_nobody_listens_on_ends_in_an_error() -> None:
    async with FakeTrickleServer(take).serving() as fake:
        url = fake.url
    async with TrickleWriter(url, content_type="x/y", options=QUICK) as writer:
        with pytest.raises(NetworkError) as caught:
            await writer.send(b"x")
        assert caught.value.code == "channel_unreachable"
        assert url in str(caught.value)


@on_loop
async def test_p35_a_segment_that_breaks_off_is_deleted_and_the_next_number_goes_on() -> None:
    async def breaks(exchange: Exchange) -> None:
        if exchange.method == "POST" and exchange.number == 0:
            await exchange.first_byte()
            exchange.hang_up()
        else:
            await take(exchange)

    async with FakeTrickleServer(breaks).serving() as fake, writer_to(fake) as writer:
        segment = await writer.segment()
        await segment.write(b"half")
        await fake.until(lambda fake: bool(fake.of("DELETE")))
        await segment.write(b"the rest is dropped")
        assert segment.is_broken
        await segment.close()
        assert await writer.send(b"next") == 1
        assert writer.stats.broken == 1
    assert fake.numbers("DELETE") == ["0"]
    assert fake.of("DELETE")[0].connection != next(it for it in fake.of("POST") if it.number == 0).connection
    assert next(it for it in fake.of("POST") if it.number == 1).body == b"next"


@on_loop
async def test_p35_a_whole_segment_that_broke_is_sent_again() -> None:
    async def breaks(exchange: Exchange) -> None:
        if exchange.method == "POST" and exchange.number == 0:
            await exchange.first_byte()
            exchange.hang_up()
        else:
            await take(exchange)

    async with FakeTrickleServer(breaks).serving() as fake, writer_to(fake) as writer:
        assert await writer.send(b"message") == 1
    assert next(it for it in fake.of("POST") if it.number == 1).body == b"message"


@on_loop
async def test_p36_an_announcement_that_was_ended_is_not_written_to() -> None:
    server = TrickleServer(TrickleOptions(grace_s=0.05))
    channel = server.create("ch")
    async with server.serving() as base, TrickleWriter(f"{base}/ch", content_type="x/y", options=QUICK) as writer:
        segment = await writer.segment()
        await until(lambda: channel.held(0) is not None)
        channel.drop(0)
        await until(lambda: channel.next_write == 1)
        await asyncio.sleep(0.05)  # the answer is on its way; nobody but the writer sees it come
        await segment.write(b"late")
        assert segment.number == 1
        await segment.close()
        await until(lambda: channel.next_write == 2)
        assert await channel.find(1).read() == b"late"


@on_loop
async def test_p36_the_same_between_segments() -> None:
    server = TrickleServer()
    channel = server.create("ch")
    async with server.serving() as base, TrickleWriter(f"{base}/ch", content_type="x/y", options=QUICK) as writer:
        assert [await writer.send(b"zero"), await writer.send(b"one")] == [0, 1]
        await until(lambda: channel.held(2) is not None)
        channel.drop(2)
        await until(lambda: channel.next_write == 3)
        await asyncio.sleep(0.05)
        assert await writer.send(b"three") == 3
        assert await channel.find(3).read() == b"three"


@on_loop
async def test_p37_interim_answers_are_ignored() -> None:
    async def slow(exchange: Exchange) -> None:
        for _ in range(20):
            exchange.interim()
            await asyncio.sleep(0.001)
        await take(exchange)

    async with FakeTrickleServer(slow).serving() as fake, writer_to(fake) as writer:
        segment = await writer.segment()
        await asyncio.sleep(0.1)
        await segment.write(b"late")
        await segment.close()
        assert await writer.send(b"one") == 1
    assert fake.of("POST")[0].body == b"late"


@on_loop
async def test_p38_close_delivers_what_is_on_its_way() -> None:
    server = TrickleServer()
    channel = server.create("ch")
    async with server.serving() as base:
        writer = TrickleWriter(f"{base}/ch", content_type="x/y", options=QUICK)
        await writer.send(b"zero")
        segment = await writer.segment()
        payload = b"x" * 200_000
        await segment.write(payload)
        await writer.close()
        assert writer.is_over
        assert await channel.find(1).read() == payload
        assert channel.next_write == 3, "the announced segment is ended as an empty one"
        assert not channel.is_closed
        await writer.close()


@on_jumping_loop
async def test_p38_close_does_not_wait_for_ever() -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with FakeTrickleServer(never).serving() as fake:
        writer = writer_to(fake)
        segment = await writer.segment()
        await segment.write(b"x")
        before_s = asyncio.get_running_loop().time()
        await writer.close(drain_s=1.0)
        assert asyncio.get_running_loop().time() - before_s < 10


@on_loop
async def test_the_owner_may_delete_the_channel() -> None:
    server = TrickleServer(TrickleOptions(auto_create=True))
    async with server.serving() as base:
        writer = TrickleWriter(f"{base}/ch", content_type="video/MP2T", options=QUICK)
        assert await writer.create()
        channel = server.get("ch")
        assert channel is not None
        assert channel.mime == "video/MP2T"
        await writer.send(b"x")
        await writer.close(delete_channel=True)
        assert server.names == []


@on_loop
async def test_going_on_where_the_channel_is() -> None:
    server = TrickleServer()
    channel = server.create("ch")
    for number in range(3):
        channel.publish(b"%d" % number)
    stuck = channel.open()
    stuck.write(b"half")
    async with server.serving() as base:
        async with TrickleWriter(f"{base}/ch", content_type="x/y", start=None, options=QUICK) as writer:
            assert await writer.send(b"four") == 4
            assert stuck.is_closed
            assert await writer.send(b"five") == 5
        assert await channel.find(4).read() == b"four"


@on_loop
async def test_going_on_with_servers_that_do_not_tell_where_they_are() -> None:
    latest = 7

    async def old(exchange: Exchange) -> None:
        nonlocal latest
        if exchange.method == "GET":
            exchange.answer(400, b"Invalid idx\n")
            return
        await exchange.whole()
        number = latest if exchange.number == -1 else exchange.number
        latest = number + 1
        exchange.answer(Lp_Trickle_Seq=number)

    async with FakeTrickleServer(old).serving() as fake, writer_to(fake, start=None) as writer:
        assert [await writer.send(b"a"), await writer.send(b"b"), await writer.send(b"c")] == [7, 8, 9]
        first, *later = fake.of("POST")
        assert (first.what, first.headers["lp-trickle-reset"]) == ("-1", "1")
        assert not any("lp-trickle-reset" in exchange.headers for exchange in later)


@on_jumping_loop
async def test_a_server_that_takes_no_bytes_breaks_the_segment() -> None:
    async def deaf(exchange: Exchange) -> None:
        if exchange.method == "DELETE":
            exchange.answer()
        await asyncio.Event().wait()

    class Deaf(FakeTrickleServer):
        async def _exchange(self, exchange: Exchange) -> None:
            if exchange.method == "POST" and exchange.number == 0:
                self.heard.append(exchange)
                await asyncio.Event().wait()
            await super()._exchange(exchange)

    async with Deaf(deaf).serving() as fake:
        writer = writer_to(fake)
        segment = await writer.segment()
        before_s = asyncio.get_running_loop().time()
        while not segment.is_broken:
            await segment.write(b"x" * 1_000_000)
        assert asyncio.get_running_loop().time() - before_s < 60
        await writer.close()


@on_loop
async def test_aborting_tells_the_readers() -> None:
    server = TrickleServer(TrickleOptions(grace_s=1000))
    channel = server.create("ch")
    async with server.serving() as base, TrickleWriter(f"{base}/ch", content_type="x/y", options=QUICK) as writer:
        segment = await writer.segment()
        await segment.write(b"half")
        await until(lambda: channel.next_write == 1)
        await segment.abort()
        assert await channel.find(0).read() == b"half"
        assert await writer.send(b"whole") == 1


@pytest.mark.parametrize("url", ["", "ch", "ftp://h/ch", "http://", "http://h", "http://h//", "//h/ch"])
def test_what_is_no_channel_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrickleWriter(url, content_type="x/y")
    assert caught.value.code == "bad_url"
