"""The execution tests of the checkout itself pass on our engine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from own_process import REPOSITORY

HERE = Path(__file__).resolve().parent
# What ComfyUI 0.3.64 has of them: 37 graphs, 17 with async nodes, 8 of which types fit which.
AT_LEAST = 62
# Of its HTTP server, not of its executor.
LEFT_OUT = ("history", "offset", "jobs_api", "get_job", "in_job_")


@pytest.mark.comfyui
@pytest.mark.timeout(600)
def test_comfyuis_own_execution_tests_pass(checkout: Path, python: str, tmp_path: Path) -> None:
    if not (checkout / "tests" / "execution" / "test_execution.py").is_file():
        pytest.skip(f"{checkout} came without ComfyUI's tests: its execution graphs were NOT run")
    if subprocess.run([python, "-c", "import pytest"], capture_output=True).returncode:
        pytest.skip(f"{python} has no pytest: ComfyUI's execution graphs were NOT run")
    done = _run(checkout, python, tmp_path)
    said = done.stdout[-6000:] + done.stderr[-2000:]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped|deselected)", said)}
    print(f"ComfyUI's execution tests: {counts}")
    assert done.returncode == 0, said
    assert counts["passed"] >= AT_LEAST


def _run(checkout: Path, python: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("COMFYUI_", "PYTEST_"))}
    environ |= {"COMFYUI_CHECKOUT": str(checkout), "GRAPHS_FOLDER": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    places = f"import sys; sys.path[:0] = [{str(checkout)!r}, {str(REPOSITORY / 'importable')!r}]; import pytest; "
    words = ["-q", "--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:warnings"]
    words += ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "-k", f"not ({' or '.join(LEFT_OUT)})"]
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = execution: ComfyUI's\n")
    code = f"{places}sys.exit(pytest.main({[*words, str(HERE / 'execution_graphs.py')]!r}))"
    return subprocess.run(
        [python, "-P", "-c", code], capture_output=True, text=True, timeout=580, cwd=folder, env=environ
    )
