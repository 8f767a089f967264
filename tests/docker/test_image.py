"""The image for the processor, built here and run here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from image_builder import Image
from on_loop import on_loop, until
from worker_harness import camera, listening, orchestrator, play

pytestmark = [pytest.mark.slow, pytest.mark.image, pytest.mark.timeout(1800)]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def children(pid: int) -> list[int]:
    """Those of all its threads: whichever thread of buildah's has forked is the parent that the kernel names."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in files for word in path.read_text().split()]


def below(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *below(child))]


def named(pid: int, name: str) -> int | None:
    for one in below(pid):
        if Path(f"/proc/{one}/comm").read_text().strip() == name:
            return one
    return None


@contextmanager
def running(image: Image, *arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The container's entrypoint with arguments; stopped as an engine stops it: SIGTERM to its first process."""
    command = image.command("tini", "--", "python3", "/app/docker/entrypoint.py", *arguments, env=env)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield child
    finally:
        first = named(child.pid, "tini")
        if first is not None:
            os.kill(first, signal.SIGTERM)
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            for one in below(child.pid):
                os.kill(one, signal.SIGKILL)
            raise


def answer(address: str, child: subprocess.Popen[str]) -> str:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2) as response:
                return str(response.read().decode())
        except OSError:
            assert child.poll() is None, child.stdout.read()[-3000:] if child.stdout else ""
            time.sleep(0.3)
    raise AssertionError(f"{address} never answered")


async def start_stream(http: aiohttp.ClientSession, address: str, body: dict[str, Any]) -> None:
    """A worker that still loads says 503 after eight seconds: it is asked again."""
    said = ""
    for _ in range(10):
        async with http.post(address, json=body) as response:
            if response.status == 200:
                return
            said = await response.text()
        await asyncio.sleep(1)
    raise AssertionError(said)


