"""The nodes of existing StreamDiffusion sets: their class keys, inputs and sockets are in saved workflows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from comfystream.errors import ConfigError

from .config import config_of, read_config_file
from .configured import ConfiguredStream
from .core import check_steps, parse_steps
from .handover import Handover
from .stream import Stream

__all__ = ["NODES"]

Inputs = dict[str, Any]


def _text(default: str = "", is_long: bool = False) -> tuple[str, Inputs]:
    return ("STRING", {"default": default, "multiline": is_long})


def _whole(default: int, low: int, high: int) -> tuple[str, Inputs]:
    return ("INT", {"default": default, "min": low, "max": high})


def _real(default: float, low: float, high: float) -> tuple[str, Inputs]:
    return ("FLOAT", {"default": default, "min": low, "max": high, "step": 0.01})


def _flag(default: bool) -> tuple[str, Inputs]:
    return ("BOOLEAN", {"default": default})


CONFIG_INPUTS: Inputs = {
    "model_id": _text("Lykon/dreamshaper-8"),
    "controlnet_model_id": _text("lllyasviel/control_v11p_sd15_canny"),
    "conditioning_scale": _real(0.29, 0.0, 2.0),
    "preprocessor": _text("canny"),
    "low_threshold": _whole(100, 0, 255),
    "high_threshold": _whole(200, 0, 255),
    "height": _whole(512, 64, 2048),
    "width": _whole(512, 64, 2048),
    "t_index_list": _text("20,35,45"),
    "frame_buffer_size": _whole(1, 1, 16),
    "warmup": _whole(10, 0, 100),
    "acceleration": _text("tensorrt"),
    "use_denoising_batch": _flag(True),
    "do_add_noise": _flag(True),
    "enable_similar_image_filter": _flag(False),
    "similar_image_filter_threshold": _real(0.98, 0.0, 1.0),
    "similar_image_filter_max_skip_frame": _whole(10, 0, 100),
    "use_safety_checker": _flag(False),
    "seed": _whole(2, 0, 0xFFFF_FFFF),
    "num_inference_steps": _whole(50, 1, 100),
    "use_lcm_lora": _flag(True),
    "lora_dict_str": _text(is_long=True),
    "prompt": _text(is_long=True),
    "negative_prompt": _text("blurry, low quality, distorted, 3d render"),
    "guidance_scale": _real(1.1, 0.1, 20.0),
    "ipadapter_model_path": _text(),
    "image_encoder_path": _text(),
    "style_image": ("IMAGE",),
    "ipadapter_scale": _real(0.7, 0.0, 2.0),
    "ipadapter_enabled": _flag(False),
    "use_controlnet": _flag(True),
    "num_image_tokens": _whole(4, 1, 256),
    "engine_dir": _text("engines"),
    "device": _text("cuda"),
    "dtype": _text("float16"),
    "use_tiny_vae": _flag(True),
    "cfg_type": _text("self"),
    "delta": _real(0.7, 0.0, 3.0),
    "compile_engines_only": _flag(False),
}
CONTROL_KEYS = ("low_threshold", "high_threshold")
ADAPTER_KEYS = ("ipadapter_model_path", "image_encoder_path", "style_image", "num_image_tokens")


class ControlNetTRTConfig:
    """One form with everything; gives a configuration."""

    CATEGORY, FUNCTION, RETURN_TYPES = "ControlNet+IPAdapter", "build_config", ("MULTICONTROL_CONFIG",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": dict(CONFIG_INPUTS)}

    @classmethod
    def VALIDATE_INPUTS(cls, t_index_list: str, lora_dict_str: str) -> bool | str:
        given = {"t_index_list": t_index_list, "lora_dict": lora_dict_str}
        try:
            config_of({name: value for name, value in given.items() if isinstance(value, str)}, "ControlNetTRTConfig")
        except ConfigError as error:
            return str(error)
        return True

    def build_config(self, **inputs: Any) -> tuple[Inputs]:
        control = {
            "model_id": inputs.pop("controlnet_model_id"),
            "conditioning_scale": inputs.pop("conditioning_scale"),
            "preprocessor": inputs.pop("preprocessor"),
            "preprocessor_params": {name: inputs.pop(name) for name in CONTROL_KEYS},
            "enabled": True,
        }
        adapter = {name: inputs.pop(name) for name in ADAPTER_KEYS}
        adapter |= {"scale": inputs.pop("ipadapter_scale"), "enabled": True}
        is_adapted, is_controlled = inputs.pop("ipadapter_enabled"), inputs.pop("use_controlnet")
        inputs["lora_dict"] = inputs.pop("lora_dict_str")
        lists = {"controlnets": [control] * is_controlled, "ipadapters": [adapter] * is_adapted}
        return (config_of({**inputs, **lists, "output_type": "pt"}, "ControlNetTRTConfig"),)


class StreamDiffusionConfigFile:
    """A configuration from a YAML file."""

    CATEGORY, FUNCTION, RETURN_TYPES = "StreamDiffusion", "read", ("MULTICONTROL_CONFIG",)
    DESCRIPTION = "Reads the YAML files of existing StreamDiffusion sets."

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"path": _text()}}

    def read(self, path: str) -> tuple[Inputs]:
        return (read_config_file(path),)


class ControlNetTRTModelLoader:
    """Loads what a configuration names."""

    CATEGORY, FUNCTION, RETURN_TYPES = "ControlNet+TRT", "load_model", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"config": ("MULTICONTROL_CONFIG",)}}

    def load_model(self, config: Inputs) -> tuple[tuple[ConfiguredStream, Inputs, tuple[int, int]]]:
        return ((ConfiguredStream(config), config, (config["height"], config["width"])),)


class ControlNetTRTEngineCreator:
    """Loads what a configuration names, so that its backend builds and keeps its engines."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "ControlNet+TRT", "create_engine", (), True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"config": ("MULTICONTROL_CONFIG",)}}

    def create_engine(self, config: Inputs) -> tuple[()]:
        warm = ConfiguredStream(config).stream({})
        warm.process(torch.full((config["frame_buffer_size"], config["height"], config["width"], 3), 0.5))
        return ()


