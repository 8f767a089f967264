"""Plain aiortc as a publisher and as a viewer over WHIP and WHEP, against an address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.codecs import get_capabilities
from aiortc.mediastreams import MediaStreamError
from on_loop import until

from comfystream_server.rtc.compat_aioice import SecondIce, live_transport
from comfystream_server.rtc.ice import IceSettings
from comfystream_server.rtc.sdp import read_fragment, write_fragment

FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
SDP = {"Content-Type": "application/sdp"}


class End:
    """One end of a WHIP or WHEP connection. `client` is aiohttp's, a test client or a plain one."""

    def __init__(self, client: Any, path: str, token: str = "", ice: IceSettings | None = None) -> None:
        self.client = client
        self.ice = ice or IceSettings()
        self.path = path
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pc.on("track", self._track)
        self.place = self.tag = ""
        self.said: dict[str, str] = {}
        self.counts = {"video": 0, "audio": 0}
        self.shown: int | None = None
        self.loudest = 0
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self, codec: str = "") -> None:
        """Ask for pictures and sound."""
        video = self.pc.addTransceiver("video", direction="recvonly")
        self.pc.addTransceiver("audio", direction="recvonly")
        if codec:
            known = get_capabilities("video").codecs
            video.setCodecPreferences([one for one in known if one.name == codec])

    def send(self, *tracks: Any) -> None:
        """Offer these tracks, to send only."""
        for track in tracks:
            self.pc.addTransceiver(track, direction="sendonly")

    async def post(self) -> tuple[int, Any]:
        """The offer's answer: status, and its text or error."""
        await self.pc.setLocalDescription(await self.pc.createOffer())
        sdp = self.pc.localDescription.sdp
        async with self.client.post(self.path, data=sdp, headers=SDP | self.headers) as response:
            if response.status != 201:
                return response.status, (await response.json())["error"]
            self.place, self.tag = response.headers["Location"], response.headers["ETag"]
            self.said = dict(response.headers)
            return response.status, await response.text()

    async def connect(self) -> str:
        """Post, take the answer and wait for the connection: the answer."""
        status, answer = await self.post()
        assert status == 201, answer
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await until(lambda: self.pc.connectionState == "connected", "the connection")
        return answer

    async def second_ice(self) -> tuple[SecondIce, str]:
        """As after a change of the network: new credentials and sockets, and the fragment that asks to go on there."""
        transport = live_transport(self.pc)
        assert transport is not None
        second = SecondIce(transport, self.ice, "", "")
        found = await second.gather()
        return second, write_fragment(self.pc.localDescription.sdp, *second.credentials, found)

    async def restart(self, linger_s: float = 0) -> None:
        """Move to a new ICE connection; the sockets of before are closed then, or a little later."""
        second, fragment = await self.second_ice()
        async with self.client.patch(self.place, data=fragment, headers=FRAGMENT | self.headers) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == FRAGMENT["Content-Type"]
            said, before, self.tag = read_fragment(await response.text()), self.tag, response.headers["ETag"]
        assert self.tag != before
        second._second.remote_username, second._second.remote_password = said.ufrag, said.password
        for candidate in said.candidates:
            await second.add(candidate)
        await second.connect()
        second.take_over()
        await asyncio.sleep(linger_s)
        await second.close_first()

    def _track(self, track: Any) -> None:
        self._tasks.append(asyncio.create_task(self._read(track)))

    async def _read(self, track: Any) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                self.counts[track.kind] += 1
                if track.kind == "video":
                    self.see(frame)
                else:
                    self.loudest = max(self.loudest, int(np.abs(frame.to_ndarray()).max()))

    def see(self, image: Any) -> None:
        """A picture came."""
        self.shown = int(image.to_ndarray(format="gray")[image.height // 2, image.width // 2])

    async def delete(self) -> int:
        """Say goodbye: the status."""
        async with self.client.delete(self.place, headers=self.headers) as response:
            return response.status

    async def close(self) -> None:
        await self.pc.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@contextlib.asynccontextmanager
async def publishing(client: Any, path: str, *tracks: Any, token: str = "") -> AsyncIterator[End]:
    """A connected publisher."""
    end = End(client, path, token)
    end.send(*tracks)
    try:
        await end.connect()
        yield end
    finally:
        await end.close()


@contextlib.asynccontextmanager
async def watching(client: Any, path: str, codec: str = "", token: str = "") -> AsyncIterator[End]:
    """A connected viewer."""
    end = End(client, path, token)
    end.watch(codec)
    try:
        await end.connect()
        yield end
    finally:
        await end.close()