def test_it_runs_as_nobody_special_and_has_all_it_needs(image: Image) -> None:
    assert image.run("id", "-u").stdout.strip() == "1000"
    doctor = image.run("comfystream", "doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "Ready to run workflows" in doctor.stdout
    settings = image.settings()
    assert settings["User"] == "comfystream"
    assert "/app/docker/healthcheck.py" in settings["Healthcheck"]["Test"]
    assert {"/workspace/models", "/workspace/engines", "/workspace/cache"} <= set(settings["Volumes"])


def test_it_makes_a_video(image: Image) -> None:
    clip, workflow = "/app/workflows/assets/demo.mp4", "/app/workflows/edges.json"
    made = image.run("comfystream", "run", workflow, "-i", clip, "-o", "/tmp/edges.mp4")
    assert made.returncode == 0, made.stdout + made.stderr
    assert (image.root / "tmp/edges.mp4").stat().st_size > 10_000


def test_nothing_of_the_machine_that_built_it_is_in_it(image: Image) -> None:
    found = []
    for folder in ("etc", "app", "home", "root", "workspace", "opt/comfystream/bin", "usr/local", "var/lib"):
        for path in (image.root / folder).rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 2**20:
                text = path.read_bytes()
                found += [f"{path.relative_to(image.root)}: {word}" for word in image.hidden if word.encode() in text]
    assert not found
    assert not (image.root / "etc/pip.conf").exists() or (image.root / "etc/pip.conf").stat().st_size == 0


def test_the_live_server_serves_and_ends_in_order(image: Image) -> None:
    port = free_port()
    with running(image, "--serve", env={"COMFYSTREAM_SERVE_PORT": str(port), "COMFYSTREAM_TOKEN": "x" * 32}) as child:
        assert answer(f"http://127.0.0.1:{port}/health", child) == "OK"
        check = image.run("python3", "/app/docker/healthcheck.py")
        assert (check.returncode, check.stdout.strip()) == (0, "well")
    assert child.returncode == 0
    after = image.run("python3", "/app/docker/healthcheck.py")
    assert after.returncode == 1


def test_comfyui_runs_beside_the_live_server_and_health_waits_for_both(image: Image) -> None:
    ports = {"COMFYSTREAM_SERVE_PORT": str(free_port()), "COMFYSTREAM_COMFYUI_PORT": str(free_port())}
    environ = {**ports, "COMFYSTREAM_TOKEN": "x" * 32, "ORCH_SECRET": "s3cret", "STUB_WARM_S": "3"}
    comfyui = f"http://127.0.0.1:{ports['COMFYSTREAM_COMFYUI_PORT']}/system_stats"
    with running(image, "--serve", "--comfyui", "--", "--cpu", env=environ) as child:
        answer(f"http://127.0.0.1:{ports['COMFYSTREAM_SERVE_PORT']}/health", child)
        said = json.loads(answer(comfyui, child))
        assert said == {"cpu": True, "user": 1000, "secret": False, "packages": "tomli_w"}
        check = image.run("python3", "/app/docker/healthcheck.py")
        assert (check.returncode, check.stdout.strip()) == (0, "well")
    assert child.returncode == 0
    assert not (image.root / "workspace/ComfyUI/.git").exists()


def test_while_a_service_warms_up_the_container_is_not_healthy_yet(image: Image) -> None:
    port = free_port()
    environ = {"COMFYSTREAM_COMFYUI_PORT": str(port), "STUB_WARM_S": "8"}
    with running(image, "--comfyui", env=environ) as child:
        end = time.monotonic() + 60
        check = image.run("python3", "/app/docker/healthcheck.py")
        while "system_stats" not in check.stdout and time.monotonic() < end:
            time.sleep(0.2)
            check = image.run("python3", "/app/docker/healthcheck.py")
        assert (check.returncode, "refused" in check.stdout) == (1, True), check.stdout
        answer(f"http://127.0.0.1:{port}/system_stats", child)
        assert image.run("python3", "/app/docker/healthcheck.py").returncode == 0
    start_period_s = int(image.settings()["Healthcheck"]["StartPeriod"]) / 1e9
    assert start_period_s >= 60, "meanwhile that does not count"


@on_loop
async def test_the_worker_passes_a_stream_through_its_workflow(image: Image, repository: Path) -> None:
    """All of it over the machine's own loopback: channels, camera and viewer are out here."""
    port = free_port()
    environ = {"COMFYSTREAM_BYOC_PORT": str(port), "CAPABILITY_TOKEN": "t0ken-of-the-worker"}
    prompts = json.loads((repository / "workflows/invert.json").read_text("utf-8"))
    with running(image, "--byoc", env=environ) as child:
        address = f"http://127.0.0.1:{port}"
        said = await asyncio.to_thread(answer, f"{address}/health", child)
        assert json.loads(said)["status"] in ("LOADING", "IDLE")
        headers = {"Authorization": "Bearer t0ken-of-the-worker"}
        async with orchestrator() as orch, aiohttp.ClientSession(headers=headers) as http:
            body = orch.stream(params={"prompts": prompts, "width": 64, "height": 48})
            await start_stream(http, f"{address}/stream/start", body)
            async with listening(body["publish_url"]) as out, camera(body["subscribe_url"], value=60):
                await until(lambda: out.segments and min(play(out.segments[-1]).luma, default=0) > 150, "the negative")
                check = await asyncio.to_thread(image.run, "python3", "/app/docker/healthcheck.py")
                assert (check.returncode, check.stdout.strip()) == (0, "well")
                async with http.post(f"{address}/stream/stop") as stopped:
                    assert stopped.status == 200
    assert child.returncode == 0
    assert child.stdout is not None
    assert "t0ken-of-the-worker" not in child.stdout.read()


def test_it_has_the_programs_that_pushes_and_fetches_need(image: Image) -> None:
    programs = image.run("ffmpeg", "-hide_banner", "-protocols")
    assert {"rtmp", "srt"} <= set(programs.stdout.split())
    looked = image.run("comfystream", "fetch", "models", "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert looked.stdout.splitlines()
    assert all(line.startswith("missing") for line in looked.stdout.splitlines())


def test_a_typo_is_one_line(image: Image) -> None:
    done = image.run("python3", "/app/docker/entrypoint.py", "--byok")
    assert done.returncode == 64
    assert "there is no option --byok" in done.stderr
