"""The same worker by pytrickle; run by path, by an interpreter that has it: nothing of ours is imported here."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import resource
import sys
import time
from typing import Any

__all__ = ["main"]


def _processor(pytrickle: Any) -> Any:
    class PassThrough(pytrickle.FrameProcessor):  # type: ignore[misc]
        async def load_model(self, **_: object) -> None:
            pass

        async def warmup(self) -> None:
            pass

        async def on_stream_start(self, *_: object) -> None:
            pass

        async def on_stream_stop(self) -> None:
            pass

        async def process_video_async(self, frame: Any) -> Any:
            return frame

        async def process_audio_async(self, frame: Any) -> Any:
            return [frame]

        async def update_params(self, params: object) -> None:
            pass

    return PassThrough()


async def _serve(port: int) -> None:
    pytrickle = importlib.import_module("pytrickle")
    processor = _processor(pytrickle)
    server = pytrickle.StreamServer(frame_processor=processor, port=port)
    processor.attach_state(server.state)
    await processor.ensure_model_loaded()
    serving = asyncio.create_task(server.run_forever())
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(json.dumps({"cpu_s": time.process_time(), "peak_mb": peak}) + "\n")
        sys.stdout.flush()
    serving.cancel()


def main() -> None:
    """Serve streams on a port, the argument, until the standard input ends."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
