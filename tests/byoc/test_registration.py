"""Conformance 62: how a worker gets onto an orchestrator's list, stays there and leaves it. And its secrets."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest
from aiohttp import web
from fake_registry import REGISTER, SECRET, UNREGISTER, Registry, registry
from on_loop import on_loop, until
from pydantic import SecretStr
from worker_harness import Invert, orchestrator, serving

from comfystream.byoc.capability import Capability, OrchestratorAccess, capability_from, orchestrator_from
from comfystream.byoc.live_runner import LiveRunner
from comfystream.byoc.registration import Pace, Registration
from comfystream.errors import ConfigError

QUICK = Pace(again_s=0.3, settle_s=0.2, retry_s=0.05, most_retry_s=0.2, look_s=0.02)


def access(url: str, secret: str = SECRET, token: str = "") -> OrchestratorAccess:
    return OrchestratorAccess(url, SecretStr(secret), SecretStr(token))


@on_loop
async def test_62_a_worker_registers_when_it_is_ready_and_leaves_at_the_end() -> None:
    processor = Invert()
    processor.may_load.clear()
    one = Capability("depth", "http://worker:8000/", "says what it is", 2, 7, 3, "USD")
    async with registry() as orch:
        beside = Registration(access(orch.url, token="t0ken"), [one], QUICK)
        async with serving(processor, is_ready=False, beside=[beside]) as worker:
            await worker.call("GET", "/health")
            assert not orch.asked, "not before it is ready"
            processor.may_load.set()
            await until(lambda: orch.asked, "the registration")
            assert orch.asked[0] == (
                REGISTER,
                SECRET,
                {
                    "name": "depth",
                    "url": "http://worker:8000",
                    "description": "says what it is",
                    "capacity": 2,
                    "price_per_unit": 7,
                    "price_scaling": 3,
                    "currency": "USD",
                    "token": "t0ken",
                },
            )
        assert orch.asked[-1] == (UNREGISTER, SECRET, "depth")


@on_loop
async def test_62_it_tries_for_ever_and_again_while_it_is_idle() -> None:
    async with registry() as orch, orchestrator() as channels:
        orch.answer = 500
        names = [Capability(name, "http://worker:8000") for name in ("a", "b")]
        async with serving(beside=[Registration(access(orch.url), names, QUICK)]) as worker:
            await until(lambda: len(orch.bodies(REGISTER)) >= 6, "attempts")
            orch.answer = 200
            await until(lambda: len(orch.bodies(REGISTER)) >= 12, "repetitions while idle")
            assert {body["name"] for body in orch.bodies(REGISTER)} == {"a", "b"}
            await worker.call("POST", "/stream/start", channels.stream())
            await asyncio.sleep(QUICK.look_s + 0.1)  # what was under way arrives
            seen = len(orch.asked)
            await asyncio.sleep(3 * QUICK.again_s)  # nothing comes: that is what is looked for
            assert len(orch.asked) == seen, "a stream runs: registering would reset what the orchestrator counts"
            await worker.call("POST", "/stream/stop")
            await until(lambda: len(orch.asked) > seen, "again after the stream")


@on_loop
async def test_62_an_orchestrator_that_restarts_gets_it_back() -> None:
    async with registry() as first:
        port = int(first.url.rsplit(":", 1)[1])
        beside = Registration(access(first.url), [Capability("a", "http://worker:8000")], QUICK)
        server = serving(beside=[beside])
        await server.__aenter__()
        await until(lambda: first.asked, "the registration")
    async with registry(port) as second:
        await until(lambda: second.bodies(REGISTER), "the registration with the new one")
        await server.__aexit__(None, None, None)


@on_loop
async def test_secrets_are_in_no_log_and_no_reply(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with registry() as orch, orchestrator() as channels:
        beside = Registration(access(orch.url, "wr0ng-secret", "t0ken"), [Capability("a", "http://w:1")], QUICK)
        async with serving(beside=[beside], token="t0ken") as worker:
            await until(lambda: "is ORCH_SECRET" in caplog.text, "the hint")
            headers = {"Authorization": "Bearer t0ken"}
            await worker.call("POST", "/stream/start", channels.stream(), headers=headers)
            said = [
                await worker.call("GET", path, headers=headers) for path in ("/stream/status", "/version", "/health")
            ]
    for secret in ("wr0ng-secret", "t0ken"):
        assert secret not in caplog.text
        assert secret not in str(said)
        assert secret not in repr(beside._access)


def test_secrets_are_taken_out_of_the_environment() -> None:
    environ = {"ORCH_URL": "orch:8935/", "ORCH_SECRET": SECRET, "ORCH_INSECURE_TLS": "true"}
    found = orchestrator_from(environ)
    assert found is not None
    assert (found.url, found.secret.get_secret_value(), found.verify_tls) == ("https://orch:8935", SECRET, False)
    assert "ORCH_SECRET" not in environ
    assert orchestrator_from({"ORCH_URL": "x"}) is None


def test_the_variables_of_a_capability() -> None:
    environ = {
        "CAPABILITY_NAME": "depth",
        "CAPABILITY_URL": "https://me/",
        "CAPABILITY_PRICE_PER_UNIT": "5",
        "CAPABILITY_PRICE_SCALING": "10",
        "CAPABILITY_PRICE_CURRENCY": "eth",
        "CAPABILITY_CAPACITY": "3",
        "CAPABILITY_DESCRIPTION": "what",
    }
    assert capability_from(environ, "http://x") == Capability("depth", "https://me", "what", 3, 5, 10, "eth")
    for name, value in (("CAPABILITY_CAPACITY", "many"), ("CAPABILITY_CAPACITY", "0"), ("CAPABILITY_URL", "me")):
        with pytest.raises(ConfigError):
            capability_from({name: value}, "http://x")


class Runners(Registry):
    """Live runners: the first heartbeat takes the registration secret, later ones what that gave."""

    def __init__(self) -> None:
        super().__init__()
        self.known = False

    async def handle(self, request: web.Request) -> web.Response:
        body, given = await request.json(), request.headers.get("Authorization", "")
        self.asked.append((request.path, given, body))
        if given != ("beat-secret" if self.known else SECRET):
            return web.Response(status=401, text="invalid")
        reply = {"runner_id": body["runner_id"], "heartbeat_interval": "1s", "session_ids": []}
        reply |= {} if self.known else {"heartbeat_secret": "beat-secret"}
        self.known = True
        return web.json_response(reply)


@pytest.mark.slow
@on_loop
async def test_a_live_runner_sends_heartbeats_and_begins_anew_when_it_is_forgotten() -> None:
    runners = Runners()
    app = web.Application()
    app.router.add_post("/runners/heartbeat", runners.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        beside = LiveRunner(access(url), Capability("depth", "http://worker:8000/"))
        async with serving(beside=[beside]):
            await until(lambda: len(runners.asked) >= 2, "heartbeats")
            assert [given for _, given, _ in runners.asked[:2]] == [SECRET, "beat-secret"]
            body = runners.asked[0][2]
            assert (body["runner_url"], body["app"], body["capacity"]) == (
                "http://worker:8000", "live-video-to-video/depth", 1,
            )  # fmt: skip
            assert body["price_info"]["price"] > 0
            runners.known = False
            seen = len(runners.asked)
            await until(lambda: runners.known and len(runners.asked) > seen + 1, "a new registration")
    finally:
        await runner.cleanup()


@on_loop
async def test_an_app_registers_by_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with registry() as orch:
        monkeypatch.setenv("ORCH_URL", orch.url)
        monkeypatch.setenv("ORCH_SECRET", SECRET)
        async with serving() as worker:
            assert "ORCH_SECRET" not in os.environ
            await until(lambda: orch.asked, "the registration")
            body = orch.bodies(REGISTER)[0]
            assert (body["name"], body["url"]) == ("test", f"http://localhost:{worker.server.port}")
