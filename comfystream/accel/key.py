"""What an engine depends on, as one digest. An engine is used again only when all of it is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfystream.errors import AssetError

from .backend import BuildOptions, Capability
from .machine import Machine, version_of
from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["EngineKey", "Lora", "digest_of_file", "digest_of_module"]

FORMAT = 2  # of what a backend writes into an engine's folder; a new number makes all engines be built again
EXPORTERS = ("onnx", "onnxscript")
CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that was merged into the weights.

    The digest is of its file; empty where only the merged weights are known, whose digest is in the key anyway.
    """

    name: str
    digest: str
    scale: float


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that makes two engines different.

    Args:
        backend: name and version of what builds and runs it.
        machine: GPU, compute capability, driver, system, torch.
        spec: inputs with their ranges, outputs, precision.
        options: how it is built.
        graph: digest of the module's structure, or of an ONNX file.
        weights: digest of the weights as they are exported, LoRAs merged.
        loras: for people, and because a scale of 0.7 and one of 0.70001 are the same weights to no builder.
    """

    backend: str
    version: str
    machine: Machine
    spec: ModelSpec
    options: BuildOptions
    graph: str
    weights: str
    loras: tuple[Lora, ...] = ()

    @classmethod
    def of(
        cls,
        capability: Capability,
        machine: Machine,
        spec: ModelSpec,
        options: BuildOptions,
        digests: tuple[str, str],
        loras: Sequence[Lora] = (),
    ) -> EngineKey:
        """From what a backend says of itself, and the digests of graph and weights."""
        return cls(capability.backend, capability.version, machine, spec, options, *digests, tuple(loras))

    def to_json(self) -> dict[str, Any]:
        """Canonical: equal keys give equal documents."""
        return {
            "format": FORMAT,
            "backend": self.backend,
            "version": self.version,
            "machine": self.machine.to_json(),
            "exporters": {name: version_of(name) for name in EXPORTERS},
            "spec": self.spec.to_json(),
            "options": self.options.to_json(),
            "graph": self.graph,
            "weights": self.weights,
            "loras": [[one.name, one.digest, one.scale] for one in self.loras],
        }

    @property
    def digest(self) -> str:
        """SHA-256 of it all, in hexadecimal."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        AssetError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise AssetError(f"{path}: {error.strerror}", code="no_file") from error
    return digest.hexdigest()


def digest_of_module(module: nn.Module) -> tuple[str, str]:
    """Digests of a module's structure and of its weights, as `EngineKey` takes them.

    The structure is what the module prints, with its configuration if it keeps one: two models of the same layers that
    are put together differently have classes of different names.
    """
    import torch

    kind = type(module)
    config = json.dumps(getattr(module, "config", None) or {}, sort_keys=True, default=str)
    structure = hashlib.sha256(f"{kind.__module__}.{kind.__qualname__}\n{config}\n{module}".encode())
    weights = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        weights.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        weights.update(memoryview(flat.numpy()))
    return structure.hexdigest(), weights.hexdigest()
