import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from comfystream_server.bench.overload import slope
from comfystream_server.bench.rows import Goal, Row, print_rows, write_rows
from comfystream_server.bench.timing import interleaved_cpu_us


@pytest.mark.parametrize(
    ("goal", "is_met"),
    [
        (None, None),
        (Goal("ratio", 1.5), False),
        (Goal("ratio", 2.5), True),
        (Goal("ratio", 2.0, at_least=True), True),
        (Goal("ours", 4.0), False),
        (Goal("ours", 4.1), True),
    ],
)
def test_goal(goal: Goal | None, is_met: bool | None) -> None:
    assert Row("engine", "5 nodes", "tick", "us", 4.0, 2.0, "bare loop", goal).is_met is is_met


def test_goal_of_a_ratio_without_a_baseline_is_neither_met_nor_missed() -> None:
    row = Row("engine", "5 nodes", "tick", "us", 4.0, goal=Goal("ratio", 1.5))
    assert row.ratio is None
    assert row.is_met is None


def test_rows_as_json(tmp_path: Path) -> None:
    rows = [Row("child", "512x512", "latency", "ms", 3.0, 2.0, "in this process", Goal("ratio", 2))]
    write_rows(tmp_path / "found.json", rows, {"bench": "machine", "python": "3.11"})
    machine, row = json.loads((tmp_path / "found.json").read_text())
    assert machine == {"bench": "machine", "python": "3.11"}
    assert row == {
        "bench": "child",
        "case": "512x512",
        "metric": "latency",
        "unit": "ms",
        "ours": 3.0,
        "baseline": 2.0,
        "baseline_name": "in this process",
        "ratio": 1.5,
        "goal": "ratio < 2",
    }


def test_table_says_whether_the_goal_is_met() -> None:
    console = Console(file=StringIO(), width=160)
    row = Row("child", "512x512", "latency", "ms", 3.0, 2.0, "in this process", Goal("ratio", 2))
    print_rows(console, "child", [row])
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1.50" in printed
    assert "ratio < 2 met" in printed
    assert printed.index("512x512") < printed.index("beside in this process") < printed.index("latency")


def test_table_fits_a_terminal() -> None:
    console = Console(file=StringIO(), width=80)
    metric, missed = "round trip p50, ours at both ends", Goal("ratio", 0.2)
    print_rows(console, "rtc", [Row("rtc", "1280x720 VP8", metric, "ms", 1234.5, 2345.6, "bare aiortc echo", missed)])
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    [line] = [line for line in printed.splitlines() if "1,234" in line]
    assert line.split()[-8:] == ["1,234", "2,346", "ms", "0.53", "ratio", "<", "0.2", "missed"]


def test_interleaved_rounds_begin_with_each_in_turn() -> None:
    calls: list[str] = []
    taken = interleaved_cpu_us([lambda: calls.append("a"), lambda: calls.append("b")], rounds=2, batch=1, warm_up=0)
    assert calls == ["a", "b", "b", "a"]
    assert len(taken) == 2


def test_slope() -> None:
    assert slope([(0, 5), (1, 7), (2, 9)]) == pytest.approx(2)
    assert slope([(0, 5)]) == 0
