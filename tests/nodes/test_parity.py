"""Our nodes beside those of a real ComfyUI: the same declarations, the same results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from comfystream.catalog.comfyui.checkout import version_of

MADE_LIKE = "0.33"
RUNNER = Path(__file__).parent / "parity_runner.py"


@pytest.mark.comfyui
@pytest.mark.timeout(600)
def test_every_shared_node_is_the_same(tmp_path: Path) -> None:
    checkout = os.environ.get("COMFYUI_PATH")
    if not checkout:
        pytest.skip("COMFYUI_PATH names no ComfyUI checkout (COMFYUI_PYTHON: a Python that can import it)")
    version = version_of(Path(checkout))
    if not version.startswith(MADE_LIKE):
        pytest.skip(f"the bundled nodes are made like those of ComfyUI {MADE_LIKE}: NOT compared with {version}")
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    report = tmp_path / "parity.json"
    command = [python, str(RUNNER), checkout, "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, cwd=tmp_path)
    assert report.exists(), done.stderr[-2000:]
    rows = json.loads(report.read_text())
    assert sum("absent" not in row for row in rows) >= 90
    assert {row["node"]: row["differences"] for row in rows if row["differences"]} == {}
