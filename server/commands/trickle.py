"""`comfystream trickle`: a server for segments over HTTP, and the tools to look into its channels."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comfystream.errors import ConfigError, MediaError, NetworkError

from ..faults import say_note

if TYPE_CHECKING:
    from comfystream.trickle.reader import Segment, TrickleReader
    from comfystream.trickle.server import TrickleServer
    from comfystream.trickle.writer import TrickleWriter

__all__ = ["app"]

app = typer.Typer(
    help="Segments over HTTP as Livepeer's orchestrators pass them on: a server, and tools to look into channels.",
    no_args_is_help=True,
)

TS = "video/MP2T"
Url = Annotated[str, typer.Argument(metavar="URL", help="The channel: http://127.0.0.1:2939/camera")]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        "--insecure-tls",
        help="Accept any certificate: orchestrators sign their own.",
        show_default=False,
    ),
]
Start = Annotated[int, typer.Option("--start", metavar="N", help="First segment; -2 the newest, -1 the one after it.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", help="How long the channel may be missing at first.")]


@app.command("server")
def server(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 2939,
    base_path: Annotated[str, typer.Option("--base-path", metavar="PATH", help="Where channels begin.")] = "/",
    auto_create: Annotated[
        bool, typer.Option("--auto-create/--no-auto-create", help="Clients may make channels.")
    ] = True,
    changefeed: Annotated[
        bool, typer.Option("--changefeed/--no-changefeed", help="Channel _changes tells which come and go.")
    ] = True,
    channels: Annotated[
        list[str] | None, typer.Option("--channel", metavar="NAME=TYPE", help="Make it at once: cam=video/MP2T")
    ] = None,
    idle: Annotated[float, typer.Option("--idle", min=1, metavar="SECONDS", help="Channels without data end.")] = 300,
    window: Annotated[int, typer.Option("--window", min=2, max=1000, help="Segments that are kept per channel.")] = 5,
) -> None:
    """Serve channels until Ctrl-C: for local work and tests, nobody is asked for a password."""
    from comfystream.trickle.server import TrickleOptions, TrickleServer

    options = TrickleOptions(auto_create=auto_create, changefeed=changefeed, idle_s=idle, window=window)
    given = [_channel(words) for words in channels or []]

    async def serve() -> None:
        trickle = TrickleServer(options)
        for name, mime in given:
            trickle.create(name, mime)
        await _serve(trickle, host, port, base_path)

    asyncio.run(serve())


def _channel(words: str) -> tuple[str, str]:
    name, _, mime = words.partition("=")
    if not name:
        raise ConfigError(f'--channel "{words}": a name is missing', code="bad_channel", hint="like cam=video/MP2T")
    return name, mime or "video/MP2T"


async def _serve(trickle: TrickleServer, host: str, port: int, base_path: str) -> None:
    from ..serving import on_signals

    stopped = asyncio.Event()
    on_signals(stopped.set)
    async with trickle.serving(host, port, base_path=base_path) as url:
        print(f"trickle server: {url}/CHANNEL", flush=True)
        await stopped.wait()


@app.command("publish")
def publish(
    file: Annotated[Path, typer.Argument(metavar="FILE", help='What to send; "-" is standard input.')],
    url: Url,
    content_type: Annotated[
        str, typer.Option("--type", metavar="MIME", help="What readers are told that it is.")
    ] = TS,
    fast: Annotated[bool, typer.Option("--fast", help="Do not keep to the stream's own time.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Again and again; for clips that are encoded.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Send a clip's bytes as they are.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a channel that has segments already.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="End the channel afterwards.")] = False,
    insecure: Insecure = False,
) -> None:
    """Send a file as it plays: MPEG-TS cut before key frames, other clips encoded; whatever else in one segment."""
    from comfystream.trickle.writer import TrickleWriter

    if str(file) != "-" and not file.exists():
        raise MediaError(f"{file} cannot be read: No such file", code="cannot_read")
    if not raw and content_type == TS and _is_clip(file):
        if fast:
            raise ConfigError("--fast: a clip that is encoded goes as it plays", code="bad_option", hint="use --raw")
        _run(_encode(file, url, is_endless=loop, resume=resume, delete=delete, verify_tls=not insecure))
        return
    if loop:
        raise ConfigError("--loop is for clips that are encoded, such as MP4", code="bad_option")

    async def send() -> None:
        start = None if resume else 0
        writer = TrickleWriter(url, content_type=content_type, start=start, verify_tls=not insecure)
        try:
            await writer.create()
            await _send(writer, file, is_paced=not fast)
        finally:
            await writer.close(5.0, delete_channel=delete)
            stats = writer.stats
            broken = f", broken: {stats.broken}" if stats.broken else ""
            if stats.segments:
                print(f"segments: {stats.segments}, bytes: {stats.sent_bytes}{broken}")

    _run(send())


def _is_clip(file: Path) -> bool:
    """Pictures or sound in a container that readers of a channel cannot make anything of."""
    from ..trickle_pieces import is_transport_file

    kind = mimetypes.guess_type(file.name)[0] or ""
    return kind.startswith(("video/", "audio/")) and file.is_file() and not is_transport_file(file)


async def _encode(file: Path, url: str, *, is_endless: bool, resume: bool, delete: bool, verify_tls: bool) -> None:
    from comfystream.trickle.publish import publish_file

    rounds, start = None if is_endless else 1, None if resume else 0
    stats = await publish_file(
        file, url, rounds=rounds, start=start, create=True, delete_channel=delete, verify_tls=verify_tls
    )
    print(f"segments: {stats.segments}, pictures: {stats.pictures}, parts with sound: {stats.sounds}")


async def _send(writer: TrickleWriter, file: Path, *, is_paced: bool) -> None:
    from ..trickle_pieces import pieces_of

    segment = None
    began: tuple[float, float] | None = None
    async with contextlib.aclosing(pieces_of(file)) as pieces:
        async for piece in pieces:
            if is_paced and piece.time_s is not None:
                began = began or (time.monotonic(), piece.time_s)
                await asyncio.sleep(began[0] + piece.time_s - began[1] - time.monotonic())
            if piece.is_start or segment is None:
                segment = await writer.segment()
            await segment.write(piece.data)
    if segment is None:
        raise MediaError(f"{file} is empty", code="empty_file")
    await segment.close()


@app.command("watch")
def watch(
    url: Url,
    start: Start = -2,
    count: Annotated[int | None, typer.Option("--count", min=1, metavar="N", help="Leave after so many.")] = None,
    wait: Wait = 0,
    insecure: Insecure = False,
) -> None:
    """Print a line for each segment of a channel: number, bytes, how long it took, type and headers."""

    async def look() -> None:
        async with _reader(url, start, wait, insecure) as reader:
            seen, asked = 0, time.monotonic()
            async for segment in reader:
                print(await _line(segment, asked), flush=True)
                seen, asked = seen + 1, time.monotonic()
                if seen == count:
                    return
            _say_end(reader)

    _run(look())


async def _line(segment: Segment, asked: float) -> str:
    began, size, chunks = time.monotonic(), 0, 0
    async for chunk in segment.chunks():
        size += len(chunk)
        chunks += 1
    took_ms = (time.monotonic() - began) * 1000
    headers = " ".join(f"{name}={value}" for name, value in segment.headers.items() if name.startswith("Lp-"))
    broken = "  broke off" if segment.is_broken else ""
    waited_ms = (began - asked) * 1000
    return (
        f"{segment.number:>6}  {size:>9} bytes in {chunks} pieces  waited {waited_ms:.0f} ms, took {took_ms:.0f} ms"
        f"  {segment.content_type or 'no type'}  {headers}{broken}"
    )


@app.command("pull")
def pull(
    url: Url,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help='Where to; "-" is standard output.')],
    start: Start = -2,
    count: Annotated[int | None, typer.Option("--count", min=1, metavar="N", help="Leave after so many.")] = None,
    wait: Wait = 0,
    insecure: Insecure = False,
) -> None:
    """Write the segments of a channel to a file, one behind the other, until the channel ends."""

    async def take() -> None:
        from ..pulled_file import PulledFile

        seen = 0
        with PulledFile(output) as target:
            try:
                async with _reader(url, start, wait, insecure) as reader:
                    async for segment in reader:
                        async for chunk in segment.chunks():
                            target.write(chunk)
                        seen += 1
                        if seen == count:
                            break
                    else:
                        _say_end(reader)
            finally:
                if target.size and str(output) != "-":
                    print(f"{output}: segments: {seen}, bytes: {target.size}")

    _run(take())


def _reader(url: str, start: int, wait_s: float, insecure: bool) -> TrickleReader:
    from comfystream.trickle.reader import ReaderOptions, TrickleReader

    if start < -2:
        raise ConfigError(f"--start {start} is no segment", code="bad_start", hint="-2, -1 or a number from 0")
    options = ReaderOptions(channel_wait_s=wait_s)
    return TrickleReader(url, start=start, verify_tls=not insecure, options=options)


def _say_end(reader: TrickleReader) -> None:
    from comfystream.trickle.reader import EndReason

    if reader.end is EndReason.NOT_FOUND and not reader.stats.segments:
        raise NetworkError(
            f"there is no channel at {reader.url}",
            code="channel_not_found",
            hint="--wait 30 waits for one that is yet to come",
        )
    say_note("the channel has ended")


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Do it; Ctrl-C and SIGTERM end it in order: what is on its way is sent, and what came is kept."""
    from ..serving import on_signals

    working = asyncio.ensure_future(work)
    heard: list[bool] = []

    def stop() -> None:
        heard.append(working.cancel())

    on_signals(stop)
    try:
        await working
    except asyncio.CancelledError:
        if not heard:
            working.cancel()
            raise
        say_note("stopped")


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(_until_stopped(work))
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stderr.close()
