import pytest

from comfystream.engine.protocol import NodeTiming, RunnerStats
from comfystream.frames import Lane
from comfystream.session.stages import CountingClock, StageClock, node_share, slowest, stages

MS = 1_000_000


def node(id, total_ms, where="video"):
    return NodeTiming(id, "Any", "", where, 10, total_ms, total_ms)


def made(graph_ms=0.0, convert_ms=0.0, **clock):
    stats = RunnerStats({}, {Lane.VIDEO: 10}, {}, 0, {}, convert_ms, (), graph_ms)
    spent = StageClock(**{name: value * MS for name, value in clock.items()})
    return stages(spent, stats, prepare_ms=5.0, run_ms=100.0, read=20, written=10)


def test_stages_show_work_share_and_wait():
    by_name = {stage.name: stage for stage in made(30.0, 10.0, decode=40, feed=15, encode=50, idle=20)}
    decode, graph = by_name["decode"], by_name["graph"]
    assert (decode.mean_ms, decode.share, decode.waited_ms) == (2.0, 0.4, 15.0)
    assert (graph.mean_ms, graph.share) == (3.0, 0.3)
    assert by_name["encode"].waited_ms == 20.0


def test_the_slowest_is_a_thread_and_its_longer_stage():
    found = slowest(made(40.0, 30.0, decode=10, encode=60))
    assert found is not None
    assert found.name == "graph"  # with conversion 70 ms on one thread, against 60 for the encoder


def test_nobody_is_blamed_when_the_input_sets_the_pace():
    assert slowest(made(5.0, decode=3, encode=7)) is None


def test_shares_of_nodes_add_up_among_their_kind():
    nodes = (node("1", 30.0), node("2", 10.0), node("3", 500.0, "static"))
    assert [node_share(n, nodes) for n in nodes] == [0.75, 0.25, 1.0]


class FakeClock:
    def __init__(self):
        self.slept_until = 0

    def now_ns(self):
        return 7

    def sleep_until_ns(self, deadline_ns):
        self.slept_until = deadline_ns


def test_sleeping_for_the_pace_is_counted_apart():
    meter, inner = StageClock(), FakeClock()
    clock = CountingClock(inner, meter)
    clock.sleep_until_ns(99)
    assert clock.now_ns() == 7
    assert inner.slept_until == 99
    assert meter.pace > 0


def test_a_run_that_took_no_time_has_no_shares():
    stats = RunnerStats({}, {}, {}, 0, {}, 0.0, ())
    assert all(s.share == 0 for s in stages(StageClock(), stats, prepare_ms=1, run_ms=0, read=0, written=0))


@pytest.mark.parametrize("frames", [0, 4])
def test_mean_of_no_frames_is_zero(frames):
    stats = RunnerStats({}, {}, {}, 0, {}, 8.0, ())
    decode = stages(StageClock(decode=8 * MS), stats, prepare_ms=0, run_ms=10, read=frames, written=0)[1]
    assert decode.mean_ms == (2.0 if frames else 0.0)
