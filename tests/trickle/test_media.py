"""Pictures and sound over real channels, with what networks and senders do to them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from comfystream.errors import MediaError, NetworkError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.mpegts.encode import Part, TsEncoder
from comfystream.media.pattern import draw_pattern, read_counter, tone
from comfystream.media.progress import progress_picture
from comfystream.trickle.media_in import MediaReader
from comfystream.trickle.media_out import CONTENT_TYPE, MediaWriter, MediaWriterOptions
from comfystream.trickle.publish import publish_file
from comfystream.trickle.reader import EndReason, TrickleReader
from comfystream.trickle.server import TrickleOptions, TrickleServer
from comfystream.trickle.writer import TrickleWriter

SIZE = (128, 96)
DEADLINE_S = 20.0
X264 = MediaWriterOptions(encoder="libx264", pictures=1000)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test with a deadline."""

    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 2 * DEADLINE_S))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__signature__ = __import__("inspect").signature(test)  # type: ignore[attr-defined]
    return run


@contextlib.asynccontextmanager
async def channels(*names: str) -> AsyncIterator[tuple[TrickleServer, str]]:
    server = TrickleServer(TrickleOptions(grace_s=0.1))
    async with server.serving() as base:
        for name in names:
            server.create(name, CONTENT_TYPE)
        yield server, base


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.01)


async def soon(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, DEADLINE_S)


def picture(number: int, size: tuple[int, int] = SIZE) -> VideoFrame:
    return VideoFrame(number, number, Fraction(1, 30), draw_pattern(*size, number))


def sound(number: int) -> AudioFrame:
    samples = np.repeat(tone(number * 1600, 1600, 48_000), 2, axis=0)
    return AudioFrame(number, number * 1600, Fraction(1, 48_000), samples, 48_000)


def recorded(count: int, first: int = 0) -> list[list[bytes]]:
    """Segments of numbered pictures, each as its parts; the first is 9 pictures long, the others 30."""
    encoder = TsEncoder(encoder="libx264")
    parts: list[Part] = [part for n in range(first, first + count) for part in encoder.encode(picture(n))]
    segments: list[list[bytes]] = []
    for part in parts:
        if part.starts_segment:
            segments.append([])
        segments[-1].append(part.data)
    return segments


async def all_numbers(reader: MediaReader) -> list[int | None]:
    return [read_counter(frame.image) async for frame in reader if isinstance(frame, VideoFrame)]


@on_loop
async def test_pictures_and_sound_arrive_with_their_times_until_the_end() -> None:
    async with channels("a") as (_, base):
        media = MediaWriterOptions(encoder="libx264", channels=2, pictures=100)
        async with MediaWriter(f"{base}/a", media) as writer, MediaReader(f"{base}/a", pictures=100) as reader:
            for number in range(45):
                writer.offer(sound(number))
                writer.offer(picture(number))
            first = await soon(reader.next())
            await writer.close(delete_channel=True)
            frames = [first] + [frame async for frame in reader]
        pictures = [frame for frame in frames if isinstance(frame, VideoFrame)]
        assert [read_counter(frame.image) for frame in pictures] == list(range(45))
        assert [(frame.id, frame.pts) for frame in pictures] == [(n, n * 3000) for n in range(45)]
        sounds = [frame for frame in frames if isinstance(frame, AudioFrame)]
        assert sum(frame.samples.shape[1] for frame in sounds) >= 45 * 1600 - 960
        assert reader.end is EndReason.CLOSED
        assert writer.stats.segments == writer.transport.stats.segments == 3
        assert (reader.stats.broken, reader.stats.lost_units, reader.stats.waited) == (0, 0, 0)


@on_loop
async def test_each_picture_arrives_before_the_next_is_made() -> None:
    """No part of the way holds one back until another pushes it out."""
    async with (
        channels("a") as (_, base),
        MediaWriter(f"{base}/a", X264) as writer,
        MediaReader(f"{base}/a", start=0) as reader,
    ):
        for number in range(40):
            assert writer.offer(picture(number))
            frame = await soon(reader.next())
            assert read_counter(frame.image) == number


@on_loop
async def test_a_slow_taker_gets_the_newest_picture() -> None:
    async with channels("a") as (server, base):
        channel = server.get("a")
        assert channel is not None
        for segment in recorded(39):
            channel.publish(b"".join(segment))
        async with MediaReader(f"{base}/a", start=0, pictures=1, most_behind_s=60) as reader:
            taken = [read_counter((await soon(reader.next())).image)]
            await until(lambda: reader.stats.pictures == 39)
            server.close("a")
            taken += await soon(all_numbers(reader))
            assert taken[-1] == 38
            assert len(taken) <= 2
            assert reader.stats.dropped_pictures == 39 - len(taken)


