"""The configuration of existing StreamDiffusion node sets: a dictionary, or a YAML file with the same keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from comfystream.errors import ConfigError

from .core import parse_steps

__all__ = ["DEFAULTS", "config_of", "read_config_file"]

DEFAULTS: dict[str, Any] = {
    "model_id": "",
    "t_index_list": [20, 35, 45],
    "width": 512,
    "height": 512,
    "device": "auto",
    "dtype": "auto",
    "prompt": "",
    "negative_prompt": "",
    "guidance_scale": 1.1,
    "num_inference_steps": 50,
    "seed": 2,
    "lora_dict": {},
    "frame_buffer_size": 1,
    "delta": 0.7,
    "use_denoising_batch": True,
    "do_add_noise": True,
    "use_lcm_lora": False,
    "use_tiny_vae": False,
    "acceleration": "none",
    "cfg_type": "self",
    "warmup": 0,
    "controlnets": [],
    "ipadapters": [],
    "enable_similar_image_filter": False,
    "similar_image_filter_threshold": 0.98,
    "similar_image_filter_max_skip_frame": 10,
}
# Keys that existing files have and that mean nothing here, or are derived from others.
ACCEPTED = {
    "engine_dir",
    "safety_checker",
    "use_safety_checker",
    "use_taesd",
    "use_controlnet",
    "use_ipadapter",
    "prompt_blending",
    "seed_blending",
    "normalize_prompt_weights",
    "normalize_seed_weights",
    "output_type",
    "mode",
    "model_type",
    "compile_engines_only",
    "lcm_lora_id",
    "vae_id",
    "pipeline_type",
    "height_width",
    "use_cuda_graph",
    "build_engines_if_missing",
}


def config_of(given: Mapping[str, Any], where: str = "config") -> dict[str, Any]:
    """A whole configuration out of a partial one.

    Args:
        given: keys of the existing YAML files.
        where: for messages: the file.

    Raises:
        ConfigError: an unknown key, a bad list of steps, sizes or LoRAs.
    """
    unknown = sorted(set(given) - set(DEFAULTS) - ACCEPTED)
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}", hint=f"known ones: {', '.join(sorted(DEFAULTS))}")
    config = {**DEFAULTS, **given}
    config["t_index_list"] = list(parse_steps(config["t_index_list"]))
    config["lora_dict"] = _loras(config["lora_dict"], where)
    for side in ("width", "height"):
        if not isinstance(config[side], int) or not 64 <= config[side] <= 2048 or config[side] % 8:
            raise ConfigError(f"{where}: {side} is {config[side]!r}", hint="a multiple of 8 from 64 to 2048")
    if given.get("use_controlnet") is False:
        config["controlnets"] = []
    if given.get("use_ipadapter") is False:
        config["ipadapters"] = []
    config["use_tiny_vae"] = bool(config["use_tiny_vae"] or given.get("use_taesd", False))
    return config


def _loras(given: Any, where: str) -> dict[str, float]:
    try:
        table = json.loads(given) if isinstance(given, str) and given.strip() else given or {}
        return {str(name): float(weight) for name, weight in table.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{where}: the LoRAs {given!r} are no table of names and weights", hint='such as {"style.safetensors": 0.8}'
        ) from error


def read_config_file(path: str | Path) -> dict[str, Any]:
    """A YAML file of the existing sets.

    Raises:
        ConfigError: no such file, no YAML, or a wrong key.
    """
    file = Path(path)
    try:
        loaded = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"configuration {file} does not exist") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {file} is no YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"configuration {file} is no table of keys")
    return config_of(loaded, file.name)
