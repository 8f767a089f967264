"""The benches of models: they run, and say so when there is nothing to measure on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from comfystream_server.bench.accel import TINY
from comfystream_server.bench.app import app
from comfystream_server.bench.gpu import Img2Img, measure
from comfystream_server.cli import main

pytest.importorskip("diffusers", reason="needs diffusers")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_eager_beside_the_inductor(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    outcome = CliRunner().invoke(app, ["accel", "--quick", "--json", str(file)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    rows = [row for row in json.loads(file.read_text()) if row.get("metric") == "time per run, median"]
    assert {row["case"] for row in rows} == {"TAESD encode 128²", "TAESD decode 128²", "tiny UNet 128²"}
    assert all(row["baseline_name"] == "eager" and row["ratio"] > 0 for row in rows)


def test_what_runs_on_a_gpu_runs_here_in_small() -> None:
    what = Img2Img(TINY, size=64, rows=2, precision="fp32", taesd_width=8)
    rows = {row.metric: row.ours for row in measure(what, "eager", "cpu", 3, "small")}
    assert rows["frames per second"] > 0
    assert rows["time per tick, median"] > 0
    tick, engine = what.tick("eager", "cpu")
    assert engine == ""
    assert tick().shape == (2, 3, 64, 64)
    assert torch.equal(tick().clone(), tick())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_prints_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "gpu", "--quick"]) == 2
    said = capsys.readouterr()
    assert "nothing was measured: " in said.err
    assert "fps" not in said.out


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "cuda-graph"])
def test_on_a_gpu(backend: str) -> None:
    what = Img2Img(TINY, size=64, rows=1, taesd_width=8)
    rows = {row.metric: row.ours for row in measure(what, backend, "cuda", 20, "small")}
    assert rows["frames per second"] > 0
