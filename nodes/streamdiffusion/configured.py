"""A stream made from the configuration of existing node sets; each frame may override parts of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from comfystream.accel.placement import bring
from comfystream.errors import AssetError, ConfigError

from .acceleration import accelerated
from .control import Control, ControlModel, load_control
from .core import parse_steps
from .loader_nodes import add_image_prompt, style_of
from .loading.entry import device_of, dtype_of, find, load_model, placed
from .lora import with_lora
from .model import StreamModel
from .preprocess import draw
from .settings import Similarity, StreamSettings, Style
from .stream import Stream
from .text import Embedding, blend_embeddings

__all__ = ["ConfiguredStream"]

TAESD = {"sd15": "taesd", "sd21": "taesd", "sdxl": "taesdxl"}
LCM_LORA = {"sd15": "lcm-lora-sdv1-5", "sd21": "lcm-lora-sdv2-1", "sdxl": "lcm-lora-sdxl"}


class ConfiguredStream:
    """What the MODEL socket of the existing sets carries.

    Args:
        config: as `config.config_of` gives it.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self.base = self._load()
        self.model = accelerated(self.base, config["acceleration"])
        self._controls: dict[str, ControlModel] = {}
        self._styles: dict[tuple[Any, ...], Style] = {}
        for entry in config["controlnets"]:
            self._control(entry["model_id"])

    def _load(self) -> StreamModel:
        config = self.config
        model = load_model(config["model_id"])
        if config["use_tiny_vae"] and type(model.autoencoder.module).__name__ != "AutoencoderTiny":
            model = load_model(config["model_id"], TAESD[model.family])
        place = device_of("auto" if config["device"] == "cuda" and not torch.cuda.is_available() else config["device"])
        is_cpu = place.type == "cpu"
        model = placed(model, place, dtype_of("auto" if is_cpu else config["dtype"], place))
        if config["use_lcm_lora"] and "turbo" not in model.name.lower():
            model = with_lora(model, _weight_file(LCM_LORA[model.family]), 1.0)
        for name, strength in config["lora_dict"].items():
            model = with_lora(model, find(name, "loras"), strength)
        for entry in config["ipadapters"][:1]:
            model = add_image_prompt(model, entry["ipadapter_model_path"], entry["image_encoder_path"])
        return model

    def _control(self, name: str) -> ControlModel:
        found = self._controls.get(name)
        if found is None:
            found = load_control(find(name, "controlnet"))
            found.check(self.model.family, self.model.unet)
            bring(found.module, self.model.device, self.model.dtype)
            self._controls[name] = found
        return found

    def stream(self, changes: Mapping[str, Any]) -> Stream:
        """A stream of its own, with the settings of a first frame."""
        return Stream(self.model, self.settings(changes))

    def settings(self, changes: Mapping[str, Any]) -> StreamSettings:
        """Configuration and what a frame overrides, as one value.

        Raises:
            ConfigError: a value that cannot be used.
            AssetError: a ControlNet or a style picture that is not there.
        """
        config, asked = self.config, {**self.config, **changes}
        negative = self.model.prompts.encode(asked["negative_prompt"])
        is_sieved = config["enable_similar_image_filter"]
        threshold, most = (config[f"similar_image_filter_{name}"] for name in ("threshold", "max_skip_frame"))
        seeds = asked.get("seed_blending", {}).get("seed_list") or [[asked["seed"], 1.0]]
        return StreamSettings(
            prompt=self._prompt(asked, "prompt" in changes),
            negative=negative,
            steps=parse_steps(asked["t_index_list"]),
            schedule=self.model.schedule_of(asked["num_inference_steps"]),
            guidance=self.model.guidance(config["cfg_type"], asked["guidance_scale"], asked["delta"]),
            seeds=tuple((int(seed), float(weight)) for seed, weight in seeds),
            seed_method=asked.get("seed_blending", {}).get("interpolation_method", "linear"),
            has_normalised_seeds=asked.get("normalize_seed_weights", True),
            frames=config["frame_buffer_size"],
            adds_noise=config["do_add_noise"],
            is_batched=config["use_denoising_batch"],
            similarity=Similarity(threshold, most) if is_sieved else None,
            controls=self._used_controls(changes),
            style=self._style(changes),
            size=(config["width"], config["height"]),
        ).checked()

    def _prompt(self, asked: Mapping[str, Any], is_overridden: bool) -> Embedding:
        blending = asked.get("prompt_blending")
        if not blending or is_overridden:
            return self.model.prompts.encode(asked["prompt"])
        pairs = blending["prompt_list"]
        encoded = [self.model.prompts.encode(str(text)) for text, _ in pairs]
        weights = [float(weight) for _, weight in pairs]
        method = blending.get("interpolation_method", "slerp")
        key = ("prompt", *map(id, encoded), *weights, method)
        if key != getattr(self, "_blend_key", None):
            normal = asked.get("normalize_prompt_weights", True)
            self._blend_key, self._blended = key, blend_embeddings(encoded, weights, method, normal)
        return self._blended

    def _used_controls(self, changes: Mapping[str, Any]) -> tuple[Control, ...]:
        entries = [dict(entry) for entry in self.config["controlnets"]]
        if entries:
            first = entries[0]
            for ours, theirs in (("model_id", "controlnet_model_id"), ("enabled", "controlnet_enabled")):
                first[ours] = changes.get(theirs, first.get(ours, True))
            for name in ("conditioning_scale", "preprocessor"):
                first[name] = changes.get(name, first.get(name))
            values = {
                name.removeprefix("canny_"): value
                for name, value in changes.items()
                if name.startswith(("canny_", "sharpen_"))
            }
            first["preprocessor_params"] = {**first.get("preprocessor_params", {}), **values}
        return tuple(
            Control(
                self._control(entry["model_id"]),
                float(entry.get("conditioning_scale") or 0.0),
                entry.get("preprocessor") or "passthrough",
                entry.get("preprocessor_params", {}),
            )
            for entry in entries
            if entry.get("enabled", True)
        )

    def _style(self, changes: Mapping[str, Any]) -> Style | None:
        entries = self.config["ipadapters"]
        if not entries or not changes.get("ipadapter_enabled", entries[0].get("enabled", True)):
            return None
        entry = entries[0]
        for ours, theirs in (("ipadapter_model_path",) * 2, ("image_encoder_path",) * 2):
            if changes.get(theirs, entry[ours]) != entry[ours]:
                raise ConfigError(f"{theirs} cannot change while the stream runs", hint="change it in the config node")
        picture = changes.get("style_image_path") or entry["style_image"]
        scale = float(changes.get("ipadapter_scale", entry.get("scale", 1.0)))
        kind = changes.get("ipadapter_weight_type") or entry.get("weight_type") or "linear"
        key = (picture if isinstance(picture, str) else id(picture), scale, kind)
        if key not in self._styles:
            tensor = _picture(picture) if isinstance(picture, str) else picture
            self._styles = {key: style_of(self.model, tensor, scale, kind)}
        return self._styles[key]

    def prepared(self, image: Tensor, text: str, changes: Mapping[str, Any]) -> Tensor:
        """A picture before or after the stream, through the processors that a frame names.

        Args:
            image: [frames, height, width, 3] of 0..1.
            text: JSON or a comma list of names; empty for none.
            changes: parameters of the processors.
        """
        for name in _names(text):
            image = draw(name, image.movedim(-1, 1), changes).movedim(1, -1)
        return image


def _names(text: str) -> list[str]:
    stripped = text.strip()
    if not stripped.startswith(("[", "{")):
        return [name.strip() for name in stripped.split(",") if name.strip()]
    try:
        loaded = json.loads(stripped)
        listed = loaded.get("processors", []) if isinstance(loaded, dict) else loaded
        return [item if isinstance(item, str) else item.get("type", item.get("name")) for item in listed]
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{text!r} is no list of processors", hint='such as "sharpen" or ["sharpen"]') from error


def _weight_file(name: str) -> Any:
    """A weight file below the LoRA folders, or a folder of that name."""
    if "." in name:
        return find(name, "loras")
    try:
        return find(f"{name}.safetensors", "loras")
    except AssetError:
        return find(name, "loras")


def _picture(path: str) -> Tensor:
    try:
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB"), np.float32) / 255
    except OSError as error:
        raise AssetError(f"style picture {path} cannot be read: {error}") from error
    return torch.from_numpy(pixels)[None]
