from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from rtc_ends import Camera, Host, Viewer, run


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_pictures_go_there_and_back(codec: str) -> None:
    async def scenario() -> None:
        host, viewer = Host(is_echo=True), Viewer()
        viewer.pc.addTrack(Camera())
        viewer.prefer(codec)
        await viewer.connect(host.peer.answer)
        assert await host.until("connected") == ["connecting", "connected"]
        numbers = await viewer.counters(20)
        assert numbers == sorted(set(numbers)), "each once, in order, readable"
        assert host.peer.stats["video_out"]["codec"] == codec
        frames = [await host.videos.get() for _ in range(10)]
        assert [frame.id for frame in frames] == list(range(10))
        assert all(0 < frame.stamps.captured <= frame.stamps.decoded for frame in frames)
        times = [frame.pts * frame.time_base for frame in frames]
        assert times[0] == 0
        assert all(Fraction(1, 60) < later - earlier < Fraction(1, 15) for earlier, later in pairwise(times))
        await viewer.pc.close()
        await host.until("closed")
        await host.peer.close()

    run(scenario())
