"""What goes wrong on the way: no worker, a busy one, one that dies, a new gateway, clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import numpy as np
import pytest
from aiortc import AudioStreamTrack
from app_harness import Grey
from gateway_harness import SECRET, listening, livepeer, network, start_job, worker
from on_loop import on_loop, until
from whip_ends import End, publishing, watching
from worker_harness import Invert, Paint

from comfystream_server.gateway.leg import Patience
from comfystream_server.gateway.workers import Health

SMALL = {"width": 64, "height": 48}


class Tone(AudioStreamTrack):
    """A loud tone."""

    async def recv(self) -> Any:
        frame = await super().recv()
        wave = 12_000 * np.sin(2 * np.pi * 440 / frame.sample_rate * np.arange(frame.pts, frame.pts + frame.samples))
        frame.planes[0].update(wave.astype(np.int16).tobytes())
        return frame


def near(end: End, value: int) -> bool:
    return end.shown is not None and abs(end.shown - value) < 14


@on_loop
async def test_without_a_worker_the_client_is_told_which_there_are() -> None:
    async with network() as net:
        status, reply = await net.call("POST", "/process/stream/start", headers=start_job("depth"), json={})
        assert (status, reply["error"]["code"]) == (503, "no_worker")
        assert "comfystream byoc" in reply["error"]["hint"]
        async with worker(net, name="other"):
            _, reply = await net.call("POST", "/process/stream/start", headers=start_job("depth"), json={})
            assert reply["error"]["hint"] == "registered are: other"
        assert net.channels == []
        assert net.gateway.streams == []


@on_loop
async def test_a_full_worker_and_a_request_that_is_no_good() -> None:
    async with network() as net, worker(net) as one:
        first = await net.start(params=SMALL)
        status, reply = await net.call("POST", "/process/stream/start", headers=start_job(), json={})
        assert (status, reply["error"]["code"]) == (503, "no_worker")
        assert "0 free" in reply["error"]["message"]
        assert (await net.call("POST", first["stop_url"]))[0] == 200
        body = {"params": '{"width": 64}'}
        status, reply = await net.call("POST", "/process/stream/start", headers=start_job(), json=body)
        assert status == 400, reply
        assert "'width' and 'height'" in reply["error"]["message"]
        assert net.channels == []
        await one.until_idle()


@on_loop
async def test_a_worker_that_says_503_is_passed_over() -> None:
    async with network() as net, worker(net, Paint(0.2), capacity=1), worker(net, Paint(0.8), capacity=2) as other:
        next(known for known in net.workers if known.url != other.url).said = promising(net, other)
        replies = [await net.start(f"s{number}", params=SMALL) for number in range(3)]
        assert len({reply["stream_id"] for reply in replies}) == 3
        status, reply = await net.call("POST", "/process/stream/start", headers=start_job(), json={})
        assert (status, reply["error"]["code"]) == (503, "no_worker")
        for reply in replies:
            assert (await net.call("POST", reply["stop_url"]))[0] == 200


def promising(net: Any, other: Any) -> Any:
    """One that promises more places than it has."""
    known = next(known for known in net.workers if known.url != other.url)
    return known.said.model_copy(update={"capacity": 9})


@on_loop
async def test_a_worker_that_dies_is_replaced_and_viewers_see_the_next_one() -> None:
    async with network() as net, worker(net, Paint(0.2)) as first:
        reply = await net.start(params=SMALL)
        async with (
            worker(net, Paint(0.8)) as second,
            listening(net, reply["data_url"]) as events,
            publishing(net.session, reply["whip_url"], Grey(128)),
            watching(net.session, reply["whep_url"]) as viewer,
        ):
            await until(lambda: near(viewer, 51), "the first worker's picture")

            await first.server.close()
            await until(lambda: near(viewer, 204), "the second worker's picture")
            assert viewer.pc.connectionState == "connected"
            status, said = await net.call("GET", reply["status_url"])
            assert (status, said["swaps"], said["worker"]) == (200, 1, second.url)
            assert [one["state"] for one in events.named("status")][-2:] == ["swapping", "running"]
            id = reply["stream_id"]
            assert f"{id}-out" not in net.channels
            assert f"{id}-again2-out" in net.channels
            assert (await net.call("POST", reply["stop_url"]))[0] == 200
            await second.until_idle()
        assert net.channels == []


@on_loop
async def test_an_update_is_what_the_next_worker_begins_with() -> None:
    first, second = Invert(), Invert()
    async with network() as net, worker(net, first) as one:
        reply = await net.start(params=SMALL | {"seed": 1})
        body = {"seed": 2}
        assert (await net.call("POST", reply["update_url"], headers=livepeer({"capability": "test"}), json=body))[
            0
        ] == 200
        async with worker(net, second):
            await one.server.close()
            await until(lambda: second.params, "the second worker's start")
            assert second.params[0]["seed"] == 2
            assert (await net.call("POST", reply["stop_url"]))[0] == 200


@on_loop
async def test_the_only_worker_dies_and_nobody_comes_so_listeners_hear_the_end() -> None:
    async with network(swap_wait_s=0.3) as net, worker(net) as one:
        reply = await net.start(params=SMALL)
        async with listening(net, reply["data_url"]) as events:
            await one.server.close()
            await until(lambda: events.is_over, "the end")
            assert "no worker" in events.named("end")[0]["reason"]
        status, said = await net.call("GET", reply["status_url"])
        assert status == 404
        assert "the stream has ended" in said["error"]["message"]
        assert net.channels == []


@on_loop
async def test_a_worker_that_falls_silent_loses_the_stream() -> None:
    patience = Patience(events_s=0.5)
    async with network(swap_wait_s=0.2, patience=patience) as net, worker(net) as one:
        one.server.worker._links.events = lambda url: Silent()
        reply = await net.start(params=SMALL)
        async with listening(net, reply["data_url"]) as events:
            await until(lambda: events.named("status")[1:], "the swap")
            assert "told nothing" in next(said["reason"] for said in events.named("status") if "reason" in said)


class Silent:
    """An events channel on which nothing is ever said."""

    def __init__(self) -> None:
        self.queue = Unsaid()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        return


class Unsaid:
    def put(self, document: Any) -> None:
        return

    def close(self) -> None:
        return


@on_loop
async def test_workers_come_back_to_a_gateway_that_was_started_again() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with network() as net:
            one = await stack.enter_async_context(worker(net))
            await net.start(params=SMALL)
            assert one.server.worker.streams
        await one.until_idle()
        async with network(port=net.port) as again:
            await until(lambda: [known.url for known in again.workers] == [one.url], "the worker's return")
            reply = await again.start(params=SMALL)
            assert (await again.call("POST", reply["stop_url"]))[0] == 200


@on_loop
async def test_a_stream_that_nobody_feeds_ends() -> None:
    async with network(idle_s=0.5) as net, worker(net) as one:
        reply = await net.start(params=SMALL)
        async with listening(net, reply["data_url"]) as events:
            async with publishing(net.session, reply["whip_url"], Grey(128)):
                await until(lambda: net.gateway.get(reply["stream_id"])._counts["in"] > 5, "pictures")
            await until(lambda: events.is_over, "the end")
            assert events.named("end")[0]["reason"] == "nobody sends pictures for 0.5 s"
        await one.until_idle()
        await until(lambda: net.channels == [], "the channels close, which the events do not wait for")


@on_loop
async def test_sound_comes_back_too() -> None:
    async with network() as net, worker(net) as one:
        reply = await net.start(params=SMALL)
        async with (
            publishing(net.session, reply["whip_url"], Grey(200), Tone()),
            watching(net.session, reply["whep_url"]) as viewer,
        ):
            await until(lambda: near(viewer, 55), "the picture")
            await until(lambda: viewer.loudest > 4000, "the tone")
        assert (await net.call("POST", reply["stop_url"]))[0] == 200
        await one.until_idle()


@on_loop
async def test_a_worker_that_takes_its_time_to_stop_does_not_hold_the_next_one_up() -> None:
    async with network() as net, worker(net, Paint(0.2)) as first:
        reply = await net.start(params=SMALL)
        hangs = asyncio.Event()

        async def stop(id: str | None) -> bool:
            await hangs.wait()
            return True

        async with (
            worker(net, Paint(0.8)) as second,
            publishing(net.session, reply["whip_url"], Grey(128)),
            watching(net.session, reply["whep_url"]) as viewer,
        ):
            await until(lambda: near(viewer, 51), "the first worker's picture")
            plain, first.server.worker.stop = first.server.worker.stop, stop
            first.server.worker.streams[0].end("a fault")
            await until(lambda: near(viewer, 204), "the second worker's picture")
            assert not hangs.is_set()
            hangs.set()
            first.server.worker.stop = plain
            assert (await net.call("POST", reply["stop_url"]))[0] == 200
            await second.until_idle()


@on_loop
async def test_another_publisher_takes_over_and_time_goes_on() -> None:
    async with network() as net, worker(net) as one:
        reply = await net.start(params=SMALL)
        async with watching(net.session, reply["whep_url"]) as viewer:
            async with publishing(net.session, reply["whip_url"], Grey(200)):
                await until(lambda: near(viewer, 55), "the first publisher's picture")
            async with publishing(net.session, reply["whip_url"], Grey(60)):
                await until(lambda: near(viewer, 195), "the second publisher's picture")
            assert net.gateway.get(reply["stream_id"]).swaps == 0
        assert (await net.call("POST", reply["stop_url"]))[0] == 200
        await one.until_idle()


@on_loop
async def test_ways_that_are_off_are_not_there() -> None:
    async with network() as net, worker(net):
        reply = await net.start(params=SMALL, enable_video_ingress=False, enable_data_output=False)
        assert (reply["whip_url"], reply["data_url"]) == ("", "")
        id = reply["stream_id"]
        assert set(net.channels) == {f"{id}-out", f"{id}-control", f"{id}-events"}
        assert (await net.call("GET", f"/process/stream/{id}/data"))[0] == 503
        end = End(net.session, f"{net.url}/process/stream/{id}/whip")
        end.send(Grey())
        status, error = await end.post()
        assert (status, error["code"]) == (400, "no_ingress")
        await end.close()
        assert (await net.call("POST", reply["stop_url"]))[0] == 200


@on_loop
async def test_a_worker_that_refuses_its_token_leaves_the_list() -> None:
    async with network() as net, worker(net, token="t0ken") as one:
        said = {"name": "test", "url": one.url, "capacity": 1, "token": "wrong"}
        headers = {"Authorization": SECRET}
        assert (await net.call("POST", "/capability/register", json=said, headers=headers))[0] == 200
        status, reply = await net.call("POST", "/process/stream/start", headers=start_job(), json={})
        assert (status, reply["error"]["code"]) == (503, "no_worker")
        assert "401" in reply["error"]["message"]


@on_loop
async def test_a_worker_that_is_away_for_a_moment_stays_on_the_list() -> None:
    async with network() as net:
        said = {"name": "test", "url": "http://127.0.0.1:9", "capacity": 1}
        headers = {"Authorization": SECRET}
        assert (await net.call("POST", "/capability/register", json=said, headers=headers))[0] == 200
        known = next(iter(net.workers))
        await until(lambda: known.health is Health.GONE, "it is seen to be gone")
        assert known in list(net.workers)
        status, reply = await net.call("POST", "/process/stream/start", headers=start_job(), json={})
        assert (status, reply["error"]["code"]) == (503, "no_worker")
        assert "is gone" in reply["error"]["message"]


@pytest.mark.slow
@on_loop
async def test_nothing_is_left_of_twelve_streams() -> None:
    async with network() as net, worker(net, capacity=2) as one:

        async def one_stream(number: int) -> None:
            reply = await net.start(f"s{number}", params=SMALL)
            async with (
                publishing(net.session, reply["whip_url"], Grey(90)),
                watching(net.session, reply["whep_url"]) as viewer,
            ):
                await until(lambda: near(viewer, 165), "the picture")
            assert (await net.call("POST", reply["stop_url"]))[0] == 200

        await one_stream(0)
        await one.until_idle()
        gc.collect()
        before = {task.get_name() for task in asyncio.all_tasks()}
        for pair in range(1, 6):
            await asyncio.gather(one_stream(2 * pair), one_stream(2 * pair + 1))
            await one.until_idle()

        def left() -> list[str]:
            known = ("gateway-", "leg-", "edge-", "trickle-media", "audience", "stop-", "stream-", "peer-")
            return [name for task in asyncio.all_tasks() if (name := task.get_name()).startswith(known)]

        await until(
            lambda: sorted(left()) == sorted(name for name in before if name.startswith("gateway-")), "nothing"
        )
        assert net.channels == []
        assert net.gateway.streams == []
        assert net.gateway.orchestrator.attempts == set()
