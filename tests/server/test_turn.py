"""Media through a real TURN server (coturn) and nothing else."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiortc import RTCPeerConnection
from app_harness import Grey, app_with
from on_loop import on_loop, until
from whip_ends import End

from comfystream.engine.child import ChildEngine
from comfystream.settings import load_settings
from comfystream_server.rtc.ice import IceSettings

TURNSERVER = shutil.which("turnserver")
SECRET = "shared"


@pytest.fixture
def turn(tmp_path: Path) -> Iterator[str]:
    """The URL of a TURN server that takes passwords made from SECRET."""
    if TURNSERVER is None:
        pytest.skip("needs coturn: apt-get install coturn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-n", "--no-cli", "--no-tls", "--no-dtls", "--allow-loopback-peers", "--log-file=stdout"]
    options += ["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}", "--realm=test"]
    options += ["--use-auth-secret", f"--static-auth-secret={SECRET}", f"--pidfile={tmp_path}/pid"]
    options += [f"--userdb={tmp_path}/db"]
    log = (tmp_path / "turn.log").open("w")
    process = subprocess.Popen([TURNSERVER, *options], stdout=log, stderr=log, cwd=tmp_path)
    try:
        yield f"turn:127.0.0.1:{port}?transport=udp"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@on_loop
async def test_media_goes_through_the_relay_alone(shared_engine: ChildEngine, turn: str) -> None:
    servers = ({"urls": [turn], "secret": SECRET},)
    async with app_with(shared_engine, ice_servers=servers, ice_relay_only=True) as app:
        (mine,) = app.parts.ice.current_servers()
        ice = IceSettings((mine,), is_relay_only=True)
        ends = [End(app.client, path, ice=ice) for path in ("/whip/stage", "/whep/stage")]
        for end in ends:
            await end.pc.close()
            end.pc = RTCPeerConnection(ice.configuration())
            end.pc.on("track", end._track)
        ends[0].send(Grey())
        ends[1].watch()
        for end in ends:
            answer = await end.connect()
            candidates = [line for line in answer.splitlines() if line.startswith("a=candidate")]
            assert candidates
            assert all(" typ relay " in line for line in candidates)
        await until(lambda: ends[1].counts["video"] > 3, "pictures")
        for end in ends:
            await end.restart()  # to another relay
            before = ends[1].counts["video"]
            await until(lambda before=before: ends[1].counts["video"] > before + 10, "pictures go on")
        for end in ends:
            await end.close()


def test_the_variables_of_the_first_generation_ask_twilio() -> None:
    environ = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "secret"}
    (service,) = load_settings(environ=environ).turn_services
    assert (service.provider, service.id, service.token) == ("twilio", "AC1", "secret")
    assert load_settings(environ={"TWILIO_ACCOUNT_SID": "AC1"}).turn_services == ()
    more = environ | {"COMFYSTREAM_TURN_SERVICES": "[]"}
    assert load_settings(environ=more).turn_services == ()


def test_the_settings_of_the_documentation_are_read(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "webrtc.md"
    (tmp_path / "turn.yaml").write_text(page.read_text("utf-8").partition("```yaml\n")[2].partition("```")[0])
    settings = load_settings(tmp_path / "turn.yaml", environ={})
    assert len(settings.ice_servers) == 3
    assert [service.provider for service in settings.turn_services] == ["twilio", "cloudflare"]
