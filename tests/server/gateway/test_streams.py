"""Streams through the gateway: real sockets, real workers, plain aiortc as the browser."""

from __future__ import annotations

from typing import Any

from app_harness import Grey
from gateway_harness import listening, livepeer, network, update_job, worker
from on_loop import on_loop, until
from whip_ends import publishing, watching
from worker_harness import Invert


class Talker(Invert):
    """Inverts as much as it is told, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = 1.0

    async def process_video_async(self, frame: Any) -> Any:
        if self.pictures == 0:
            await self.send_data({"strength": self.strength})
        self.pictures += 1
        return frame.replace_tensor(frame.tensor.lerp(1.0 - frame.tensor, self.strength))

    def update_params(self, params: dict[str, Any]) -> None:
        super().update_params(params)
        self.strength = float(params.get("strength", self.strength))


@on_loop
async def test_63_the_whole_path_as_the_published_sdk_calls_it() -> None:
    talker = Talker()
    async with network() as net, worker(net, talker) as one:
        reply = await net.start("my-stream", params={"width": 64, "height": 48, "max_framerate": 30, "strength": 1})
        id = reply["stream_id"]
        assert id.startswith("my-stream-")
        assert set(reply) == {
            f"{name}_url" for name in ("whip", "whep", "rtmp", "rtmp_output", "update", "status", "data", "stop")
        } | {"stream_id"}
        assert reply["whip_url"] == f"{net.url}/process/stream/{id}/whip"
        assert set(net.channels) == {id, f"{id}-out", f"{id}-control", f"{id}-events", f"{id}-data"}
        async with (
            listening(net, reply["data_url"]) as events,
            publishing(net.session, reply["whip_url"], Grey(200)) as publisher,
            watching(net.session, reply["whep_url"]) as viewer,
        ):
            assert publisher.said["Livepeer-Playback-Url"] == reply["whep_url"]
            assert publisher.place.startswith(f"/process/stream/{id}/whip/")
            await until(lambda: viewer.shown is not None and abs(viewer.shown - 55) < 12, "the inverted picture")
            await until(lambda: {"strength": 1.0} in events.data(), "data")
            status, said = await net.call("POST", reply["update_url"], headers=update_job(id), json={"strength": 0})
            assert (status, said["status"]) == (200, "success")
            await until(lambda: abs(viewer.shown - 200) < 12, "the picture as it was")
            assert talker.params[-1] == {"strength": 0}
            status, said = await net.call("GET", reply["status_url"])
            assert (status, said["whep_url"], said["gateway_state"]) == (200, reply["whep_url"], "running")
            assert (await net.call("POST", reply["stop_url"]))[0] == 200
            await until(lambda: events.is_over, "the end of data")
            assert events.named("end") == [{"reason": "stopped by the client"}]
            await until(lambda: publisher.pc.connectionState != "connected", "the publisher's end")
        assert (await net.call("POST", reply["stop_url"]))[0] == 404
        await one.until_idle()
        assert net.channels == []
        assert [known.load for known in net.workers] == [0]
        assert livepeer({})  # the header is plain base64
