"""Who may call, as browsers and workers meet it."""

from __future__ import annotations

import pytest
from gateway_harness import SECRET, listening, network, start_job, worker
from on_loop import on_loop

HERE, THERE = "http://localhost:3000", "https://app.example"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,livepeer"}


@on_loop
@pytest.mark.parametrize(
    "path", ["/process/stream/start", "/process/stream/x/update", "/process/request/make", "/workflows/"]
)
async def test_browsers_may_send_the_job_header_from_pages_of_this_machine(path: str) -> None:
    async with network() as net, net.session.options(net.url + path, headers={"Origin": HERE, **ASKS}) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == HERE
        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        assert all(name in allowed for name in ("content-type", "livepeer", "authorization"))


@on_loop
async def test_whip_and_events_and_errors_speak_to_other_pages_too() -> None:
    async with network() as net, worker(net):
        reply = await net.start()
        headers = {"Origin": HERE, "Content-Type": "application/sdp"}
        async with net.session.options(reply["whip_url"], headers={"Origin": HERE, **ASKS}) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, HERE)
        async with net.session.post(reply["whip_url"], headers=headers, data="no sdp") as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (400, HERE)
            assert "Location" in answer.headers["Access-Control-Expose-Headers"]
        async with net.session.get(reply["data_url"], headers={"Origin": HERE}) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, HERE)
            assert answer.content_type == "text/event-stream"
        async with net.session.get(f"{net.url}/process/stream/none/status", headers={"Origin": HERE}) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (404, HERE)


@on_loop
async def test_pages_of_other_sites_may_only_if_they_are_named() -> None:
    async with network() as net:
        assert (await net.call("GET", "/workflows/", headers={"Origin": THERE}))[0] == 403
        assert (await net.call("GET", "/workflows/", headers={"Origin": "null"}))[0] == 403
    async with network(origins=(THERE,)) as net:
        assert (await net.call("GET", "/workflows/", headers={"Origin": THERE}))[0] == 200
    async with network(origins=("*",)) as net:
        assert (await net.call("GET", "/workflows/", headers={"Origin": "https://any.example"}))[0] == 200


@on_loop
async def test_a_name_that_somebody_else_pointed_here_is_refused() -> None:
    async with network() as net:
        status, reply = await net.call("GET", "/", headers={"Host": "rebound.example"})
        assert (status, reply["error"]["code"]) == (403, "unknown_host")


@on_loop
async def test_pages_cannot_register_workers() -> None:
    async with network() as net:
        headers = {"Origin": HERE, "Access-Control-Request-Headers": "authorization"}
        async with net.session.options(f"{net.url}/capability/register", headers=headers | ASKS) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


@on_loop
async def test_a_key_is_asked_for_where_something_begins() -> None:
    async with network(keys=("k1", "k2")) as net, worker(net):
        for headers in ({}, {"Authorization": "Bearer k3"}, {"Authorization": "k1"}):
            status, _ = await net.call("POST", "/process/stream/start", headers=start_job() | headers, json={})
            assert status == 401
        for path in ("/process/stream/start", "/process/request/make"):
            assert (await net.call("POST", path, headers=start_job(), json={}))[0] == 401
        headers = start_job() | {"Authorization": "Bearer k2"}
        status, reply = await net.call("POST", "/process/stream/start", headers=headers, json={})
        assert status == 200
        async with listening(net, reply["data_url"]):  # EventSource cannot send headers
            assert (await net.call("POST", reply["stop_url"]))[0] == 200


@on_loop
async def test_the_secret_is_asked_for_and_several_workers_leave_one_by_one() -> None:
    async with network() as net:
        said = {"name": "depth", "url": "http://127.0.0.1:9", "capacity": 3}
        status, reply = await net.call("POST", "/capability/register", json=said)
        assert (status, reply["error"]["message"]) == (400, "invalid authorization")
        headers = {"Authorization": SECRET}
        assert await net.call("POST", "/capability/register", json=said, headers=headers) == (200, "ok")
        more = said | {"url": "http://127.0.0.1:10/"}
        assert await net.call("POST", "/capability/register", json=more, headers=headers) == (200, "ok")
        assert await net.call("POST", "/capability/register", json=more, headers=headers) == (200, "ok")
        assert sorted(known.url for known in net.workers) == ["http://127.0.0.1:10", "http://127.0.0.1:9"]
        _, token = await net.call("GET", "/process/token", headers={"Livepeer-Capability": "depth"})
        assert (token["available_capacity"], token["service_addr"]) == (6, net.url)
        assert token["ticket_params"]["recipient"]
        assert (await net.call("GET", "/process/token"))[0] == 400
        assert (await net.call("POST", "/capability/unregister", data="depth"))[0] == 400
        leaves = headers | {"X-Capability-Url": "http://127.0.0.1:9"}
        assert (await net.call("POST", "/capability/unregister", data="depth", headers=leaves))[0] == 200
        assert [known.url for known in net.workers] == ["http://127.0.0.1:10"]
        assert (await net.call("POST", "/capability/unregister", data="depth", headers=headers))[0] == 200
        assert list(net.workers) == []


@on_loop
async def test_behind_a_proxy_urls_are_those_of_the_proxy() -> None:
    async with network() as net, worker(net):
        headers = start_job() | {
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "live.example",
            "X-Forwarded-Prefix": "/gateway",
        }
        _, reply = await net.call("POST", "/process/stream/start", headers=headers, json={"stream_id": "s1"})
        assert reply["whip_url"] == "https://live.example/gateway/process/stream/s1/whip"
        assert (await net.call("POST", "/process/stream/s1/stop"))[0] == 200
