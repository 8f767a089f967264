"""Runs in pytrickle's environment: its publisher and subscriber, without the rest (torch, PyAV, ...).

publish URL COUNT      sends so many segments, in three writes each
subscribe URL COUNT    prints a line of JSON for each of so many segments: its number and its text
send URL FOLDER        sends the files of a folder, a segment each, as slowly as they play
keep URL FOLDER        writes each segment into a file of a folder, until the channel ends, and prints its number
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path


def load(module: str) -> types.ModuleType:
    """A module of the package whose own `__init__` would import everything."""
    spec = importlib.util.find_spec("pytrickle")
    assert spec is not None
    assert spec.origin is not None
    package = types.ModuleType("pytrickle")
    package.__path__ = [str(Path(spec.origin).parent)]
    sys.modules.setdefault("pytrickle", package)
    return importlib.import_module(f"pytrickle.{module}")


async def publish(url: str, count: int) -> None:
    publisher = load("publisher").TricklePublisher(url, mime_type="text/plain")
    await publisher.start()
    for number in range(count):
        async with await publisher.next() as segment:
            for part in range(3):
                await segment.write(f"{number}.{part} ".encode())
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    await publisher.close()


async def subscribe(url: str, count: int) -> None:
    subscriber = load("subscriber").TrickleSubscriber(url)
    await subscriber.start()
    print("ready", flush=True)
    for _ in range(count):
        segment = await subscriber.next()
        if segment is None:
            print("null", flush=True)
            break
        data = b""
        while chunk := await segment.read():
            data += chunk
        print(json.dumps([segment.seq(), data.decode()]), flush=True)
    await subscriber.close()


async def send(url: str, files: list[Path]) -> None:
    publisher = load("publisher").TricklePublisher(url, mime_type="video/mp2t")
    await publisher.start()
    for file in files:
        data = file.read_bytes()
        size = -(-len(data) // 20)
        async with await publisher.next() as segment:
            for begin in range(0, len(data), size):
                await segment.write(data[begin : begin + size])
                await asyncio.sleep(0.05)
    await publisher.close()


async def keep(url: str, folder: Path) -> None:
    subscriber = load("subscriber").TrickleSubscriber(url)
    await subscriber.start()
    while (segment := await subscriber.next()) is not None:
        data = b""
        while chunk := await segment.read():
            data += chunk
        if data:
            (folder / f"{segment.seq():04}.ts").write_bytes(data)
            print(segment.seq(), flush=True)
    await subscriber.close()


if __name__ == "__main__":
    word, url, more = sys.argv[1:]
    if word in ("publish", "subscribe"):
        asyncio.run({"publish": publish, "subscribe": subscribe}[word](url, int(more)))
    elif word == "send":
        asyncio.run(send(url, sorted(Path(more).iterdir())))
    else:
        asyncio.run(keep(url, Path(more)))
