"""Networks of a model made ready by its backend: found on the shelf, or wrapped, or built as engines with progress."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from comfystream.accel.accelerate import device_of, job_for
from comfystream.accel.build import BuildProgress, build_all
from comfystream.accel.key import Lora
from comfystream.accel.runner import Runner, memory_trouble, torch_dtype
from comfystream.accel.spec import PRECISIONS
from comfystream.node_progress import report

from .acceleration import Acceleration
from .layout import Layout, Network, Role
from .model import StreamModel

__all__ = ["made_ready"]

log = logging.getLogger(__name__)


def made_ready(model: StreamModel, layout: Layout) -> dict[Role, tuple[Runner, Network]]:
    """The networks of a layout with their runners; streams take twins of them.

    What is not there yet is made, which may take minutes: call it outside of the frame loop.

    Raises:
        ConfigError: more rows than the model was accelerated for.
        EngineError: an engine cannot be built, is refused, or the device is full.
        AssetError: the folder of engines cannot be used.
    """
    acceleration = model.acceleration
    assert acceleration is not None
    with model.shelf.making:
        networks = layout.networks(model, acceleration)
        missing = [one for one in networks if one.shelf.get(one.key) is None]
        if missing:
            log.info("making %s ready: %s", ", ".join(one.label for one in missing), acceleration.choice.reason)
            with memory_trouble(model.name):
                _make(missing, acceleration, model.loras)
        model.shelf.most_rows = acceleration.rows_up_to(max(layout.rows), model.shelf.most_rows)
    return {one.role: (_kept(one), one) for one in networks}


def _kept(network: Network) -> Runner:
    found = network.shelf.get(network.key)
    assert found is not None
    return found


# Weights that were loaded in inference mode cannot be traced in it.
@torch.inference_mode(False)
@torch.no_grad()
def _make(networks: Sequence[Network], acceleration: Acceleration, loras: Sequence[tuple[str, float]]) -> None:
    """All engines in one row, so that progress counts them together."""
    choice, how = acceleration.choice, acceleration.how
    merged = [Lora(name, "", scale) for name, scale in loras]
    modules = [_in_precision(one.module(), one.spec.precision) for one in networks]
    pairs = list(zip(networks, modules, strict=True))
    jobs = [job_for(choice, module, one.spec, how, merged, one.label) for one, module in pairs]
    plans = [entry.plan for entry in build_all([job for job in jobs if job is not None], how.cache, _tell)]
    device = device_of(choice, how)
    for one, module in pairs:
        if plans:
            report(f"loading the engine of {one.label} ({acceleration.backend})")
            runner = choice.backend.load(plans.pop(0), one.spec, device)
        else:
            runner = choice.backend.wrap(module, one.spec, device)
        one.shelf.put(one.key, runner)


def _tell(progress: BuildProgress) -> None:
    report(str(progress), progress.number - 1 + progress.share, progress.total)


def _in_precision(module: nn.Module, precision: str) -> Any:
    """The module itself where it has that precision, else a copy that has."""
    wanted = torch_dtype(PRECISIONS[precision])
    if all(one.dtype == wanted for one in module.parameters()):
        return module
    return copy.deepcopy(module).to(wanted)
