"""`bench accel`: it runs, and prints a ratio."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from comfystream_server.bench.app import app

pytest.importorskip("diffusers", reason="needs diffusers")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.long
def test_eager_beside_the_inductor(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    outcome = CliRunner().invoke(app, ["accel", "--quick", "--json", str(file)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    rows = [row for row in json.loads(file.read_text()) if row.get("metric") == "time per run, median"]
    assert {row["case"] for row in rows} == {"TAESD encode 128²", "TAESD decode 128²", "tiny UNet 128²"}
    assert all(row["baseline_name"] == "eager" and row["ratio"] > 0 for row in rows)
