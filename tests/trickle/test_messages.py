"""JSON over channels: orders in, events and data out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumping_loop import on_jumping_loop
from on_loop import on_loop

from comfystream.errors import ConfigError, NetworkError
from comfystream.trickle.channel import Channel
from comfystream.trickle.messages import (
    MOST_LINE_BYTES,
    DataWriter,
    EventWriter,
    data_lines,
    object_lines,
    read_messages,
)
from comfystream.trickle.reader import TrickleReader
from comfystream.trickle.server import TrickleOptions, TrickleServer
from comfystream.trickle.wire import ChannelOver
from comfystream.trickle.writer import TrickleWriter


@asynccontextmanager
async def channel() -> AsyncIterator[tuple[TrickleServer, Channel, str]]:
    server = TrickleServer(TrickleOptions(window=50, gone_check_s=1000))
    made = server.create("ch", "application/json")
    async with server.serving() as base:
        yield server, made, f"{base}/ch"


@on_loop
async def test_orders_are_whole_bodies_and_bad_ones_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async with channel() as (server, made, url):
        big = {"prompt": "x" * 200_000}
        bodies = [b'{"keep":"alive"}', b"{broken", json.dumps(big).encode(), b"\xff\xfe", b"x" * 2_000_000]
        bodies += [b"[" * 100_000, b'{"last": 1}']
        async with TrickleReader(url, start=0) as reader:
            for body in bodies:
                made.publish(body)
            messages = read_messages(reader)
            assert await anext(messages) == big
            assert await anext(messages) == {"last": 1}
            server.close("ch")
            assert await anext(messages, None) is None
    assert sum("left out" in record.message for record in caplog.records) == 4


@on_loop
async def test_an_order_that_breaks_off_is_left_out() -> None:
    async with channel() as (_, made, url), TrickleReader(url, start=0) as reader:
        half = made.open()
        half.write(b'{"half": ')
        half.close()
        made.publish(b'{"whole": 1}')
        assert await anext(read_messages(reader)) == {"whole": 1}


@on_loop
async def test_events_go_out_in_order_and_to_the_last() -> None:
    async with channel() as (_, made, url), TrickleWriter(url, content_type="application/json") as writer:
        events = EventWriter(writer)
        sending = asyncio.create_task(events.run())
        for number in range(10):
            events.put({"event": {"number": number}})
        events.close()
        await sending
        bodies = [await made.find(number).read() for number in range(10)]
        assert [json.loads(body)["event"]["number"] for body in bodies] == list(range(10))


@on_loop
async def test_too_many_events_drop_the_oldest() -> None:
    async with channel() as (_, made, url), TrickleWriter(url, content_type="application/json") as writer:
        events = EventWriter(writer, most_waiting=2)
        for number in range(5):
            events.put(number)
        assert events.dropped == 3
        events.close()
        await events.run()
        assert [await made.find(number).read() for number in range(2)] == [b"3", b"4"]


@on_loop
async def test_events_of_a_channel_that_is_over_end_the_task() -> None:
    async with channel() as (server, _, url), TrickleWriter(url, content_type="application/json") as writer:
        events = EventWriter(writer)
        sending = asyncio.create_task(events.run())
        server.close("ch")
        events.put({})
        with pytest.raises(ChannelOver):
            await sending


@on_loop
async def test_what_is_no_json_is_refused_at_once() -> None:
    async with channel() as (_, _, url), TrickleWriter(url, content_type="application/json") as writer:
        for item in (object(), float("nan"), {1j: 1}):
            with pytest.raises(ConfigError):
                EventWriter(writer).put(item)


@on_jumping_loop
async def test_data_is_an_array_per_line_and_a_quiet_channel_is_kept_alive() -> None:
    async with channel() as (_, made, url), TrickleWriter(url, content_type="application/jsonl") as writer:
        data = DataWriter(writer)
        sending = asyncio.create_task(data.run())
        data.put("hello")
        data.put({"world": 1})
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        assert await read(made, 0) == b'["hello",{"world":1}]\n'
        assert loop.time() - before_s < 5
        assert await read(made, 1) == b"[]\n"
        assert 20 < loop.time() - before_s < 30
        data.put("last")
        data.close()
        await sending
        assert await read(made, 2) == b'["last"]\n'


async def read(made: Channel, number: int) -> bytes:
    return await made.find(number).read()


@on_loop
async def test_an_item_that_fits_no_line_is_dropped() -> None:
    async with channel() as (_, made, url), TrickleWriter(url, content_type="application/jsonl") as writer:
        data = DataWriter(writer)
        assert not data.put("x" * MOST_LINE_BYTES)
        assert data.put("x" * (MOST_LINE_BYTES - 5))
        assert data.dropped == 1
        data.close()
        await data.run()
        assert len(await read(made, 0)) == MOST_LINE_BYTES


@given(st.lists(st.text(max_size=200), max_size=50), st.integers(900, 2000))
def test_lines_hold_everything_in_order_and_none_is_too_long(items: list[str], most: int) -> None:
    encoded = [json.dumps(item, ensure_ascii=False).encode() for item in items]
    lines = data_lines(encoded, most)
    assert all(len(line) <= most or line.count(b'","') == 0 for line in lines)
    documents: list[Any] = [json.loads(line) for line in lines]
    assert [item for document in documents for item in document] == items
    assert all(line.endswith(b"]\n") and line.count(b"\n") == 1 for line in lines)


@on_loop
async def test_reading_a_channel_that_is_too_broken_raises() -> None:
    async with channel() as (_, _, url):
        pass
    from comfystream.trickle.reader import ReaderOptions

    async with TrickleReader(url, options=ReaderOptions(retry_s=0.001, most_retry_s=0.001)) as reader:
        with pytest.raises(NetworkError):
            await anext(read_messages(reader))


def test_lines_of_objects_hold_one_item_each() -> None:
    texts, item = [b'"hello"', b"[1,2]"], b'{"type":"box","x":1}'
    assert object_lines([*texts, item]) == [
        b'{"type":"text","text":"hello"}\n',
        b'{"type":"text","text":[1,2]}\n',
        item + b"\n",
    ]
    assert object_lines([]) == [b'{"keep":"alive"}\n']
