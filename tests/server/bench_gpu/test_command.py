"""The command `bench gpu`: wrong options, and a machine without a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpu_bench import run
from typer.testing import CliRunner

from comfystream.errors import ConfigError
from comfystream_server.bench.app import app
from comfystream_server.cli import main


def test_options_that_are_wrong_are_told(said: list[str]) -> None:
    with pytest.raises(ConfigError, match="there is no workload sd-trubo"):
        run(said, only=("sd-trubo",))
    with pytest.raises(ConfigError, match="the backend nonsense cannot be measured here: there is none"):
        run(said, backends=("nonsense",))
    outcome = CliRunner().invoke(app, ["gpu", "--precision", "fp4"])
    assert outcome.exit_code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_command_begins_by_itself(tmp_path: Path) -> None:
    """In a process of its own, where nobody has put up ComfyUI's names before."""
    code = "from comfystream_server.cli import main; raise SystemExit(main(['bench', 'gpu', '--quick']))"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "nothing was measured: " in " ".join(done.stderr.split())
    assert "defect" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_prints_no_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    assert main(["bench", "gpu", "--quick", "--json", str(file)]) == 2
    said = capsys.readouterr()
    assert "nothing was measured: " in said.err
    assert "fps" not in said.out
    assert not file.exists()
