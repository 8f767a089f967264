"""The orchestrator's calls as another gateway makes them, and the list of workers."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_harness import ALL_WAYS, livepeer, network, worker
from on_loop import on_loop, until
from worker_harness import Invert, camera, listening, play

from comfystream_server.gateway.feed import Feed
from comfystream_server.gateway.workers import Health, NoWorker, Registered, Workers


def job(id: str = "s1", **more: Any) -> dict[str, str]:
    """As a gateway of the field signs it, but for the signature."""
    import json

    ways = json.dumps(ALL_WAYS)
    document = {"id": id, "request": "{}", "parameters": ways, "capability": "test", "sender": "0x0", "sig": "0x"}
    return livepeer({**document, "timeout_seconds": 60, **more})


@on_loop
async def test_another_gateway_runs_a_stream_over_the_channels_that_it_is_given() -> None:
    invert = Invert()
    async with network() as net, worker(net, invert) as one:
        body = {"params": {"width": 64, "height": 48}}
        async with net.session.post(f"{net.url}/ai/stream/start", headers=job(), json=body) as response:
            assert (response.status, await response.read()) == (200, b"")
            urls = {name: url for name, url in response.headers.items() if name.endswith("-Url")}
        assert urls == {
            f"X-{name}-Url": f"{net.url}/ai/trickle/s1{suffix}"
            for name, suffix in (
                ("Publish", ""),
                ("Subscribe", "-out"),
                ("Control", "-control"),
                ("Events", "-events"),
                ("Data", "-data"),
            )
        }
        async with listening(urls["X-Subscribe-Url"]) as out, camera(urls["X-Publish-Url"], value=40):
            await until(lambda: out.segments and max(play(out.segments[-1]).luma) > 180, "the negative")
        assert (await net.call("POST", "/ai/stream/start", headers=job(), json=body))[0] == 400
        assert (await net.call("POST", "/ai/stream/update", headers=job(), json={"seed": 3}))[0] == 200
        assert invert.params[-1] == {"seed": 3}
        assert (await net.call("POST", "/ai/stream/payment", headers=job()))[0] == 200
        assert (await net.call("POST", "/ai/stream/stop", headers=job(), data="stream ended"))[0] == 200
        assert (await net.call("POST", "/ai/stream/stop", headers=job()))[0] == 404
        await one.until_idle()
        assert net.channels == []


@on_loop
async def test_a_stream_whose_channels_are_gone_gives_its_place_back() -> None:
    async with network() as net, worker(net) as one:
        async with net.session.post(f"{net.url}/ai/stream/start", headers=job(), json={"params": None}) as response:
            assert response.status == 200
        assert net.workers.capacity("test") == 0
        net.gateway.orchestrator.trickle.close("s1-control")
        await until(lambda: net.workers.capacity("test") == 1, "the place")
        await one.until_idle()
        assert net.channels == []


def said(url: str, **more: Any) -> Registered:
    return Registered.model_validate({"name": "depth", "url": url, "capacity": 2, **more})


def test_the_best_worker_is_chosen() -> None:
    now = 0.0
    workers = Workers(clock=lambda: now)
    a, b, c = (workers.register(said(f"http://{name}/"), "http://here") for name in "abc")
    assert workers.choose("depth") is a
    a.load = 1
    assert workers.choose("depth") is b
    b.health = Health.LOADING
    assert workers.choose("depth") is c
    workers.failed(c)
    assert workers.choose("depth") is a
    assert workers.choose("depth", [a]) is c
    assert workers.choose("depth", [a, c]) is b
    now = 60.0
    assert workers.choose("depth") is c
    c.load, a.health, b.health = 2, Health.GONE, Health.ERROR
    with pytest.raises(NoWorker, match="http://a is gone, 1 free"):
        workers.choose("depth")
    with pytest.raises(NoWorker) as raised:
        workers.choose("none")
    assert raised.value.hint == "registered are: depth"


def test_to_register_again_renews_and_forgets_no_stream() -> None:
    workers = Workers()
    one = workers.register(said("http://a"), "http://here")
    one.load, one.health = 1, Health.GONE
    assert workers.register(said("http://a/", capacity=5), "http://there") is one
    assert (one.load, one.free, one.health, one.base) == (1, 4, Health.READY, "http://there")
    assert workers.unregister("depth", "http://a/") == 1
    assert list(workers) == []


@on_loop
async def test_a_feed_keeps_the_newest_and_goes_on_where_a_listener_left() -> None:
    feed = Feed()
    for number in range(300):
        await feed.put(f'["{number}"]\n')
    await feed.put("[]")
    await feed.put("  ")
    heard = feed.listen()
    first = await anext(heard)
    assert first is not None
    assert (first.number, first.text) == (101, '["100"]')
    assert feed.listeners == 1
    await heard.aclose()
    assert feed.listeners == 0
    after = feed.listen(298, quiet_s=0.01)
    assert [(await anext(after)).text for _ in range(2)] == ['["298"]', '["299"]']
    assert await anext(after) is None
    await feed.close("over")
    await feed.put('["too late"]')
    last = await anext(after)
    assert last.encoded() == b'id: 301\nevent: end\ndata: {"reason": "over"}\n\n'
    assert [said async for said in after] == []
