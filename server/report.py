"""The `--report` document: all figures of a run as JSON."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from comfystream.errors import ConfigError
from comfystream.session.options import FileJobOptions
from comfystream.session.result import FileResult
from comfystream.session.stages import node_share
from comfystream.workflow.model import Workflow

from .machine import machine, versions

__all__ = ["report_of", "write_report"]


def report_of(workflow: Workflow, options: FileJobOptions, result: FileResult) -> dict[str, Any]:
    """Versions, machine, settings, what came out and where the time went."""
    return {
        "versions": versions(),
        "machine": machine(),
        "workflow": workflow.source,
        "settings": {name: _plain(value) for name, value in dataclasses.asdict(options).items()},
        "result": {
            "file": _plain(result.target),
            "texts": [str(text) for text in result.texts],
            "width": result.width,
            "height": result.height,
            "frames": result.frames,
            "sound": result.sound,
            "duration_s": result.duration_s,
            "size_bytes": result.size_bytes,
            "interrupted": result.interrupted,
            "broken": result.broken,
        },
        "prepare_s": result.prepare_s,
        "run_s": result.run_s,
        "fps": result.fps,
        "stages": [{**dataclasses.asdict(stage), "mean_ms": stage.mean_ms} for stage in result.stages],
        "nodes": [{**dataclasses.asdict(node), "share": node_share(node, result.nodes)} for node in result.nodes],
        "dropped": dict(result.dropped),
        "failed": result.failed,
    }


def _plain(value: Any) -> Any:
    match value:
        case Path():
            return str(value)
        case Fraction():
            return float(value)
        case tuple():
            return list(value)
        case _:
            return value


def write_report(file: Path, workflow: Workflow, options: FileJobOptions, result: FileResult) -> None:
    """Write the document.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        file.write_text(json.dumps(report_of(workflow, options, result), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: the report cannot be written: {error.strerror or error}") from error
