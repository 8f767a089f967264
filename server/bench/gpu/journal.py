"""What was found, on the disk after every step: a run that is cut off still says something."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["Journal"]


class Journal:
    """A JSON file that is whole at any time.

    Args:
        path: of the file; None keeps nothing.
        machine: what it ran on.
    """

    def __init__(self, path: Path | None, machine: dict[str, Any]) -> None:
        self._path = path
        self._document: dict[str, Any] = {
            "bench": "gpu",
            "machine": machine,
            "is_complete": False,
            "cases": [],
            "not_run": [],
        }
        self._write()

    @property
    def cases(self) -> list[dict[str, Any]]:
        """What was measured so far."""
        cases: list[dict[str, Any]] = self._document["cases"]
        return cases

    @property
    def not_run(self) -> list[dict[str, Any]]:
        """What was left out or failed, each with its reason."""
        left: list[dict[str, Any]] = self._document["not_run"]
        return left

    def add(self, case: dict[str, Any]) -> None:
        """A case begins; what is learned of it later is written by `update`."""
        self.cases.append(case)
        self._write()

    def update(self, **found: Any) -> None:
        """More about the last case."""
        self.cases[-1].update(found)
        self._write()

    def drop(self, reason: str, **what: Any) -> None:
        """Something was not measured."""
        self.not_run.append({**what, "reason": reason})
        self._write()

    def complete(self, machine_at_end: dict[str, Any]) -> None:
        """All that was to be done is done, or told why not."""
        self._document |= {"is_complete": True, "machine_at_end": machine_at_end}
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        part = self._path.with_name(f".{self._path.name}.part")
        part.write_text(json.dumps(self._document, indent=1, allow_nan=False) + "\n", "utf-8")
        os.replace(part, self._path)
