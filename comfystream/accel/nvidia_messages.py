"""What TensorRT tells while it works: its messages, and how far a build is."""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any

from .backend import Step

__all__ = ["logger_of", "monitor_of"]

log = logging.getLogger(__name__)


@functools.cache
def logger_of(trt: Any) -> Any:
    """The logger of the process: TensorRT keeps the first one for all that comes later, and it has to outlive that.

    Its `last` is what this thread heard last: the reason when something comes back as None.
    """
    heard = threading.local()

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        @property
        def last(self) -> str:
            return str(getattr(heard, "last", ""))

        def forget(self) -> None:
            heard.last = ""

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                heard.last = " ".join(text.split())[:300]
            log.debug("%s", text)

    return Logger()


def monitor_of(trt: Any, on_step: Step) -> Any:
    """The builder tells phases within phases; the share of the outermost one is what people want to know.

    What `on_step` raises ends the build, but must not go through the builder, which is C++: it is kept for the caller.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outer = ""
            self.steps = 1
            self.share = 0.0
            self.stopped_by: BaseException | None = None

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if not parent:
                self.outer, self.steps = phase, max(1, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            if phase == self.outer:
                self.share = min(1.0, (step + 1) / self.steps)
            try:
                on_step("building", self.share)
            except BaseException as error:  # noqa: BLE001 - raised again by who started the build
                self.stopped_by = error
            return self.stopped_by is None

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()
