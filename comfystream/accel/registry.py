"""The backends, and choosing one: what is asked for, or the best that works here, never another one in silence."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from comfystream.errors import EngineError

from .backend import Backend, Capability
from .eager import EagerBackend
from .graphed import CudaGraphBackend
from .inductor import InductorBackend
from .machine import machine
from .nvidia import tensorrt, tensorrt_rtx
from .onnx_runtime import OnnxRuntimeBackend

__all__ = ["BEST_FIRST", "Choice", "backends", "choose", "probe_all"]

log = logging.getLogger(__name__)

BEST_FIRST = ("tensorrt", "tensorrt-rtx", "inductor", "cuda-graph", "eager")
"""What `auto` tries on a GPU. Without one it takes eager: on a CPU, models are tried out."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, and why it is this one."""

    backend: Backend
    capability: Capability
    reason: str


def backends() -> dict[str, Backend]:
    """All of them by name."""
    made = (
        EagerBackend(),
        CudaGraphBackend(),
        InductorBackend(),
        tensorrt(),
        tensorrt_rtx(),
        OnnxRuntimeBackend(),
    )
    return {one.name: one for one in made}


def probe_all(known: Mapping[str, Backend] | None = None) -> list[Capability]:
    """What each can do here."""
    return [one.probe() for one in (known or backends()).values()]


def choose(
    name: str = "auto",
    *,
    to_build: bool = False,
    has_gpu: bool | None = None,
    known: Mapping[str, Backend] | None = None,
) -> Choice:
    """The backend of a name.

    Args:
        name: of a backend, or "auto".
        to_build: it only has to make engines here, not to run them.
        has_gpu: whether there is a GPU; looked up by default.
        known: backends to choose from; all by default.

    Raises:
        EngineError: there is none of this name, or it does not work here; the reason is in the message.
    """
    known = known or backends()
    if name == "auto":
        return _best(known, machine().gpu != "" if has_gpu is None else has_gpu)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are: auto, {', '.join(known)}"
        raise EngineError(f'there is no backend "{name}"', code="unknown_backend", hint=hint)
    capability = known[name].probe()
    if not (capability.can_build if to_build else capability.can_run):
        raise EngineError(
            f"the backend {name} does not work here: {capability.reason}", code="backend_missing", hint=capability.hint
        )
    return Choice(known[name], capability, f"{name}: asked for")


def _best(known: Mapping[str, Backend], has_gpu: bool) -> Choice:
    passed: list[str] = []
    for name in BEST_FIRST if has_gpu else ("eager",):
        if name not in known:
            continue
        capability = known[name].probe()
        if capability.can_run and (capability.can_build or not known[name].plan_name):
            why = "" if has_gpu else f" ({machine().why_no_gpu or 'no GPU'})"
            reason = "; ".join([f"auto chose {name}{why}", *passed])
            log.info("%s", reason)
            return Choice(known[name], capability, reason)
        passed.append(f"not {name}: {capability.reason}")
    raise EngineError("; ".join(["no backend works here", *passed]), code="backend_missing")
