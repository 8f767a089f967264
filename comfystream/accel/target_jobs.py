"""From a target of `build_targets.yaml` to the job that builds it: the model is loaded, its key computed."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from comfystream.errors import AssetError, ComfyStreamError, EngineError
from comfystream.gpu_turns import device_wide

from .backend import BuildOptions, Step
from .build import EngineJob, job_of_module
from .file_names import COMFYUI_NAMES
from .key import EngineKey, digest_of_file, digest_of_module
from .machine import machine
from .registry import Choice, choose
from .targets import BuildTarget

__all__ = ["PreparedTarget", "job_of_target", "place_engine", "put_output"]


@dataclass(frozen=True, slots=True)
class PreparedTarget:
    """A target whose model is loaded."""

    target: BuildTarget
    choice: Choice
    job: EngineJob


def job_of_target(target: BuildTarget, workspace: Path, backend: str = "") -> PreparedTarget:
    """Load the model of a target.

    Args:
        target: what to build.
        workspace: where its files are.
        backend: takes the place of the target's own.

    Raises:
        AssetError: the model is missing or broken.
        EngineError: the backend does not work here, makes no engines, or cannot do this.
    """
    choice = choose(backend or target.backend, to_build=True)
    if not choice.backend.plan_name:
        raise EngineError(
            f"{target.id}: {choice.reason}, and {choice.backend.name} has no engines",
            code="no_engines",
            hint="name a backend that has: tensorrt, tensorrt-rtx, inductor",
        )
    options = BuildOptions(level=target.level)
    if target.kind == "onnx":
        return _onnx_job(target, workspace, choice, options)
    from .target_models import load_model

    module, spec = load_model(target, workspace)
    if target.names == "comfyui":
        spec = spec.renamed(COMFYUI_NAMES)
    key = EngineKey.of(choice.capability, machine(), spec, options, digest_of_module(module))
    job = job_of_module(choice, module, key, machine().device, label=target.id)
    return PreparedTarget(target, choice, job)


def _onnx_job(target: BuildTarget, workspace: Path, choice: Choice, options: BuildOptions) -> PreparedTarget:
    if not choice.backend.source_name:
        raise EngineError(f"{target.id}: {choice.backend.name} does not read ONNX", code="bad_backend")
    from .onnx_files import data_files, spec_of_graph, to_half

    path = workspace / target.model
    spec = spec_of_graph(path, target.id, target.shapes, target.precision)
    data = "".join(digest_of_file(one) for one in data_files(path))
    key = EngineKey.of(choice.capability, machine(), spec, options, (digest_of_file(path), data))

    def make(folder: Path, on_step: Step) -> Path:
        exported = folder / "exported"
        exported.mkdir()
        source = path
        if target.precision == "fp16":
            on_step("converting to half precision", 0.0)
            source = to_half(path, exported / "graph.onnx")
        with device_wide():
            plan = choice.backend.build(source, spec, folder, options, on_step)
        shutil.rmtree(exported)
        return plan

    return PreparedTarget(target, choice, EngineJob(target.id, key, make))


def put_output(target: BuildTarget, plan: Path, workspace: Path) -> Path | None:
    """Put an engine where workflows look for it, whole or not at all; None when the target names no place.

    Raises:
        AssetError: it cannot be written there.
    """
    if not target.output:
        return None
    return place_engine(plan, workspace / target.output)


def place_engine(plan: Path, output: Path) -> Path:
    """Copy an engine to another name, whole or not at all.

    Raises:
        AssetError: it cannot be written there.
    """
    part = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(plan, part)
        os.replace(part, output)
    except OSError as error:
        part.unlink(missing_ok=True)
        if isinstance(error, ComfyStreamError):
            raise
        raise AssetError(f"{output}: {error.strerror}", code="engine_folder") from error
    return output
