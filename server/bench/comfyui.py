"""A ComfyUI checkout in a process of its own, whose executor is timed beside ours."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comfystream.errors import AssetError

from .graphs import PACK

__all__ = ["ComfyUI"]

SCRIPT = Path(__file__).with_name("comfyui_child.py")
# The import paths of this process, also where ComfyStream is not installed.
BOOT = (
    "import runpy, sys; sys.path[:], sys.argv = {path!r}, sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


class ComfyUI:
    """Loads the checkout with this interpreter.

    Attributes:
        version: ComfyUI's.
        modes: names of its cache modes that are compared.

    Raises:
        AssetError: something that it needs is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process that writes to it
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT.format(path=sys.path), str(SCRIPT), str(folder.absolute()), str(PACK)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        ready = self._answer()
        if "error" in ready:
            self.close()
            raise AssetError(ready["error"], hint=ready["hint"])
        self.version: str = ready["version"]
        self.modes: list[str] = ready["modes"]

    def load(self, prompt: dict[str, Any], mode: str) -> Callable[[], float]:
        """A graph; calling it runs one prompt and gives its processor time in microseconds."""
        self._ask({"prompt": prompt, "mode": mode})
        return lambda: self._ask({})["cpu_ns"] / 1000

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssetError(f"the ComfyUI process ended (exit code {self._process.wait(10)})", hint=self._last_line())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """End the process. Idempotent."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> ComfyUI:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

