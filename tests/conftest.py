"""What all tests share: the repository's folder, and loud skips for what this machine does not have."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# A machine that never ran ComfyStream: what lies in a developer's own folder must not decide about a test.
_HOME = tempfile.mkdtemp(prefix="comfystream-tests-")
os.environ["COMFYSTREAM_HOME"] = str(Path(_HOME) / "not-yet")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

# Shells start what runs in the background without Ctrl-C, and programs inherit that: those under test have to hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# What needs a GPU runs on one that is simulated, when asked to: see tests/support/simulated_cuda.
IS_SIMULATED = os.environ.get("SIMULATED_GPU") == "1"
if IS_SIMULATED:
    import simulated_cuda

    simulated_cuda.install()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's folder."""
    return REPOSITORY


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what needs a GPU or a ComfyUI checkout that is not there."""
    reasons: dict[str, str] = {}
    if any(item.get_closest_marker("gpu") for item in items) and not _has_gpu():
        if os.environ.get("REQUIRE_GPU") == "1":
            raise pytest.UsageError("REQUIRE_GPU=1, but there is no CUDA device")
        reasons["gpu"] = "needs a CUDA device"
    checkout = os.environ.get("COMFYUI_PATH", "")
    if not checkout:
        reasons["comfyui"] = "needs a ComfyUI checkout: set COMFYUI_PATH to its folder"
    elif not (Path(checkout) / "nodes.py").is_file():
        raise pytest.UsageError(f"COMFYUI_PATH={checkout} is not a ComfyUI checkout: it has no nodes.py")
    for item in items:
        needs = item.get_closest_marker("gpu")
        if IS_SIMULATED and needs is not None and not needs.kwargs.get("simulated", True):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device that is not simulated"))
        if item.get_closest_marker("browser"):  # now and then a Chromium ends by itself; nothing else is tried again
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=["TargetClosedError"]))
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _only_marked_tests_see_the_checkout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command takes its nodes from COMFYUI_PATH; what is tested without one must not depend on who set it."""
    if request.node.get_closest_marker("comfyui") is None:
        monkeypatch.delenv("COMFYUI_PATH", raising=False)


if IS_SIMULATED:

    @pytest.fixture(autouse=True)
    def _no_hazards() -> Iterator[None]:
        """Work of several streams on the same memory that nothing orders fails the test, whoever caught it."""
        simulated_cuda.hazards.clear()
        yield
        assert not simulated_cuda.hazards, "\n".join(simulated_cuda.hazards)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What needs a GPU and was not run is said at the end, with its count."""
    if IS_SIMULATED:
        terminalreporter.write_line("GPU SIMULATED: no kernels, no speed, no precision of its own", yellow=True)
    skipped = [one for one in terminalreporter.stats.get("skipped", ()) if "needs a CUDA device" in str(one.longrepr)]
    if skipped:
        terminalreporter.write_line(f"GPU NOT TESTED: {len(skipped)} tests skipped (no CUDA device)", yellow=True)
