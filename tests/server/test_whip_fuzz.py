"""WHIP and WHEP with bodies made up by the hundred: never a 500, and a connection that is there stays."""

from __future__ import annotations

import asyncio
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection
from app_harness import Grey, app_with
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from on_loop import until
from whip_ends import publishing, watching

from comfystream.engine.child import ChildEngine

BODIES = 150  # for each kind
WORDS = ["", "0", "-1", "9", "x", "H264/90000", "AV1/90000", "sendonly", "inactive", "actpass", "\x00", "é" * 40]
TYPES = ["application/sdp", "application/trickle-ice-sdpfrag", "text/plain", "", "application/sdp; charset=utf-16"]
PATHS = ["/whip/cam", "/whep/stage", "/whip/stage", "/whep/nobody", "/whip/..%2f..", "/whip/%00", "/whip/" + "a" * 65]


async def a_real_offer() -> str:
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("video", direction="recvonly")
    pc.addTransceiver("audio", direction="sendonly")
    await pc.setLocalDescription(await pc.createOffer())
    sdp = pc.localDescription.sdp
    await pc.close()
    return sdp


OFFER = asyncio.run(a_real_offer())
LINES = OFFER.splitlines()


@st.composite
def damaged(draw: Any) -> str:
    """A real offer with lines left out, doubled, changed or cut short."""
    lines = [*LINES]
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, draw(st.sampled_from(lines)))
            case 2:
                key, _, _ = lines[at].partition(":")
                lines[at] = f"{key}:{draw(st.sampled_from(WORDS))}"
            case 3:
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case 4:
                lines[at] = draw(st.text(max_size=30))
        if not lines:
            break
    return "\r\n".join(lines) + "\r\n"


CANDIDATES = st.sampled_from(
    [
        "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host",
        "a=candidate:1 1 tcp 1 ::1 70000 typ host",
        "a=candidate:1 2 udp 1 nobody.local 9 typ host",
        "a=candidate:1 1 udp 99999999999999999999 256.1.1.1 -1 typ relay raddr 0 rport x",
        "a=candidate:",
        "a=end-of-candidates",
        "a=ice-ufrag:other",
        "a=ice-pwd:x",
        "a=mid:0",
        "a=mid:9",
        "m=video 9 UDP/TLS/RTP/SAVPF 0",
    ]
)
FRAGMENTS = st.lists(CANDIDATES | st.text(max_size=30), max_size=8).map("\r\n".join)
ANY = damaged() | damaged() | st.text(max_size=60) | st.binary(max_size=60)
POSTS = st.tuples(st.sampled_from(PATHS), st.sampled_from([TYPES[0]] * 6 + TYPES), ANY)
PATCHES = st.tuples(st.sampled_from(["*", "tag", '"x"', ""]), st.sampled_from([TYPES[1]] * 4 + TYPES), FRAGMENTS)


def drawn(strategy: st.SearchStrategy[Any]) -> list[Any]:
    """Many examples, always the same ones."""
    found: list[Any] = []

    @settings(max_examples=BODIES, database=None, derandomize=True, deadline=None, suppress_health_check=[*HealthCheck])
    @given(strategy)
    def gather(example: Any) -> None:
        found.append(example)

    gather()
    return found


def encoded(body: str | bytes) -> bytes:
    return body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")


def test_no_body_stops_anything(shared_engine: ChildEngine) -> None:
    posts, patches = drawn(POSTS), drawn(PATCHES)
    seen: set[int] = set()

    async def scenario() -> None:
        async with (
            app_with(shared_engine, connects_per_s=10_000, max_viewers=10_000) as app,
            publishing(app.client, "/whip/stage", Grey()) as publisher,
            watching(app.client, "/whep/stage") as viewer,
        ):
            for path, kind, body in posts:
                headers = {"Content-Type": kind} if kind else {}
                response = await app.client.post(path, data=encoded(body), headers=headers)
                seen.add(response.status)
                assert response.status < 500 or response.status == 503, (path, kind, body, await response.text())
                if response.status == 201:
                    assert (await app.client.delete(response.headers["Location"])).status == 200
            for match, kind, body in patches:
                headers = {"If-Match": publisher.tag if match == "tag" else match} if match else {}
                headers |= {"Content-Type": kind} if kind else {}
                response = await app.client.patch(publisher.place, data=encoded(body), headers=headers)
                seen.add(response.status)
                assert response.status < 500, (match, kind, body, await response.text())
            count = viewer.counts["video"]
            await until(lambda: viewer.counts["video"] > count + 3, "pictures go on")
            assert publisher.pc.connectionState == "connected"

    asyncio.run(asyncio.wait_for(scenario(), 100))
    assert {201, 204, 400, 404, 412, 415, 422, 428} <= seen
