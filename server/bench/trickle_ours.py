"""The worker of `bench trickle`: decodes pictures of one channel, encodes them to another; says what that took."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time

from comfystream.trickle.media_in import MediaReader
from comfystream.trickle.media_out import MediaWriter

__all__ = ["main"]


async def _pass_through(source: str, target: str) -> None:
    async with MediaReader(source) as reader, MediaWriter(target) as writer:
        async for frame in reader:
            writer.offer(frame)


async def _serve(source: str, target: str) -> None:
    loop = asyncio.get_running_loop()
    passing = asyncio.create_task(_pass_through(source, target))
    while await loop.run_in_executor(None, sys.stdin.readline):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(json.dumps({"cpu_s": time.process_time(), "peak_mb": peak}) + "\n")
        sys.stdout.flush()
    passing.cancel()
    await asyncio.gather(passing, return_exceptions=True)


def main() -> None:
    """Pass through until the standard input ends: arguments are the two channels."""
    asyncio.run(_serve(*sys.argv[1:3]))


if __name__ == "__main__":
    main()
