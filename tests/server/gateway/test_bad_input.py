"""Whatever is sent: an answer below 500 that says what is wrong, and a gateway that goes on."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import Any

import pytest
from gateway_harness import SECRET, livepeer, network, start_job, worker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from on_loop import on_loop

from comfystream.byoc import stalls
from comfystream_server.gateway.job import Job, Wants
from comfystream_server.http.errors import BadRequest

START = "/process/stream/start"
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def encoded(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_padding_alphabet_and_what_is_missing_do_not_matter() -> None:
    text = encoded({"capability": "depth", "note": "\u00ff?>~"})
    for header in (text, text.rstrip("="), text.replace("+", "-").replace("/", "_"), f" {text} "):
        job = Job.parse(header)
        assert (job.capability, job.timeout_s, job.request, job.parameters) == ("depth", 120.0, {}, {})
        assert job.wants == Wants(True, True, True)


@pytest.mark.parametrize(
    ("parameters", "wants"),
    [
        ({}, Wants(True, True, True)),
        ({"enable_video_egress": True}, Wants(False, True, False)),
        ({"enable_video_ingress": True, "enable_data_output": True}, Wants(True, False, True)),
        ({"enable_video_ingress": "yes"}, Wants(False, False, False)),
        ({"orchestrators": {"include": []}}, Wants(True, True, True)),
    ],
)
def test_ways_are_off_unless_they_are_named_or_none_is(parameters: dict[str, Any], wants: Wants) -> None:
    assert Job.parse(encoded({"capability": "x", "parameters": json.dumps(parameters)})).wants == wants


@given(st.text(max_size=200) | ANY_JSON.map(encoded))
def test_any_header_is_a_job_or_a_bad_request(header: str) -> None:
    with contextlib.suppress(BadRequest):
        job = Job.parse(header)
        assert job.capability
        assert 0 < job.timeout_s <= 3600


@on_loop
async def test_what_is_wrong_with_a_start_is_said() -> None:
    good = start_job()
    cases: list[tuple[dict[str, str], Any, int, str]] = [
        ({}, {}, 400, "header is missing"),
        ({"Livepeer": "%%%"}, {}, 400, "no base64"),
        ({"Livepeer": base64.b64encode(b"[1]").decode()}, {}, 400, "JSON object"),
        (livepeer({"request": "{}"}), {}, 400, "names no capability"),
        (livepeer({"capability": "test", "parameters": "{"}), {}, 400, "parameters is not JSON"),
        (livepeer({"capability": "test", "timeout_seconds": 0}), {}, 400, "timeout_seconds"),
        (good, [1], 400, "JSON object"),
        (good, b"{", 400, "not JSON"),
        (good, {"params": "[1]"}, 400, "params has to be a JSON object"),
        (good, {"stream_name": "x-out"}, 400, "one of the channels"),
        (good, {"stream_name": "../x"}, 400, "what a name may have"),
        (good, {"stream_id": 7}, 400, "what a name may have"),
        (good, {"rtmp_output": "rtmp://somewhere/app/key"}, 400, "rtmp://somewhere/app/... may not be pushed to"),
        (good, {"rtmp_output": "somewhere"}, 400, "no address to push to"),
        (good, {"rtmp_output": "file:///tmp/x"}, 400, "no address to push to"),
        (good, {"rtmp_output": "http://somewhere/x"}, 400, "cannot push by"),
        (good, {"rtmp_output": ["rtmp://somewhere/key"]}, 400, "as text"),
        (start_job(enable_video_egress=False), {"rtmp_output": "rtmp://x/y/z"}, 400, "gives no pictures"),
        (good, b'{"params": "' + b" " * (11 << 20) + b'"}', 413, "10 MB"),
    ]
    async with network() as net, worker(net):
        for headers, body, status, words in cases:
            sent = {"data": body} if isinstance(body, bytes) else {"json": body}
            answer = await net.call("POST", START, headers=headers, **sent)
            assert answer[0] == status, (headers, answer)
            assert words in answer[1]["error"]["message"]
        assert net.channels == []
        assert net.gateway.streams == []


@on_loop
async def test_half_a_body_is_not_waited_for_but_on_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "STALLED_S", 0.2)
    async with network() as net, worker(net):
        reply = await net.start()
        channel = f"/ai/trickle/{reply['stream_id']}-data/0"

        async def half(path: str) -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection("127.0.0.1", net.port)
            job = start_job()["Livepeer"]
            head = f"POST {path} HTTP/1.1\r\nLivepeer: {job}\r\nHost: localhost\r\nAuthorization: {SECRET}\r\n"
            writer.write(f"{head}Content-Length: 99\r\n\r\n{{".encode())
            writers.append(writer)
            return reader

        writers: list[asyncio.StreamWriter] = []
        waiting = await half(channel)
        for path in (START, "/process/request/x", "/capability/register", "/runners/heartbeat"):
            said = await asyncio.wait_for((await half(path)).read(), 10)
            assert said.startswith(b"HTTP/1.1 408"), (path, said)
            assert b"the body stopped coming" in said
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting.read(1), 0.8)
        for writer in writers:
            writer.close()


@on_loop
async def test_a_name_is_taken_once() -> None:
    async with network() as net, worker(net, capacity=2):
        body = {"stream_name": "a", "stream_id": "b"}
        status, reply = await net.call("POST", START, headers=start_job(), json=body)
        assert (status, reply["stream_id"]) == (200, "a-b")
        status, again = await net.call("POST", START, headers=start_job(), json=body)
        assert (status, again["error"]["code"]) == (400, "stream_exists")
        assert (await net.call("GET", reply["status_url"]))[0] == 200
        assert (await net.call("POST", reply["stop_url"]))[0] == 200
        assert (await net.call("POST", START, headers=start_job(), json=body))[0] == 200


@on_loop
async def test_updates_that_are_no_good_change_nothing() -> None:
    async with network() as net, worker(net) as one:
        reply = await net.start(params={"width": 64, "height": 48})
        url = reply["update_url"]
        assert (await net.call("POST", url, data=b"{"))[0] == 400
        assert (await net.call("POST", url, json=[1]))[0] == 400
        assert (await net.call("POST", url, json={}, headers={"Livepeer": "%"}))[0] == 400
        status, said = await net.call("POST", url, json={"bad": True})
        assert (status, said["status"]) == (400, "error")
        assert (await net.call("POST", "/process/stream/none/update", json={}))[0] == 404
        assert one.server.worker.state == "RUNNING"
        assert (await net.call("POST", url, json={"fine": 1}))[0] == 200


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[]",
        '{"url": "http://x"}',
        '{"name": "x", "url": "ftp://x"}',
        '{"name": "x", "url": "http://x", "capacity": "2"}',
        '{"name": "x", "url": "http://x", "capacity": 0}',
        '{"name": "", "url": "http://x"}',
    ],
)
@on_loop
async def test_registrations_that_cannot_be_used(said: str) -> None:
    async with network() as net:
        status, reply = await net.call("POST", "/capability/register", data=said, headers={"Authorization": SECRET})
        assert status == 400, reply
        assert list(net.workers) == []


PATHS = [
    START,
    "/process/stream/x/update",
    "/process/stream/x/stop",
    "/process/request/a/b",
    "/process/request/",
    "/ai/stream/start",
    "/ai/stream/update",
    "/ai/stream/stop",
    "/capability/register",
    "/capability/unregister",
]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PATHS), ANY_JSON, st.binary(max_size=60) | ANY_JSON), min_size=8, max_size=8))
def test_no_request_is_a_500(requests: list[tuple[str, Any, Any]]) -> None:
    @on_loop
    async def send() -> None:
        async with network() as net:
            for path, job, body in requests:
                headers = {"Livepeer": encoded(job), "Authorization": SECRET}
                sent = {"data": body} if isinstance(body, bytes) else {"json": body}
                status, _ = await net.call("POST", path, headers=headers, **sent)
                assert status < 500 or status == 503, (path, job, body)

    send()
