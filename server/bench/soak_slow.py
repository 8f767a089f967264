"""The slow viewer of `bench soak`: a process of its own, so that it can be held for seconds at a time."""

from __future__ import annotations

import asyncio
import sys

import aiohttp

from ..rtc.ice import IceSettings
from ..rtc.peer import Peer

__all__ = ["main"]


async def _watch(address: str, session: str) -> None:
    peer = Peer(
        ice=IceSettings(has_loopback=True),
        on_video=lambda _: None,
        on_audio=lambda _: None,
        on_message=lambda *_: None,
        on_state=lambda state: print(state, flush=True),
    )
    async with aiohttp.ClientSession() as http:
        body = {"session": session, "offer": {"sdp": await peer.offer(("video",)), "type": "offer"}}
        async with http.post(f"{address}/offer", json=body) as response:
            await peer.accept((await response.json())["sdp"])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await peer.close()


def main() -> None:
    """Watch the session `argv[2]` of the server at `argv[1]` until the standard input ends."""
    asyncio.run(_watch(*sys.argv[1:3]))


if __name__ == "__main__":
    main()
