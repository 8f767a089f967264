"""`rtmp_output` of a start: what comes out reaches a real RTMP receiver, and its key reaches nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import pytest
from app_harness import Grey
from gateway_harness import listening, network, start_job, worker
from on_loop import on_loop, until
from senders import free_port
from whip_ends import publishing
from worker_harness import Paint

from comfystream_server.gateway.app import rtmp_key
from comfystream_server.gateway.outputs import ANY_RTMP

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="NEEDS ffmpeg: apt-get install ffmpeg")
SMALL = {"width": 96, "height": 64}
KEY = "k3y-of-the-channel"


@contextlib.asynccontextmanager
async def receiving(url: str, target: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """An RTMP server for one sender, which keeps what comes."""
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", "-y", "-listen", "1", "-i", url, "-c", "copy", "-f", "matroska", str(target)]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def commands_except(pid: int) -> str:
    """What everybody on this machine can read of processes, but for the receiver's own."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if int(folder.name) != pid:
                lines.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(lines)


def kept(path: Path) -> tuple[dict[str, str], list[float], list[float]]:
    """Kinds of streams with their codecs, and greys and times of the pictures."""
    greys, times = [], []
    with av.open(str(path)) as container:
        kinds = {stream.type: stream.codec_context.name for stream in container.streams}
        for frame in container.decode(video=0):
            greys.append(float(frame.to_ndarray(format="gray").mean()))
            times.append(float(frame.time or 0))
    return kinds, greys, times


async def outputs(net: Any, reply: Any) -> dict[str, Any]:
    status = (await net.call("GET", reply["status_url"]))[1]
    assert KEY not in str(status)
    (output,) = status["rtmp_outputs"]
    return dict(output)


async def reached(net: Any, reply: Any, state: str) -> dict[str, Any]:
    async with asyncio.timeout(40):
        while (said := await outputs(net, reply))["state"] != state:  # noqa: ASYNC110 - it is a request
            await asyncio.sleep(0.05)
    return said


