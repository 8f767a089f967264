"""`build_targets.yaml`: engines to build before they are needed. Our own form, and that of the first generation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from comfystream.errors import ConfigError

from .model_specs import Ranges

__all__ = ["BuildTarget", "load_targets"]

Size = int | tuple[int, int, int]
Kind = Literal["unet", "controlnet", "vae_encoder", "vae_decoder", "taesd", "depth", "upscaler", "onnx"]


class BuildTarget(BaseModel):
    """One engine. Paths are relative to the workspace; ranges are [smallest, best, largest].

    `output` is a further place for the engine, under the name that workflows use; `names: comfyui` gives a UNet the
    input names that ComfyUI's TensorRT nodes expect, and `controlnet` one that takes the residuals of ControlNets.
    `side` is for depth models, which look at a square; `scale` for an upscaler whose file does not say it. `shapes` is
    for ONNX files: of inputs that leave theirs open.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    kind: Kind
    model: str = Field(min_length=1)
    config: str = ""
    subfolder: str = ""
    backend: str = "auto"
    precision: Literal["fp32", "fp16", "bf16"] = "fp16"
    batch: Size = 1
    height: Size = 512
    width: Size = 512
    tokens: Size = 77
    step: int = Field(64, ge=8)
    level: int = Field(3, ge=0, le=5)
    names: Literal["ours", "comfyui"] = "ours"
    controlnet: bool = False
    side: int = Field(518, ge=14)
    scale: int = Field(0, ge=0, le=4)
    shapes: dict[str, tuple[int, ...]] = {}
    output: str = ""

    @model_validator(mode="after")
    def _fits(self) -> BuildTarget:
        for name in ("batch", "height", "width", "tokens"):
            value = getattr(self, name)
            low, best, high = (value,) * 3 if isinstance(value, int) else value
            if not 1 <= low <= best <= high:
                raise ValueError(f"{name}: {value} is no range; write [smallest, best, largest]")
            if name in ("height", "width") and any(size % 8 for size in (low, best, high)):
                raise ValueError(f"{name}: {value} has to be a multiple of 8")
        return self

    @property
    def ranges(self) -> Ranges:
        """Its rows and sizes."""
        return Ranges(self.batch, self.height, self.width, self.tokens, self.step)


class _Streaming(BaseModel):
    """The first generation's form: pipeline files of the StreamDiffusion nodes, in a folder."""

    model_config = ConfigDict(extra="forbid")

    script: str = ""
    configs: list[str]
    folder: str = ""


class _Control(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model_id: str
    enabled: bool = True


class _Pipeline(BaseModel):
    """What of a StreamDiffusion pipeline file decides about its engines."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model_id: str
    width: int = 512
    height: int = 512
    dtype: Literal["float16", "float32", "bfloat16"] = "float16"
    t_index_list: list[int] = Field(min_length=1)
    frame_buffer_size: int = 1
    use_denoising_batch: bool = True
    cfg_type: Literal["none", "self", "initialize", "full"] = "self"
    guidance_scale: float = 1.0
    acceleration: str = "tensorrt"
    use_tiny_vae: bool = True
    use_lcm_lora: bool = False
    lora_dict: dict[str, float] | None = None
    use_controlnet: bool = False
    controlnets: list[_Control] = []
    use_ipadapter: bool = False

    @property
    def rows(self) -> int:
        """How many rows the UNet is called with."""
        steps = len(self.t_index_list)
        if self.guidance_scale > 1 and self.cfg_type == "initialize":
            steps += 1
        elif self.guidance_scale > 1 and self.cfg_type == "full":
            steps *= 2
        return steps * self.frame_buffer_size


def load_targets(path: Path, workspace: Path) -> list[BuildTarget]:
    """All targets of a file.

    Args:
        path: YAML: `targets: {ID: {kind, model, ...}}`, `streamdiffusion: {script, configs, folder}`, or both.
        workspace: what paths in it are relative to.

    Raises:
        ConfigError: it cannot be read or used; the message names the target and the key.
    """
    document = _read(path)
    targets = document.pop("targets", None) or {}
    if not isinstance(targets, dict):
        raise ConfigError(f"{path}: targets: has to be names with keys below them", code="bad_targets")
    found = [_target(path, str(id), body) for id, body in targets.items()]
    for id, body in document.items():
        found += _from_pipelines(path, str(id), body, workspace)
    return found


def _target(path: Path, id: str, body: object) -> BuildTarget:
    if not isinstance(body, dict):
        raise ConfigError(f"{path}: {id}: has to be keys with values", code="bad_targets")
    try:
        return BuildTarget.model_validate({**body, "id": id})
    except ValidationError as error:
        raise _told(f"{path}: {id}", error) from None


def _from_pipelines(path: Path, id: str, body: object, workspace: Path) -> list[BuildTarget]:
    try:
        streaming = _Streaming.model_validate(body)
    except ValidationError as error:
        raise _told(f"{path}: {id}", error) from None
    found = []
    for name in streaming.configs:
        places = (workspace / streaming.folder / name, path.parent / name)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise ConfigError(f"{path}: {id}: there is no {name} in {places[0].parent}", code="no_pipeline")
        try:
            pipeline = _Pipeline.model_validate(_read(file))
        except ValidationError as error:
            raise _told(str(file), error) from None
        found += _of_pipeline(f"{id}-{file.stem}", pipeline, file)
    return found


def _of_pipeline(id: str, pipeline: _Pipeline, file: Path) -> list[BuildTarget]:
    """The engines of one pipeline file.

    What depends on more than the file (weights with LoRAs merged, adapters) is built by the session that uses it.
    """
    merged = [
        name
        for name, is_on in (
            ("LoRAs", bool(pipeline.lora_dict) or pipeline.use_lcm_lora),
            ("an IP-Adapter", pipeline.use_ipadapter),
        )
        if is_on
    ]
    if merged:
        raise ConfigError(
            f"{file}: a UNet with {' and '.join(merged)} cannot be built ahead of time",
            code="bad_targets",
            hint="leave them out of this file; the session that uses them builds its engine and keeps it",
        )
    precision = {"float16": "fp16", "float32": "fp32", "bfloat16": "bf16"}[pipeline.dtype]
    shared: dict[str, Any] = {
        "precision": precision,
        "height": pipeline.height,
        "width": pipeline.width,
        "backend": "tensorrt" if pipeline.acceleration == "tensorrt" else "auto",
    }
    made = [("unet", pipeline.model_id, "unet", pipeline.rows)]
    if not pipeline.use_tiny_vae:
        made += [(kind, pipeline.model_id, "vae", 1) for kind in ("vae_encoder", "vae_decoder")]
    if pipeline.use_controlnet:
        rows = len(pipeline.t_index_list) * pipeline.frame_buffer_size
        made += [("controlnet", one.model_id, "", rows) for one in pipeline.controlnets if one.enabled]
    return [
        BuildTarget.model_validate(
            {
                "id": f"{id}-{number}-{kind}",
                "kind": kind,
                "model": model,
                "subfolder": subfolder,
                "batch": rows,
                **shared,
            }
        )
        for number, (kind, model, subfolder, rows) in enumerate(made, 1)
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", code="no_targets") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}", code="bad_targets") from None
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path}: has to be names with keys below them", code="bad_targets")
    return dict(document)


def _told(place: str, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return ConfigError(f"{place}: {key + ': ' if key else ''}{first['msg']}", code="bad_targets")
