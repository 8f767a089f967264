"""The Python packages that node packs ask for: found out before anything is installed, and never at torch's cost."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from comfystream.errors import AssetError

__all__ = ["PROTECTED", "Conflict", "Requirements", "held"]

PROTECTED = ("torch", "torchvision", "torchaudio", "numpy", "av", "aiortc", "aiohttp", "pydantic")
PIP_S = 3600


class Conflict(AssetError):
    """Packs ask for packages that cannot be together, or not with what is installed."""

    default_code = "conflict"


def held() -> list[str]:
    """What is installed of the packages that no pack may change, as constraints."""
    lines = []
    for name in PROTECTED:
        try:
            lines.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return lines


@dataclass(frozen=True, slots=True)
class Requirements:
    """What some packs ask for together.

    Attributes:
        files: their `requirements.txt`.
        more: single requirements from the list.
        wheels: a folder to take packages from, and from nowhere else; None asks the package index.
    """

    files: Sequence[Path]
    more: Sequence[str]
    wheels: Path | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to install."""
        return not self.files and not self.more

    def plan(self, scratch: Path) -> list[str]:
        """What would be installed, as "name version"; nothing is.

        Args:
            scratch: a folder for pip's report.

        Raises:
            Conflict: it cannot be installed; the message has pip's reason.
        """
        if self.is_empty:
            return []
        report = scratch / "report.json"
        _pip("install", "--dry-run", "--report", str(report), *self._arguments(scratch))
        items = json.loads(report.read_text("utf-8"))["install"]
        return sorted(f"{item['metadata']['name']} {item['metadata']['version']}" for item in items)

    def install(self, scratch: Path) -> None:
        """Install it; raises what `plan` raises."""
        if not self.is_empty:
            _pip("install", *self._arguments(scratch))

    def _arguments(self, scratch: Path) -> Iterable[str]:
        constraints = scratch / "constraints.txt"
        constraints.write_text("\n".join(held()) + "\n", "utf-8")
        yield from ("-c", str(constraints))
        if self.wheels is not None:
            yield from ("--no-index", "--find-links", str(self.wheels))
        for file in self.files:
            yield from ("-r", str(file))
        yield from self.more


def _pip(command: str, *arguments: str) -> None:
    base = [sys.executable, "-m", "pip", command, "--quiet", "--no-input", "--disable-pip-version-check"]
    done = subprocess.run([*base, *arguments], capture_output=True, text=True, errors="replace", timeout=PIP_S)
    if done.returncode:
        raise Conflict(
            f"pip cannot install what the packs ask for: {_reason(done.stderr + done.stdout)}",
            hint=f"held as they are: {', '.join(held())}",
        )


def _reason(text: str) -> str:
    """The lines of pip's output that say why."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "[notice]" not in line]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    start = next((at for at, line in enumerate(lines) if "The conflict is caused by" in line), None)
    causes = lines[start + 1 : start + 5] if start is not None else []
    said = [*errors, *causes] or lines[-3:]
    return "; ".join(said)[:1200] or "it did not say why"
