import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from comfystream_server.bench.app import app

KEYS = {"bench", "case", "metric", "unit", "ours", "baseline", "baseline_name", "ratio", "goal"}
BENCHES = {
    "engine": {"graph", "tick"},
    "file": {"speed", "processor time per frame"},
    "swap": {"longest gap"},
    "overload": {"oldest output", "dropped", "lost and not counted"},
    "child": {"added latency, median"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "bench", [pytest.param(name, marks=pytest.mark.long) if name in ("swap", "overload") else name for name in BENCHES]
)
def test_bench_writes_rows(bench: str, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    outcome = CliRunner().invoke(app, [bench, "--quick", "--json", str(file)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    machine, *rows = json.loads(file.read_text())
    assert machine["bench"] == "machine"
    assert machine["torch"]
    assert {row["metric"] for row in rows} >= BENCHES[bench]
    for row in rows:
        assert set(row) == KEYS
        assert row["bench"] == bench
        assert isinstance(row["ours"], int | float)
        if row["baseline"]:
            assert row["ratio"] == pytest.approx(row["ours"] / row["baseline"])
            assert row["baseline_name"]
    assert any(row["goal"] for row in rows)


@pytest.mark.slow
def test_bench_trickle_measures_a_worker_of_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says that nobody was there to compare with."""
    from comfystream_server.bench import trickle

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trickle, "CASES", (trickle.Case((128, 96), 30, 300_000, trickle.Goal("ours", 15.0)),))
    rows = list(trickle.bench_trickle(seconds=2.5))
    figures = {row.metric: row.ours for row in rows}
    assert {row.baseline_name for row in rows} == {"pytrickle: not installed"}
    assert all(row.baseline is None for row in rows)
    assert figures["pictures that came out"] > 50
    assert 0 < figures["latency p50"] <= figures["latency p95"] <= figures["longest"]
    assert figures["first picture"] > 0
    assert figures["most memory"] > 10


@pytest.mark.long
def test_bench_worker_measures_delay_and_the_gap_of_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    from comfystream_server.bench import trips, worker

    small = trips.Case((128, 96), 30, 300_000)
    monkeypatch.setattr(worker, "CASES", (small,))
    monkeypatch.setattr(worker, "SWITCH", small)
    rows = list(worker.bench_worker(2.5, load_s=0.3))
    figures = {row.metric: row for row in rows if row.case == small.name}
    assert figures["pictures that came out"].ours > 50
    assert 0 < figures["latency p50"].ours <= figures["longest"].ours
    assert figures["CPU per picture"].ours > 0
    assert figures["CPU per picture"].baseline
    gaps = [row for row in rows if row.metric == "longest gap"]
    assert len(gaps) == 2
    assert all(gap.ours > 10 and gap.baseline and gap.goal for gap in gaps)


@pytest.mark.long
def test_bench_trickle_tells_when_the_peer_cannot_run(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    outcome = CliRunner().invoke(app, ["trickle", "--quick", "--pytrickle", str(python)])
    assert outcome.exit_code == 2
    assert "the worker's process ended" in " ".join(outcome.output.split())


def test_overload_counts_every_drop() -> None:
    from comfystream_server.bench.overload import bench_overload

    rows = list(bench_overload(seconds=1.0))
    assert [row.ours for row in rows if row.metric == "lost and not counted"] == [0, 0]
    assert all(row.ours > 0 for row in rows if row.metric == "dropped")


def test_a_folder_that_is_no_checkout_is_told(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["engine", "--quick", "--comfyui", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "this is no ComfyUI checkout" in " ".join(outcome.output.split())


def test_what_a_checkout_misses_is_told(tmp_path: Path) -> None:
    for name in ("execution.py", "nodes.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "__init__.py").write_text("")
    (tmp_path / "comfy" / "cli_args.py").write_text("import a_package_that_nobody_has")
    # in a process of its own: this one holds the stand-ins
    code = "import sys; from comfystream_server.cli import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", code, "bench", "engine", "--quick", "--comfyui", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    told = "".join(done.stderr.split())
    assert "Nomodulenamed'a_package_that_nobody_has'" in told
    assert "".join(sys.executable.split()) in told