@on_loop
async def test_what_comes_out_reaches_the_receiver_also_after_a_worker_died(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url, file = f"rtmp://127.0.0.1:{free_port()}/live/{KEY}", tmp_path / "kept.mkv"
    dark, bright = Paint(0.25), Paint(0.75)
    async with (
        network(push_urls=("rtmp://127.0.0.1:*/live/*",)) as net,
        worker(net, dark) as first,
        receiving(url, file) as receiver,
    ):
        reply = await net.start(params=SMALL, output=url)
        assert reply["rtmp_output_url"] == url
        async with (
            worker(net, bright),
            listening(net, reply["data_url"]) as events,
            publishing(net.session, reply["whip_url"], Grey(128)),
        ):
            await until(lambda: dark.pictures, "pictures")
            await reached(net, reply, "running")
            assert KEY not in commands_except(receiver.pid)
            before = (await outputs(net, reply))["frames"]
            await first.server.close()
            await until(lambda: bright.pictures > 30, "pictures of the other worker")
            said = await outputs(net, reply)
            assert (said["state"], said["target"]) == ("running", url.replace(KEY, "..."))
            assert said["frames"] > before
            assert (await net.call("POST", reply["stop_url"]))[0] == 200
            async with asyncio.timeout(20):
                assert await receiver.wait() == 0, "a clean end"
            await until(lambda: events.is_over, "the end of the data")
            states = [one["state"] for one in events.named("rtmp_output")]
            assert (states[0], states[-1]) == ("starting", "ended")
            assert events.said[-1][0] == "end"
            assert KEY not in str(events.said)
    assert KEY not in caplog.text
    kinds, greys, times = kept(file)
    assert kinds == {"video": "h264", "audio": "aac"}, "silence where there is no sound"
    assert min(abs(grey - 64) for grey in greys) < 14
    assert min(abs(grey - 191) for grey in greys[-20:]) < 14
    assert all(after > before for before, after in zip(times, times[1:], strict=False))


@on_loop
async def test_a_receiver_that_is_away_is_tried_again_and_the_stream_goes_on(tmp_path: Path) -> None:
    url, processor = f"rtmp://127.0.0.1:{free_port()}/live/{KEY}", Paint(0.5)
    async with network(push_urls=ANY_RTMP) as net, worker(net, processor):
        reply = await net.start(params=SMALL, output=url)
        async with listening(net, reply["data_url"]) as events, publishing(net.session, reply["whip_url"], Grey(128)):
            said = await reached(net, reply, "reconnecting")
            assert "refused" in said["reason"]
            made = processor.pictures
            await until(lambda: processor.pictures > made + 5, "more pictures")
            async with receiving(url, tmp_path / "kept.mkv"):
                await reached(net, reply, "running")
                assert (await net.call("POST", reply["stop_url"]))[0] == 200
            await until(lambda: events.is_over, "the end")
            states = [one["state"] for one in events.named("rtmp_output")]
            assert {"starting", "reconnecting", "running", "ended"} <= set(states)


@on_loop
async def test_the_address_of_a_gateways_own_port_is_all_key_and_stays_hidden(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    name = "receiver-with-a-secret-name"
    async with network(push_urls=ANY_RTMP) as net, worker(net, Paint(0.5), capacity=2):
        rtmp = net.app[rtmp_key]
        rtmp.base = net.url
        await rtmp.start("127.0.0.1", 0)
        reply = await net.start(params=SMALL, output=f"rtmp://127.0.0.1:{rtmp.port}/{name}")
        async with listening(net, reply["data_url"]) as events, publishing(net.session, reply["whip_url"], Grey(128)):
            said = await reached(net, reply, "reconnecting")
            assert said["target"] == f"rtmp://127.0.0.1:{rtmp.port}/..."
            assert 'there is no stream "..."' in said["reason"]
            body = {"stream_id": name, "params": SMALL}
            status, _ = await net.call("POST", "/process/stream/start", headers=start_job(), json=body)
            assert status == 200
            await reached(net, reply, "running")
            assert name not in commands_except(0)
            assert name not in str(events.said)
            assert (await net.call("POST", reply["stop_url"]))[0] == 200
        sinks = [line for line in caplog.text.splitlines() if "push-1" in line]
        assert sinks
        assert name not in "\n".join(sinks)


@on_loop
async def test_a_stream_that_only_goes_out_by_rtmp_is_in_use(tmp_path: Path) -> None:
    url = f"rtmp://127.0.0.1:{free_port()}/live/{KEY}"
    async with network(push_urls=ANY_RTMP, idle_s=0.4) as net, worker(net) as one:
        reply = await net.start(output=url, enable_video_ingress=False)
        await asyncio.sleep(1.2)
        assert net.gateway.streams, "it is sent"
        assert (await net.call("POST", reply["stop_url"]))[0] == 200
        await one.until_idle()


@on_loop
async def test_without_the_program_a_start_is_refused_before_a_worker_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with network(push_urls=ANY_RTMP) as net, worker(net) as one:
        monkeypatch.setenv("PATH", "/nowhere")
        body = {"rtmp_output": f"rtmp://127.0.0.1/live/{KEY}"}
        status, said = await net.call("POST", "/process/stream/start", headers=start_job(), json=body)
        assert (status, said["error"]["code"]) == (400, "no_ffmpeg")
        assert one.server.worker.state == "IDLE"


def test_which_receivers_a_gateway_sends_to(monkeypatch: pytest.MonkeyPatch) -> None:
    from comfystream.settings import load_settings
    from comfystream_server.commands import gateway

    def allowed(**flags: Any) -> tuple[str, ...]:
        fixed: dict[str, Any] = {"keys": (), "origins": (), "public_url": "", "most_streams": 1, "idle_s": 1.0}
        settings = load_settings(None, flags, {})
        return gateway._options(settings, secret="s", insecure_tls=False, **fixed).push_urls

    assert allowed() == ANY_RTMP, "whoever is on this machine"
    assert allowed(host="0.0.0.0") == (), "nobody outside makes it connect to what it likes"
    assert allowed(host="0.0.0.0", allowed_push_urls=("rtmp://a/b/*",)) == ("rtmp://a/b/*",)
