"""Orchestrators sign their own certificates: refused with a hint, accepted when that is asked for, everywhere alike."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fake_registry import REGISTER, SECRET, UNREGISTER, registry
from on_loop import on_loop, until
from self_signed import server_context
from worker_harness import camera, listening, orchestrator, play, serving


@on_loop
async def test_channels_whose_certificate_is_not_trusted_end_the_stream_with_a_hint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "comfystream")
    async with orchestrator(tls=server_context(tmp_path)) as orch, serving() as worker:
        assert orch.url.startswith("https://")
        assert (await worker.call("POST", "/stream/start", orch.stream()))[0] == 200
        await worker.until_idle()
    ends = [record.getMessage() for record in caplog.records if "has ended" in record.getMessage()]
    assert len(ends) == 1
    assert "its certificate is not trusted" in ends[0]
    assert "ORCH_INSECURE_TLS=true" in ends[0]


@on_loop
async def test_one_variable_opens_registration_and_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = server_context(tmp_path)
    async with registry(tls=tls) as orch, orchestrator(tls=tls) as channels:
        monkeypatch.setenv("ORCH_URL", orch.url)
        monkeypatch.setenv("ORCH_SECRET", SECRET)
        monkeypatch.setenv("ORCH_INSECURE_TLS", "true")
        monkeypatch.setenv("CAPABILITY_URL", "http://127.0.0.1:9")
        async with serving() as worker:
            await until(lambda: orch.bodies(REGISTER), "the registration")
            body = channels.stream()
            assert (await worker.call("POST", "/stream/start", body))[0] == 200
            async with listening(body["publish_url"]) as out, camera(body["subscribe_url"], value=60):
                await until(lambda: out.segments and min(play(out.segments[-1]).luma) > 150, "the negative")
        assert orch.asked[-1][0] == UNREGISTER


@on_loop
async def test_a_registry_whose_certificate_is_not_trusted_is_told_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with registry(tls=server_context(tmp_path)) as orch:
        monkeypatch.setenv("ORCH_URL", orch.url)
        monkeypatch.setenv("ORCH_SECRET", SECRET)
        async with serving():
            await until(lambda: "ORCH_INSECURE_TLS=true accepts it" in caplog.text, "the hint")
        assert not orch.asked
