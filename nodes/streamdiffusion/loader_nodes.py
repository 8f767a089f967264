"""Nodes that load: a model, what is added to it, and prompts. They hang on nothing live, so they run once."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from comfystream.accel.placement import bring
from comfystream.errors import ConfigError
from comfystream.model_files import model_input

from .acceleration import ACCELERATIONS, accelerated
from .control import Control, ControlModel, load_control
from .image_prompt import STYLE_TRANSFER, WEIGHT_TYPES, build
from .loading.entry import (
    AUTOENCODERS,
    MODELS,
    TOKENIZERS,
    UNETS,
    device_of,
    dtype_of,
    find,
    load_model,
    model_from_comfyui,
    placed,
)
from .loading.parts import from_folder
from .loading.weights import read_weights
from .lora import with_lora
from .model import StreamModel, with_tensors
from .preprocess import NAMES
from .settings import Style
from .text import Embedding, blend_embeddings

__all__ = ["NODES", "add_image_prompt", "style_of"]

CATEGORY = "StreamDiffusion"
DTYPES = (["auto", "float16", "bfloat16", "float32"],)
DEVICE = ("STRING", {"default": "auto"})


def text_input(default: str = "", hint: str = "", is_long: bool = False) -> tuple[str, dict[str, Any]]:
    """A text widget."""
    return ("STRING", {"default": default, "multiline": is_long, "tooltip": hint})


class StreamDiffusionLoadModel:
    """A model from a folder in diffusers' layout, or from a single file."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_MODEL",), ("model",)
    DESCRIPTION = "Loads Stable Diffusion 1.5, 2.1 or SDXL, turbo and LCM ones too, for a stream."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"model": model_input("a file or folder: a path, or a name below your model folders", *MODELS)},
            "optional": {
                "vae": model_input("a VAE, or a TAESD, ten times faster; empty for the model's own", *AUTOENCODERS),
                "tokenizer": model_input("folder of a CLIP tokenizer, for single files outside ComfyUI", *TOKENIZERS),
                "dtype": DTYPES,
                "device": DEVICE,
                "acceleration": (list(ACCELERATIONS), {"tooltip": "which backend runs it; auto says what it chose"}),
                "unet": model_input("a UNet alone in place of the model's own: SDXL-Lightning, DMD2, lcm-sdxl", *UNETS),
            },
        }

    def load(
        self,
        model: str,
        vae: str = "",
        tokenizer: str = "",
        dtype: str = "auto",
        device: str = "auto",
        acceleration: str = "none",
        unet: str = "",
    ) -> tuple[StreamModel]:
        place = device_of(device)
        loaded = placed(load_model(model, vae, tokenizer, unet), place, dtype_of(dtype, place))
        return (accelerated(loaded, acceleration),)


class StreamDiffusionFromModel:
    """ComfyUI's own MODEL, VAE and CLIP as a model for a stream."""

    CATEGORY, FUNCTION = CATEGORY, "convert"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_MODEL",), ("model",)
    DESCRIPTION = "Takes what a checkpoint loader of ComfyUI gave, LoRAs included."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"model": ("MODEL",), "vae": ("VAE",)},
            "optional": {"clip": ("CLIP",), "dtype": DTYPES, "device": DEVICE},
        }

    def convert(
        self, model: Any, vae: Any, clip: Any = None, dtype: str = "auto", device: str = "auto"
    ) -> tuple[StreamModel]:
        place = device_of(device)
        return (placed(model_from_comfyui(model, vae, clip), place, dtype_of(dtype, place)),)


class StreamDiffusionLoRA:
    """A model with a LoRA."""

    CATEGORY, FUNCTION = CATEGORY, "apply"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_MODEL",), ("model",)
    DESCRIPTION = "Adds a LoRA to a model's weights. Several in a row add up."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        strength = ("FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.01})
        return {"required": {"model": ("STREAM_MODEL",), "lora": model_input("", "loras"), "strength": strength}}

    def apply(self, model: StreamModel, lora: str, strength: float) -> tuple[StreamModel]:
        return (with_lora(model, find(lora, "loras"), strength) if strength else model,)


class StreamDiffusionIPAdapter:
    """A model with an IP-Adapter."""

    CATEGORY, FUNCTION = CATEGORY, "apply"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_MODEL",), ("model",)
    DESCRIPTION = "Lets a model take a picture as a prompt; add LoRAs before."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("STREAM_MODEL",),
                "adapter": model_input("", "ipadapter"),
                "image_encoder": model_input("", "clip_vision"),
            }
        }

    def apply(self, model: StreamModel, adapter: str, image_encoder: str) -> tuple[StreamModel]:
        return (add_image_prompt(model, adapter, image_encoder),)


def add_image_prompt(model: StreamModel, adapter: str, image_encoder: str) -> StreamModel:
    """A model with an IP-Adapter of its own; shares all weights with the model that was given."""
    path = find(adapter, "ipadapter")
    encoder = from_folder("CLIPVisionModelWithProjection", find(image_encoder, "clip_vision"), is_transformers=True)
    unet = with_tensors(model.unet, {})
    place = (model.device, model.dtype)
    built = build(unet, read_weights(path), bring(encoder, *place), path.name, *place)
    return model.with_parts(unet=unet, image_prompt=built)


