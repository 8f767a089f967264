import json
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
@pytest.mark.parametrize("bench", BENCHES)
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


def test_overload_counts_every_drop() -> None:
    from comfystream_server.bench.overload import bench_overload

    rows = list(bench_overload(seconds=1.0))
    assert [row.ours for row in rows if row.metric == "lost and not counted"] == [0, 0]
    assert all(row.ours > 0 for row in rows if row.metric == "dropped")


def test_a_folder_that_is_no_checkout_is_told(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["engine", "--quick", "--comfyui", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "is no ComfyUI checkout" in " ".join(outcome.output.split())


def test_what_a_checkout_misses_is_told(tmp_path: Path) -> None:
    (tmp_path / "execution.py").write_text("")
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "__init__.py").write_text("")
    (tmp_path / "comfy" / "cli_args.py").write_text("import a_package_that_nobody_has")
    outcome = CliRunner().invoke(app, ["engine", "--quick", "--comfyui", str(tmp_path)])
    assert outcome.exit_code == 2
    told = "".join(outcome.output.split())
    assert "nomodule'a_package_that_nobody_has'" in told
    assert "".join(sys.executable.split()) in told
