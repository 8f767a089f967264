"""Progress bars of nodes, which end in one hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

PROGRESS_BAR_ENABLED = True
_hook: Callable[..., Any] | None = None


def set_progress_bar_enabled(enabled: bool) -> None:
    """Kept for packs; progress is text to nobody here."""
    global PROGRESS_BAR_ENABLED
    PROGRESS_BAR_ENABLED = enabled


def set_progress_bar_global_hook(function: Callable[..., Any] | None) -> None:
    """Who hears of progress: called as `hook(value, total, preview, node_id=...)`. Bars made before keep theirs."""
    global _hook
    _hook = function


class ProgressBar:
    """Counts the steps of a node.

    Args:
        total: steps to come.
        node_id: whose progress it is; None means the running node.
    """

    def __init__(self, total: float, node_id: str | None = None) -> None:
        self.total = total
        self.current: float = 0
        self.hook = _hook
        self.node_id = node_id

    def update_absolute(self, value: float, total: float | None = None, preview: Any = None) -> None:
        """Say where it stands."""
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        if self.hook is not None:
            self.hook(self.current, self.total, preview, node_id=self.node_id)

    def update(self, value: float) -> None:
        """Go on by `value` steps."""
        self.update_absolute(self.current + value)


def model_trange(*args: int, **kwargs: Any) -> Iterator[int]:
    """As `range`, for loops that show a bar elsewhere."""
    return iter(range(*args))
