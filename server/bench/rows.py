"""What a bench found: one row per figure, for people as a table and for programs as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["Goal", "Row", "print_rows", "write_rows"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be.

    Attributes:
        of: the ratio to the baseline, or our own figure.
        limit: in the row's unit, or a ratio.
        at_least: the figure should be `limit` or more; else less than `limit`.
    """

    of: Literal["ratio", "ours"]
    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{self.of} {'>=' if self.at_least else '<'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure beside its baseline.

    Attributes:
        bench, case, metric: what was measured.
        unit: of `ours` and `baseline`.
        ours: our figure.
        baseline: the figure of what it is compared with, in the same run; None where there is none.
        baseline_name: what that is.
        goal: what it should be; None where it is only reported.
    """

    bench: str
    case: str
    metric: str
    unit: str
    ours: float
    baseline: float | None = None
    baseline_name: str = ""
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the baseline."""
        return self.ours / self.baseline if self.baseline else None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        value = self.ratio if self.goal.of == "ratio" else self.ours
        if value is None:
            return None
        return value >= self.goal.limit if self.goal.at_least else value < self.goal.limit

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "bench": self.bench,
            "case": self.case,
            "metric": self.metric,
            "unit": self.unit,
            "ours": self.ours,
            "baseline": self.baseline,
            "baseline_name": self.baseline_name,
            "ratio": self.ratio,
            "goal": str(self.goal) if self.goal is not None else "",
        }


def write_rows(path: Path, rows: Iterable[Row], machine: dict[str, Any]) -> None:
    """Write the figures, after one row about the machine."""
    document = [machine, *(row.to_json() for row in rows)]
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def print_rows(console: Console, title: str, rows: Sequence[Row]) -> None:
    """Print the figures, a part of the table per case; narrow enough for a terminal of 80 columns."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for heading in ("ours", "baseline", "unit", "ratio", "goal"):
        table.add_column(heading, justify="left" if heading in ("unit", "goal") else "right", no_wrap=True)
    for (case, baseline), found in groupby(rows, lambda row: (row.case, row.baseline_name)):
        table.add_row()
        table.add_row(f"[bold]{escape(case)}[/]")
        if baseline:
            table.add_row(f"[dim]beside {escape(baseline)}[/]")
        for row in found:
            table.add_row(*_cells(row))
    console.print(table)


def _cells(row: Row) -> list[str]:
    verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[row.is_met]
    ratio = f"{row.ratio:.2f}" if row.ratio is not None and row.ratio >= 0.1 else _figure(row.ratio)
    goal = f"{row.goal or ''} {verdict}".strip()
    return [escape(row.metric), _figure(row.ours), _figure(row.baseline), row.unit, ratio, goal]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
