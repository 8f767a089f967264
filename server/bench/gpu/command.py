"""What `comfystream bench gpu` does with its options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from comfystream.catalog import standin
from comfystream.errors import ConfigError

from .measure import Amounts
from .run import Options, run_bench

__all__ = ["measure_gpu"]

QUICK = Amounts(warm_up=5, ticks=50, paced_s=1.0)
PRECISIONS = ("fp16", "bf16", "fp32")


def measure_gpu(
    only: Sequence[str],
    rows: Sequence[int],
    backends: Sequence[str],
    is_everything: bool,
    budget_s: float,
    precision: str,
    engines: Path | None,
    json: Path | None,
    is_quick: bool,
) -> None:
    """Measure and print as it goes.

    Raises:
        ConfigError: there is no GPU, or an option is wrong.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision} is unknown", hint=f"one of {', '.join(PRECISIONS)}")
    standin.install(standin.Folders())
    options = Options(
        tuple(only),
        tuple(rows),
        tuple(backends),
        is_everything,
        budget_s,
        QUICK if is_quick else Amounts(),
        precision=precision,
        engines=engines,
    )
    console = Console()
    run_bench(options, lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True), json)
