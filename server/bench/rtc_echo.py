"""The other process of `bench rtc`: sends every picture back, as plain aiortc or as a `Peer`; orders as JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from comfystream.frames import VideoFrame

from ..rtc.ice import IceSettings
from ..rtc.peer import Peer

__all__ = ["main"]


class BareEcho:
    """What the examples of aiortc do: a received track is a track to send."""

    def __init__(self) -> None:
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connection.on("track", self._back)

    def _back(self, track: MediaStreamTrack) -> None:
        self._connection.addTrack(track)

    async def answer(self, sdp: str) -> str:
        """SDP answer to an offer."""
        await self._connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await self._connection.setLocalDescription()
        return str(self._connection.localDescription.sdp)

    async def close(self) -> None:
        """End the connection."""
        await self._connection.close()


class OurEcho:
    """A `Peer` with a session that passes pictures through."""

    def __init__(self) -> None:
        self._peer = Peer(
            ice=IceSettings(),
            on_video=self._back,
            on_audio=lambda _: None,
            on_message=lambda *_: None,
            on_state=lambda _: None,
        )

    def _back(self, frame: VideoFrame) -> None:
        self._peer.send_video(frame)

    async def answer(self, sdp: str) -> str:
        """SDP answer to an offer."""
        return (await self._peer.answer(sdp))[0]

    async def close(self) -> None:
        """End the connection."""
        await self._peer.close()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    echo: BareEcho | OurEcho = OurEcho() if sys.argv[1:] == ["ours"] else BareEcho()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order: dict[str, Any] = json.loads(line)
        reply: dict[str, Any] = {"cpu_s": time.process_time()}
        if "offer" in order:
            reply["answer"] = await echo.answer(order["offer"])
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
    await echo.close()


def main() -> None:
    """Serve one connection until the standard input ends."""
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
