"""The window of a channel, without HTTP."""

from __future__ import annotations

import asyncio
import time

import pytest
from on_loop import on_loop

from comfystream.trickle.channel import Channel, NoEntry
from comfystream.trickle.wire import ChannelOver


def channel(**more: float) -> Channel:
    return Channel("ch", "x/y", clock=time.monotonic, **more)  # type: ignore[arg-type]


@on_loop
async def test_a_number_that_was_given_up_is_used_up() -> None:
    """Else its readers would be sent from it to the next, and from there back to it, without end."""
    given_up = channel()
    waiting = given_up.find(0)
    assert given_up.drop(0)
    assert waiting.is_closed
    assert given_up.next_write == 1
    assert not given_up.find(1).is_closed


@on_loop
async def test_a_segment_that_a_reader_pushed_out_still_ends_with_the_channel() -> None:
    full = channel()
    slow = full.open(0)
    slow.write(b"begun")
    for number in range(1, 5):
        full.finish(full.open(number))
    full.find(5)
    assert full.held(0) is None
    assert not slow.is_closed
    reading = asyncio.create_task(slow.read())
    full.close()
    assert await reading == b"begun"


@on_loop
async def test_a_closed_channel_takes_and_gives_nothing() -> None:
    over = channel()
    over.publish(b"zero")
    over.close()
    with pytest.raises(ChannelOver):
        over.open()
    with pytest.raises(NoEntry):
        over.find(1)
    assert [segment.number async for segment in over.subscribe()] == []


@on_loop
async def test_a_subscription_that_is_too_slow_goes_on_at_the_newest() -> None:
    quick = channel()
    quick.publish(b"0")
    subscription = quick.subscribe()
    assert (await anext(subscription)).number == 0
    for number in range(1, 20):
        quick.publish(b"%d" % number)
    following = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0.01)
    quick.publish(b"20")
    assert (await following).number == 20


@on_loop
async def test_a_publisher_that_starts_over_moves_the_numbers_back() -> None:
    again = channel()
    for _ in range(10):
        again.publish(b"x")
    segment = again.open(0)
    segment.write(b"anew")
    again.finish(segment)
    assert again.next_write == 1
    assert again.resolve_read(-2) == 0


@on_loop
async def test_a_lost_publisher_whose_segment_another_goes_on_with() -> None:
    shared = channel(grace_s=0.01)
    first = shared.open(0)
    first.write(b"one ")
    shared.abandon(first)
    second = shared.open(0)
    assert second is first
    await asyncio.sleep(0.05)
    assert not second.is_closed, "the grace is over, and somebody writes"
    second.write(b"two")
    shared.finish(second)
    assert await shared.find(0).read() == b"one two"
