"""A media file to a trickle channel at the pace at which it plays."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import aiohttp

from comfystream.errors import MediaError
from comfystream.media.adapted import Looped, Paced
from comfystream.media.file_source import FileSource
from comfystream.media.source import Source

from .media_out import MediaWriter, MediaWriterOptions, MediaWriterStats

__all__ = ["publish_file"]

_OnFrame = Callable[[float, MediaWriterStats], None]
_BURST = 30  # pictures that wait: a file is to arrive whole, also when the machine pauses for a moment
_DRAIN_S = 10.0


async def publish_file(
    path: str | os.PathLike[str],
    url: str,
    *,
    media: MediaWriterOptions | None = None,
    rounds: int | None = 1,
    start: int | None = 0,
    create: bool = False,
    delete_channel: bool = False,
    http: aiohttp.ClientSession | None = None,
    verify_tls: bool = True,
    headers: Mapping[str, str] | None = None,
    on_frame: _OnFrame | None = None,
) -> MediaWriterStats:
    """Encode a file as live segments and send it in real time.

    Args:
        path: any file that FFmpeg reads, with pictures, sound or both.
        url: the channel.
        media: how frames become segments; what the file has, and how many pictures may wait, is filled in.
        rounds: how often; None = again and again until it is cancelled or the channel ends.
        start, http, verify_tls, headers: as for `TrickleWriter`.
        create: ask the server for the channel first.
        delete_channel: end the channel behind the last segment.
        on_frame: called on the event loop now and then, with the media time in seconds and the counts so far.

    Returns:
        What was sent.

    Raises:
        MediaError: the file cannot be read, or the encoder does not work here.
        NetworkError: the channel has ended, does not exist, or cannot be reached.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "trickle-publish") as executor:
        source = await loop.run_in_executor(executor, _open, Path(path), rounds)
        options = _options(source, media or MediaWriterOptions())
        writer = MediaWriter(url, options, start=start, http=http, verify_tls=verify_tls, headers=headers)
        try:
            if create:
                await writer.transport.create()
            await writer.start()
            await _play(source, writer, executor, on_frame)
        finally:
            source.close()
            await writer.close(_DRAIN_S, delete_channel=delete_channel)
    if writer.error is not None:
        raise writer.error
    return writer.stats


def _options(source: Source, media: MediaWriterOptions) -> MediaWriterOptions:
    audio = source.info.audio
    channels = None if audio is None else 2 if audio.channels >= 2 else 1
    return replace(media, has_video=source.info.video is not None, channels=channels, pictures=_BURST)


async def _play(source: Source, writer: MediaWriter, executor: ThreadPoolExecutor, on_frame: _OnFrame | None) -> None:
    """Offer all frames in time; returns at the end of the file or of the channel."""
    loop, ending = asyncio.get_running_loop(), threading.Event()

    def tell(time_s: float) -> None:
        if on_frame is not None:
            loop.call_soon_threadsafe(on_frame, time_s, writer.stats)

    feeding = loop.run_in_executor(executor, _feed, source, writer, ending, tell)
    over = asyncio.create_task(writer.wait_over(), name="trickle-publish-over")
    try:
        await asyncio.wait((feeding, over), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.set()
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)  # `writer.error` tells it
    await feeding


def _open(path: Path, rounds: int | None) -> Source:
    def file() -> Source:
        try:
            return FileSource(path, audio=None)
        except MediaError as error:
            if error.code != "no_video":
                raise
        return FileSource(path, video=False, audio=True)

    return file() if rounds == 1 else Looped(file, rounds)


class _Until:
    """A clock whose sleep ends early when the work does."""

    def __init__(self, ending: threading.Event) -> None:
        self._ending = ending

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self._ending.wait(max(0, deadline_ns - time.monotonic_ns()) / 1e9)


def _feed(source: Source, writer: MediaWriter, ending: threading.Event, tell: Callable[[float], None]) -> None:
    told_ns = 0
    for frame in Paced(source, _Until(ending)).frames():
        if ending.is_set() or not writer.offer(frame):
            return
        if time.monotonic_ns() - told_ns > 200_000_000:
            told_ns = time.monotonic_ns()
            tell(float(frame.pts * frame.time_base))
