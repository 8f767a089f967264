"""The figures: spreads that are right, models that say all that there is, and the wire as before."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from on_loop import on_loop

from comfystream.engine.events import EngineLost, EngineRestarted, NodeFailed
from comfystream.frames import Lane, Stamps
from comfystream.session.live_figures import LiveStats
from comfystream.session.live_fps import FpsStats
from comfystream.session.live_stages import StageMeter, spread
from comfystream.session.live_state import SessionState, ShuttingDown, StateChanged
from comfystream_server.control.figures import BitRate, ConnectionFigures, GpuFigures, stats_of
from comfystream_server.control.messages import Describe
from comfystream_server.control.notices import data_models, notice
from comfystream_server.resources import GpuReading
from comfystream_server.rtc.ice import IceSettings
from comfystream_server.rtc.peer import Peer

MS = 1_000_000


def test_a_stage_is_what_lies_between_two_stamps() -> None:
    meter = StageMeter()
    stamps = [Stamps(captured=MS, decoded=3 * MS, entered=4 * MS, computed=(5 + n) * MS) for n in range(100)]
    for one in stamps:
        meter.note(one)
    found = meter.spreads()
    assert set(found) == {"decode", "wait", "compute"}  # nobody has encoded or sent them
    assert (found["decode"].p50, found["wait"].p95) == (2.0, 1.0)
    assert (found["compute"].p50, found["compute"].p95) == (51.0, 96.0)
    for one in stamps:  # viewers stamp them later
        one.encoded = one.computed + 7 * MS
        one.sent = one.encoded + MS
    assert meter.spreads()["encode"].p50 == 7.0
    assert meter.spreads()["total"].p95 == spread([12.0 + n for n in range(100)]).p95


def test_stamps_that_run_backward_count_nowhere() -> None:
    meter = StageMeter()
    meter.note(Stamps(captured=9 * MS, decoded=3 * MS))
    assert meter.spreads() == {}


def test_bits_per_second_out_of_bytes() -> None:
    now = [10.0]
    rate = BitRate(lambda: now[0])
    now[0] += 2
    assert rate.of(1000) == 4000
    now[0] += 1
    assert rate.of(1000) == 0
    assert rate.of(5000) == 0  # no time has passed


def test_figures_without_engine_gpu_or_viewer() -> None:
    said = stats_of(LiveStats(SessionState.IDLE, 0, 5, 4, FpsStats(), FpsStats(), {}, 0, 1.23, None))
    assert (said.frames_in, said.latency_ms, said.nodes, said.connection) == (5, 1.2, [], None)
    assert (said.memory.server_bytes or 0) > 1e6
    assert said.memory.engine_bytes is None


@on_loop
async def test_what_a_connection_counts_is_in_the_model() -> None:
    def nothing(*said: Any) -> None:
        pass

    peer = Peer(ice=IceSettings(), on_video=nothing, on_audio=nothing, on_message=nothing, on_state=nothing)
    try:
        counted = {**peer.stats, "bitrate": 5}
        assert ConnectionFigures.model_validate(counted).model_dump() == counted
    finally:
        await peer.close()


def test_what_a_gpu_says_is_in_the_model() -> None:
    assert set(GpuFigures.model_fields) == {field.name for field in dataclasses.fields(GpuReading)}


EVENTS = [
    (StateChanged(SessionState.RUNNING, 3), "state", 3),
    (ShuttingDown(10.0), "shutdown", 0),
    (EngineLost("killed"), "engine_lost", 0),
    (EngineRestarted("killed", 2, 5), "engine_restarted", 2),
    (NodeFailed("3", "Blur", "no", "try", "ValueError", "/secret/path", 5, Lane.VIDEO, 4), "node_failed", 4),
]


@pytest.mark.parametrize(("event", "name", "revision"), EVENTS, ids=[name for _, name, _ in EVENTS])
def test_a_notice_is_what_its_model_says(event: Any, name: str, revision: int) -> None:
    said = notice(event)
    assert said is not None
    assert (said.event, said.revision) == (name, revision)
    assert set(said.data) == set(data_models()[name].model_fields)
    data_models()[name].model_validate(said.data)
    assert "/secret/path" not in said.model_dump_json()


def test_requests_take_nothing_that_is_unknown() -> None:
    with pytest.raises(ValueError, match="more"):
        Describe.model_validate({"type": "describe", "more": 1})