SAMPLER_INPUTS: Inputs = {
    "prompt": _text(is_long=True),
    "negative_prompt": _text(is_long=True),
    "guidance_scale": _real(1.1, 0.0, 20.0),
    "num_inference_steps": _whole(50, 1, 100),
    "delta": _real(0.7, 0.0, 3.0),
    "t_index_list": _text(),
    "controlnet_model_id": _text(),
    "conditioning_scale": _real(0.29, 0.0, 2.0),
    "controlnet_enabled": _flag(True),
    "preprocessor": _text(),
    "conditioning_channels": _whole(3, 1, 16),
    "weight_type": _text(),
    "image_path": _text(),
    "ipadapter_enabled": _flag(True),
    "ipadapter_scale": _real(0.7, 0.0, 2.0),
    "ipadapter_model_path": _text(),
    "image_encoder_path": _text(),
    "num_image_tokens": _whole(4, 1, 256),
    "style_image_path": _text(),
    "ipadapter_weight_type": _text(),
    "normalize_prompt_weights": _flag(True),
    "normalize_seed_weights": _flag(True),
    "image_preprocessing_config": _text(is_long=True),
    "image_postprocessing_config": _text(is_long=True),
    "latent_preprocessing_config": _text(is_long=True),
    "latent_postprocessing_config": _text(is_long=True),
    "canny_low_threshold": _whole(100, 0, 255),
    "canny_high_threshold": _whole(200, 0, 255),
    "depth_model_name": _text(),
    "depth_detect_resolution": _whole(512, 64, 2048),
    "depth_image_resolution": _whole(512, 64, 2048),
    "hed_safe": _flag(True),
    "lineart_coarse": _flag(False),
    "lineart_anime_style": _flag(False),
    "sharpen_intensity": _real(1.0, 0.0, 5.0),
    "sharpen_unsharp_radius": _real(1.0, 0.1, 10.0),
    "sharpen_edge_enhancement": _real(0.5, 0.0, 2.0),
    "sharpen_detail_boost": _real(0.3, 0.0, 2.0),
    "sharpen_noise_reduction": _real(0.1, 0.0, 1.0),
    "sharpen_multi_scale": _flag(True),
}


class ControlNetTRTStreamingSampler:
    """Frames through a configured model; what a frame sets goes before the configuration."""

    CATEGORY, FUNCTION, RETURN_TYPES = "ControlNet+TRT", "generate", ("IMAGE",)
    BUILDS_ON_FIRST_CALL = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"model": ("MODEL",), "input_image": ("IMAGE",)}, "optional": dict(SAMPLER_INPUTS)}

    @classmethod
    def VALIDATE_INPUTS(cls, t_index_list: Any = None, num_inference_steps: Any = None) -> bool | str:
        if not isinstance(t_index_list, str) or not t_index_list.strip():
            return True
        try:
            steps = parse_steps(t_index_list)
            if isinstance(num_inference_steps, int):
                check_steps(steps, num_inference_steps)
        except ConfigError as error:
            return str(error)
        return True

    def __init__(self) -> None:
        self._handover = Handover()
        self._warmed: Any = None
        self._changes: Inputs = {}

    def __copy__(self) -> ControlNetTRTStreamingSampler:
        """For a rehearsal: a stream of its own."""
        return type(self)()

    def generate(self, model: Any, input_image: Tensor, **inputs: Any) -> tuple[Tensor]:
        configured = model[0] if isinstance(model, tuple) else None
        if not isinstance(configured, ConfiguredStream):
            raise ConfigError("this MODEL does not come from ControlNetTRTModelLoader", hint="connect that node")
        changes = {name: value for name, value in inputs.items() if value is not None and value != ""}
        for name in ("latent_preprocessing_config", "latent_postprocessing_config"):
            if name in changes:
                raise ConfigError(f"{name} is not supported", hint="leave it empty")
        stream = self._handover.to(configured.model, lambda: configured.stream(changes), input_image)
        if stream.model is configured.model:
            if self._warmed is not stream:
                self._warm(configured, stream, input_image)
            elif changes != self._changes:
                stream.settings = configured.settings(changes)
            self._changes = changes
        picture = configured.prepared(input_image, changes.get("image_preprocessing_config", ""), changes)
        made = stream.process(picture)
        return (configured.prepared(made, changes.get("image_postprocessing_config", ""), changes),)

    def _warm(self, configured: ConfiguredStream, stream: Stream, image: Tensor) -> None:
        """The first frame, as often as the configuration says, so that nothing is compiled or tuned in a live frame."""
        self._warmed = stream
        for _ in range(configured.config["warmup"] if configured.model.device.type == "cuda" else 0):
            stream.process(image)
        stream.reset()


NODES: dict[str, tuple[type, str]] = {
    "ControlNetTRTConfig": (ControlNetTRTConfig, "ControlNet + TRT Config"),
    "ControlNetTRTModelLoader": (ControlNetTRTModelLoader, "ControlNet + TRT Model Loader"),
    "ControlNetTRTEngineCreator": (ControlNetTRTEngineCreator, "ControlNet + TRT Engine Creator"),
    "ControlNetTRTStreamingSampler": (ControlNetTRTStreamingSampler, "ControlNet + TRT Streaming Sampler"),
    "StreamDiffusionConfigFile": (StreamDiffusionConfigFile, "Stream Configuration File"),
}