@pytest.mark.parametrize("garbage", [b"", b"\x47" * 1880, bytes(range(256)) * 40, b"not media at all"])
def test_a_garbage_segment_is_a_gap(garbage: bytes) -> None:
    async def run() -> None:
        async with (
            channels("a") as (server, base),
            MediaReader(f"{base}/a", start=0, pictures=1000, most_behind_s=60) as reader,
        ):
            channel = server.get("a")
            assert channel is not None
            first, second, third = (b"".join(segment) for segment in recorded(69))
            numbers = asyncio.create_task(all_numbers(reader))
            for data in (first, garbage or second[: len(second) // 2], third):
                received = reader.stats.received_bytes + len(data)
                channel.publish(data)
                await until(lambda: reader.stats.received_bytes == received)  # noqa: B023
                await until(lambda: reader.stats.pictures >= 9)
            await until(lambda: reader.stats.pictures >= 39)
            server.close("a")
            found = await soon(numbers)
        assert found[:9] == list(range(9))
        assert found[-30:] == list(range(39, 69))
        middle = found[9:-30]
        assert middle == list(range(9, 9 + len(middle)))
        assert bool(middle) == (not garbage)

    asyncio.run(run())


@on_loop
async def test_a_publisher_that_dies_in_a_segment_leaves_a_gap() -> None:
    async with (
        channels("a") as (server, base),
        MediaReader(f"{base}/a", start=0, pictures=1000, most_behind_s=60) as reader,
    ):
        first, second, third = recorded(69)
        numbers = asyncio.create_task(all_numbers(reader))
        writer = TrickleWriter(f"{base}/a", content_type=CONTENT_TYPE)
        for parts in (first, second[:10]):
            segment = await writer.segment()
            for part in parts:
                await segment.write(part)
        await until(lambda: reader.stats.pictures == 19)
        await segment.abort()
        await writer.close()
        again = TrickleWriter(f"{base}/a", content_type=CONTENT_TYPE, start=None)
        await again.send(b"".join(third))
        await until(lambda: reader.stats.pictures == 49)
        await again.close(delete_channel=True)
        assert await soon(numbers) == [*range(19), *range(39, 69)]


@on_loop
async def test_decoding_that_falls_behind_goes_on_with_the_newest_segment() -> None:
    async with channels("a") as (server, base):
        reader = MediaReader(f"{base}/a", start=0, pictures=1000, most_behind_s=0.01)
        decode, gate = reader._decoder.decode, asyncio.Event()
        loop = asyncio.get_running_loop()

        def held(*args: Any) -> Any:
            if reader._decoder.counts.pictures == 3:
                asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
            return decode(*args)

        reader._decoder.decode = held  # type: ignore[method-assign]
        numbers = asyncio.create_task(all_numbers(reader))
        channel = server.get("a")
        assert channel is not None
        segments = recorded(9 + 4 * 30)
        received = 0
        for segment in segments:
            channel.publish(b"".join(segment))
            received += sum(map(len, segment))
            await until(lambda: reader.stats.received_bytes == received)  # noqa: B023
        gate.set()
        await until(lambda: reader.stats.pictures >= 35)
        server.close("a")
        found = await soon(numbers)
        await reader.close()
        assert found[-30:] == list(range(99, 129))
        assert found[: len(found) - 30] == list(range(len(found) - 30))
        assert reader.stats.skipped_segments >= 3


@on_loop
async def test_encoding_that_falls_behind_takes_the_newest_picture() -> None:
    async with channels("a") as (_, base):
        media = MediaWriterOptions(encoder="libx264", pictures=1)
        writer = MediaWriter(f"{base}/a", media)
        for number in range(10):  # before it starts, so that they meet
            assert writer.offer(picture(number))
        async with writer, MediaReader(f"{base}/a") as reader:
            assert read_counter((await soon(reader.next())).image) == 9
        assert writer.stats.dropped_pictures == 9


@on_loop
async def test_w55_the_last_picture_is_held_so_that_segments_go_on() -> None:
    async with channels("a") as (_, base):
        media = MediaWriterOptions(encoder="libx264", hold_s=0.1, segment_s=0.2, first_s=0.1)
        async with MediaWriter(f"{base}/a", media) as writer, TrickleReader(f"{base}/a", start=0) as reader:
            writer.offer(picture(5))
            for number in range(4):
                segment = await soon(reader.next())
                assert segment.number == number
                assert await soon(segment.read())  # it ends
        assert writer.stats.held_pictures >= 4


@on_loop
async def test_w55_segments_go_on_from_a_progress_picture_to_the_first_real_one() -> None:
    """While something loads, viewers see how far it is, at the times of the input; then the picture, without a seam."""
    async with channels("a") as (_, base):
        async with (
            MediaWriter(f"{base}/a", X264) as writer,
            MediaReader(f"{base}/a", start=0, pictures=100, most_behind_s=60) as reader,
        ):
            for number in range(40):
                frame = picture(number, (256, 128))
                loading = progress_picture((256, 128), "loading weights", number / 40)
                writer.offer(frame if number >= 35 else replace(frame, image=loading))
            found = await soon(_take(reader, 40))
        assert [frame.pts for frame in found] == [number * 3000 for number in range(40)]
        assert [read_counter(frame.image) for frame in found[35:]] == list(range(35, 40))
        assert all(read_counter(frame.image) is None for frame in found[:35])


async def _take(reader: MediaReader, count: int) -> list[VideoFrame]:
    frames: list[VideoFrame] = []
    while len(frames) < count:
        frame = await reader.next()
        assert isinstance(frame, VideoFrame)
        frames.append(frame)
    return frames


@on_loop
async def test_a_channel_that_does_not_exist_ends_the_writer() -> None:
    async with channels() as (_, base), MediaWriter(f"{base}/nope", X264) as writer:
        await until(lambda: not writer.offer(picture(0)))
        with pytest.raises(NetworkError, match="does not exist"):
            await soon(writer.wait_over())
        assert writer.is_over


@on_loop
async def test_a_channel_that_does_not_exist_ends_the_reader() -> None:
    async with channels() as (_, base), MediaReader(f"{base}/nope") as reader:
        assert await soon(reader.next()) is None
        assert reader.end is EndReason.NOT_FOUND


@on_loop
async def test_a_frame_that_cannot_be_encoded_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with channels("a") as (_, base), MediaReader(f"{base}/a", start=0, pictures=100, most_behind_s=60) as reader:
        async with MediaWriter(f"{base}/a", X264) as writer:
            encode = writer._encoder.encode

            def sometimes(frame: VideoFrame | AudioFrame) -> list[Part]:
                if frame.id == 2:
                    raise av.error.ExternalError(1, "the device is gone")
                return encode(frame)

            monkeypatch.setattr(writer._encoder, "encode", sometimes)
            for number in range(5):
                writer.offer(picture(number))
            numbers = asyncio.create_task(all_numbers(reader))
            await until(lambda: writer.stats.pictures == 4)
            await writer.close(delete_channel=True)
        assert await soon(numbers) == [0, 1, 3, 4]
        assert writer.stats.failed == 1


@on_loop
async def test_an_encoder_that_never_works_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(frame: object) -> list[Part]:
        raise av.error.ExternalError(1, "the device is gone")

    async with channels("a") as (_, base), MediaWriter(f"{base}/a", X264) as writer:
        monkeypatch.setattr(TsEncoder, "encode", lambda self, frame: never(frame))
        for number in range(40):
            writer.offer(picture(number))
        with pytest.raises(MediaError, match="libx264 failed 30 times in a row: .*the device is gone"):
            await soon(writer.wait_over())
        assert writer.is_over


@on_loop
async def test_closing_leaves_nothing_running() -> None:
    async with channels("a") as (_, base):
        async with MediaWriter(f"{base}/a", X264) as writer, MediaReader(f"{base}/a") as reader:
            writer.offer(picture(0))
            await soon(reader.next())
        await writer.close()
        await reader.close()
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not {name for name in names if name.startswith("trickle-media")}


@on_loop
async def test_a_file_is_published_whole(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(20):
            container.mux(stream.encode(draw_pattern(*SIZE, number)))
        container.mux(stream.encode(None))
    async with channels("a") as (_, base), MediaReader(f"{base}/a", start=0, pictures=100, most_behind_s=60) as reader:
        numbers = asyncio.create_task(all_numbers(reader))
        began = time.monotonic()
        stats = await soon(publish_file(clip, f"{base}/a", rounds=2, delete_channel=True))
        assert time.monotonic() - began > 1.2  # as long as it plays
        assert await soon(numbers) == [*range(20), *range(20)]
        assert stats.pictures == 40


@on_loop
async def test_what_is_no_media_file_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"nothing of use")
    async with channels("a") as (_, base):
        with pytest.raises(MediaError):
            await publish_file(tmp_path / "clip.mp4", f"{base}/a")
        with pytest.raises(MediaError):
            await publish_file(tmp_path / "none.mp4", f"{base}/a")
