"""Services that sell TURN, by a stand-in that answers as their documentation says: they cannot be reached from here."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from on_loop import on_loop, until

from comfystream.errors import NetworkError
from comfystream_server.rtc import turn_services
from comfystream_server.rtc.turn_services import TurnService, TurnServices, read_servers

TURN = "turn:turn.example.org:3478?transport=udp"


class FakeServices:
    """Both services; `status` is what they answer with."""

    def __init__(self) -> None:
        self.status = 201
        self.heard: list[tuple[str, str, Any]] = []

    async def twilio(self, request: web.Request) -> web.Response:
        self.heard.append((request.path, request.headers["Authorization"], dict(await request.post())))
        number = len(self.heard)
        entry = {"url": TURN, "urls": TURN, "username": f"user{number}", "credential": "pass"}
        stun = "stun:stun.example.org:3478"
        body = {"ttl": "600", "ice_servers": [{"url": stun, "urls": stun}, entry]}
        return web.json_response(body, status=self.status)

    async def cloudflare(self, request: web.Request) -> web.Response:
        self.heard.append((request.path, request.headers["Authorization"], await request.json()))
        entry = {"urls": [TURN, "turns:turn.example.org:5349"], "username": "someone", "credential": "pass"}
        return web.json_response({"iceServers": [entry]}, status=self.status)


@contextlib.asynccontextmanager
async def services() -> AsyncIterator[tuple[FakeServices, str]]:
    fake, app = FakeServices(), web.Application()
    app.router.add_post("/2010-04-01/Accounts/AC1/Tokens.json", fake.twilio)
    app.router.add_post("/v1/turn/keys/key1/credentials/generate-ice-servers", fake.cloudflare)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield fake, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def kept(*every: TurnService, **options: Any) -> AsyncIterator[TurnServices]:
    turn = TurnServices(every, **options)
    turn.begin()
    try:
        yield turn
    finally:
        await turn.close()


@on_loop
async def test_passwords_come_from_both() -> None:
    async with (
        services() as (fake, url),
        kept(
            TurnService("twilio", "AC1", "secret", 600, url), TurnService("cloudflare", "key1", "other", 600, url)
        ) as turn,
    ):
        assert turn.servers() == ()  # nobody waits
        await until(lambda: len(turn.servers()) == 3, "the servers")
        users = {server.urls[0].partition(":")[0] + server.username for server in turn.servers()}
        assert users == {"stun", "turnuser1", "turnsomeone"} or users == {"stun", "turnuser2", "turnsomeone"}
        basic = "Basic " + base64.b64encode(b"AC1:secret").decode()
        wanted = {"/2010-04-01/Accounts/AC1/Tokens.json": (basic, {"Ttl": "600"})}
        wanted["/v1/turn/keys/key1/credentials/generate-ice-servers"] = ("Bearer other", {"ttl": 600})
        assert {path: (login, body) for path, login, body in fake.heard} == wanted


@on_loop
async def test_a_service_that_refuses_is_asked_again_and_old_passwords_are_forgotten_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turn_services, "_RETRY_S", 0.01)
    monkeypatch.setattr(turn_services, "_USED", 0.0001)
    clock = [0.0]
    async with services() as (fake, url):
        fake.status = 500
        async with kept(TurnService("twilio", "AC1", "s3cret", 600, url), now_s=lambda: clock[0]) as turn:
            await until(lambda: len(fake.heard) > 2, "it is asked again")
            assert turn.servers() == ()
            assert "twilio answers 500" in caplog.text
            assert "s3cret" not in caplog.text
            fake.status = 201
            await until(turn.servers, "servers")
            first = turn.servers()[1].username
            await until(lambda: turn.servers()[1].username != first, "new ones before the old expire")
            fake.status = 403
            count = len(fake.heard)
            await until(lambda: len(fake.heard) > count + 1, "it is asked again")
            assert turn.servers(), "still good"
            clock[0] = 601.0
            assert turn.servers() == ()


@on_loop
async def test_a_service_that_is_not_there_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with kept(TurnService("cloudflare", "key1", "t", 600, "http://127.0.0.1:9")) as turn:
        await until(lambda: "no TURN servers from cloudflare" in caplog.text, "it is said")
        assert turn.servers() == ()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("turn-")]


@pytest.mark.parametrize(
    "document", [None, [], {}, {"ice_servers": "x"}, {"iceServers": [1, {"urls": "http://x"}, {"urls": [TURN]}]}]
)
def test_an_answer_without_servers_says_so(document: Any) -> None:
    with pytest.raises(NetworkError, match="no ICE server"):
        read_servers(document)


def test_cloudflares_older_answer_has_one_object() -> None:
    (server,) = read_servers({"iceServers": {"urls": [TURN], "username": "a", "credential": "b"}})
    assert (server.urls, server.username) == ((TURN,), "a")
