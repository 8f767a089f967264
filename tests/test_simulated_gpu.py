"""The tests that need a GPU, on one that is simulated: what would be wrong on any GPU is wrong there, too.

A process of its own each: torch stays changed in it. What the simulation cannot show is in its own description,
tests/support/simulated_cuda.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
SECONDS = 900
needs_simulation = pytest.mark.skipif(
    torch.version.cuda is not None or torch.version.hip is not None or shutil.which("g++") is None,
    reason="the simulated GPU needs g++ and a torch that is built without CUDA",
)


def passed(*words: str) -> int:
    """How many tests of another pytest passed; it fails when one of them did."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *words]
    more = {"SIMULATED_GPU": "1", "PYTHONPATH": str(HERE / "support")}
    done = subprocess.run(
        command, cwd=HERE.parent, env=os.environ | more, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return int(re.findall(r"(\d+) passed", done.stdout)[-1])


@needs_simulation
def test_the_simulated_gpu_finds_what_is_wrong() -> None:
    assert passed(str(HERE / "support/simulated_cases.py")) >= 25


@needs_simulation
@pytest.mark.long
@pytest.mark.timeout(SECONDS)
def test_what_needs_a_gpu_runs_on_a_simulated_one() -> None:
    assert passed("-m", "gpu", str(HERE)) >= 40


@needs_simulation
@pytest.mark.long
@pytest.mark.timeout(SECONDS)
def test_video_streams_on_a_simulated_gpu() -> None:
    """They put their model where a GPU is, and make chunks beside the frame loop: on a stream of their own there."""
    assert passed(str(HERE / "nodes/streamdiffusion/test_video_nodes.py")) >= 10