class StreamDiffusionStyle:
    """A picture as a prompt."""

    CATEGORY, FUNCTION = CATEGORY, "encode"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_STYLE",), ("style",)
    DESCRIPTION = "Encodes a style picture for a model with an IP-Adapter: a still one once, a live one every frame."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        scale = ("FLOAT", {"default": 0.7, "min": 0.0, "max": 2.0, "step": 0.01})
        types = ([*WEIGHT_TYPES, STYLE_TRANSFER],)
        return {"required": {"model": ("STREAM_MODEL",), "image": ("IMAGE",), "scale": scale, "weight_type": types}}

    def encode(self, model: StreamModel, image: Tensor, scale: float, weight_type: str) -> tuple[Style]:
        return (style_of(model, image, scale, weight_type),)


def style_of(model: StreamModel, image: Tensor, scale: float, weight_type: str = "linear") -> Style:
    """Tokens of a picture.

    Raises:
        ConfigError: the model has no IP-Adapter.
    """
    if model.image_prompt is None:
        raise ConfigError("this model has no IP-Adapter", hint="add the node StreamDiffusionIPAdapter before")
    return Style(model.image_prompt.encode(image), model.image_prompt.blank(), scale, weight_type)


class StreamDiffusionPrompt:
    """A text as a model reads it."""

    CATEGORY, FUNCTION = CATEGORY, "encode"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_PROMPT",), ("prompt",)
    DESCRIPTION = "Encodes a text once; each text is encoded beside the running stream."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        skip = ("INT", {"default": 0, "min": 0, "max": 8})
        return {
            "required": {"model": ("STREAM_MODEL",), "text": text_input("", "", is_long=True)},
            "optional": {"clip_skip": skip},
        }

    def encode(self, model: StreamModel, text: str, clip_skip: int = 0) -> tuple[Embedding]:
        return (model.prompts.encode(text, clip_skip),)


class StreamDiffusionBlendPrompts:
    """Something between two prompts."""

    CATEGORY, FUNCTION = CATEGORY, "blend"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_PROMPT",), ("prompt",)
    DESCRIPTION = "0 is the first prompt, 1 the second. Its output may be blended again."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        amount = ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01})
        prompt = ("STREAM_PROMPT",)
        return {"required": {"first": prompt, "second": prompt, "amount": amount, "method": (["slerp", "linear"],)}}

    def blend(self, first: Embedding, second: Embedding, amount: float, method: str) -> tuple[Embedding]:
        return (blend_embeddings([first, second], [1 - amount, amount], method),)


class StreamDiffusionLoadControlNet:
    """A ControlNet from a folder or a single file."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_CONTROLNET",), ("controlnet",)
    DESCRIPTION = "Loads a ControlNet for a model."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("STREAM_MODEL",), "controlnet": model_input("", "controlnet")}}

    def load(self, model: StreamModel, controlnet: str) -> tuple[ControlModel]:
        loaded = load_control(find(controlnet, "controlnet"))
        loaded.check(model.family, model.unet)
        bring(loaded.module, model.device, model.dtype)
        return (loaded,)


class StreamDiffusionControl:
    """How a stream uses a ControlNet."""

    CATEGORY, FUNCTION = CATEGORY, "use"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_CONTROLS",), ("controls",)
    DESCRIPTION = "Draws the control picture itself, or takes one that another node made. Chain several by `controls`."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        scale = ("FLOAT", {"default": 0.5, "min": 0.0, "max": 2.0, "step": 0.01})
        level = {"min": 0, "max": 255}
        return {
            "required": {"controlnet": ("STREAM_CONTROLNET",), "scale": scale, "preprocessor": (list(NAMES),)},
            "optional": {
                "control_image": ("IMAGE",),
                "controls": ("STREAM_CONTROLS",),
                "low_threshold": ("INT", {"default": 100, **level}),
                "high_threshold": ("INT", {"default": 200, **level}),
            },
        }

    def use(
        self,
        controlnet: ControlModel,
        scale: float,
        preprocessor: str,
        control_image: Tensor | None = None,
        controls: tuple[Control, ...] = (),
        low_threshold: int = 100,
        high_threshold: int = 200,
    ) -> tuple[tuple[Control, ...]]:
        parameters = {"low_threshold": low_threshold, "high_threshold": high_threshold}
        return ((*controls, Control(controlnet, scale, preprocessor, parameters, control_image)),)


NODES: dict[str, tuple[type, str]] = {
    "StreamDiffusionLoadModel": (StreamDiffusionLoadModel, "Stream Model: Load"),
    "StreamDiffusionFromModel": (StreamDiffusionFromModel, "Stream Model: From ComfyUI's MODEL"),
    "StreamDiffusionLoRA": (StreamDiffusionLoRA, "Stream Model: Add LoRA"),
    "StreamDiffusionIPAdapter": (StreamDiffusionIPAdapter, "Stream Model: Add IP-Adapter"),
    "StreamDiffusionStyle": (StreamDiffusionStyle, "Stream Style Picture"),
    "StreamDiffusionPrompt": (StreamDiffusionPrompt, "Stream Prompt"),
    "StreamDiffusionBlendPrompts": (StreamDiffusionBlendPrompts, "Stream Prompt: Blend"),
    "StreamDiffusionLoadControlNet": (StreamDiffusionLoadControlNet, "Stream ControlNet: Load"),
    "StreamDiffusionControl": (StreamDiffusionControl, "Stream ControlNet: Use"),
}
