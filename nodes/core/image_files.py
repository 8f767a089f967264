"""Pictures from and to files (V1): load, save, preview."""

from __future__ import annotations

import hashlib
import json
import os
import random
import string
from functools import lru_cache
from typing import Any

import folder_paths
import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .resampling import to_uint8

__all__ = ["NODES", "LoadImage", "PreviewImage", "digest_file", "save_pictures"]

NO_MASK_SIZE = (64, 64)  # what ComfyUI gives for a picture without an alpha channel


def _to_float(picture: Image.Image) -> np.ndarray[Any, Any]:
    """RGB float32 0..1; the deep greyscale modes keep their bits."""
    if picture.mode in ("I", "I;16", "I;16B", "I;16L"):
        grey = np.asarray(picture).astype(np.float32) / 65535.0
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.asarray(picture.convert("RGB")).astype(np.float32) / 255.0


def _mask_of(picture: Image.Image) -> Tensor:
    """1 - alpha; zeros of 64x64 where there is no alpha."""
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if "A" not in picture.getbands():
        return torch.zeros(NO_MASK_SIZE, dtype=torch.float32)
    alpha = np.asarray(picture.getchannel("A")).astype(np.float32) / 255.0
    return 1.0 - torch.from_numpy(alpha)


def read_picture(path: str) -> tuple[Tensor, Tensor]:
    """All frames of a picture file that have the size of the first: IMAGE [n, h, w, 3] and MASK."""
    images, masks = [], []
    with Image.open(path) as file:
        only_first = file.format == "MPO"  # the further pictures of these are previews and gain maps
        for frame in ImageSequence.Iterator(file):
            upright = ImageOps.exif_transpose(frame)
            image = torch.from_numpy(_to_float(upright))
            if images and image.shape != images[0].shape:
                continue
            images.append(image)
            masks.append(_mask_of(upright))
            if only_first:
                break
    device = torch.get_default_device()
    return torch.stack(images).to(device), torch.stack(masks).to(device)


@lru_cache(maxsize=256)
def _digest(path: str, modified_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_file(path: str) -> str:
    """SHA-256 of a file, read again only when its time or size has changed."""
    status = os.stat(path)
    return _digest(path, status.st_mtime_ns, status.st_size)


class LoadImage:
    """A picture from the input folder."""

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"
    CATEGORY = "image"
    ESSENTIALS_CATEGORY = "Basics"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        folder = folder_paths.get_input_directory()
        files = os.listdir(folder) if os.path.isdir(folder) else []  # a new machine has no such folder yet
        files = [name for name in files if os.path.isfile(os.path.join(folder, name))]
        pictures = folder_paths.filter_files_content_types(files, ["image"])
        return {"required": {"image": (sorted(pictures), {"image_upload": True})}}

    def load_image(self, image: str) -> tuple[Tensor, Tensor]:
        return read_picture(folder_paths.get_annotated_filepath(image))

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        return digest_file(folder_paths.get_annotated_filepath(image))

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        return folder_paths.exists_annotated_filepath(image) or f'no picture "{image}" in the input folder'


class LoadImageMask(LoadImage):
    """One channel of a picture from the input folder as a mask."""

    RETURN_TYPES = ("MASK",)
    FUNCTION = "load_image_mask"
    ESSENTIALS_CATEGORY = "Image Tools"
    channels = ["alpha", "red", "green", "blue"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {**super().INPUT_TYPES()["required"], "channel": (cls.channels,)}}

    def load_image_mask(self, image: str, channel: str) -> tuple[Tensor]:
        pictures, masks = self.load_image(image)
        return (masks if channel == "alpha" else pictures[..., self.channels.index(channel) - 1].clone(),)

    @classmethod
    def IS_CHANGED(cls, image: str, channel: str) -> str:
        return super().IS_CHANGED(image)


class LoadImageOutput(LoadImage):
    """A picture that an earlier run has saved."""

    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        remote = {
            "route": "/internal/files/output",
            "refresh_button": True,
            "control_after_refresh": "first",
        }
        return {"required": {"image": ("COMBO", {"image_upload": True, "image_folder": "output", "remote": remote})}}


def save_pictures(
    images: Tensor,
    folder: str,
    prefix: str,
    kind: str,
    compress_level: int,
    metadata: dict[str, Any] | None = None,
) -> list[dict[str, str]]:
    """Write a batch as PNG files.

    Args:
        images: float [batch, height, width, channels], 1, 3 or 4 channels.
        folder: where to (the prefix may add a subfolder).
        prefix: start of the file names, with ComfyUI's placeholders.
        kind: "output" or "temp", for the editor.
        compress_level: zlib level 0..9.
        metadata: text chunks by name, each written as JSON.

    Returns:
        What the editor shows: file name, subfolder and type for each picture.
    """
    height, width = images.shape[1:3]
    target, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder, width, height)
    chunks = PngInfo()
    for key, value in (metadata or {}).items():
        chunks.add_text(key, json.dumps(value))
    saved = []
    for index, pixels in enumerate(to_uint8(images).numpy()):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        file = f"{name.replace('%batch_num%', str(index))}_{counter + index:05}_.png"
        picture.save(os.path.join(target, file), pnginfo=chunks, compress_level=compress_level)
        saved.append({"filename": file, "subfolder": subfolder, "type": kind})
    return saved


def _metadata(prompt: Any, extra_pnginfo: dict[str, Any] | None) -> dict[str, Any]:
    return {**({} if prompt is None else {"prompt": prompt}), **(extra_pnginfo or {})}


class SaveImage:
    """Pictures into the output folder, with the workflow inside."""

    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    CATEGORY = "image"
    ESSENTIALS_CATEGORY = "Basics"
    kind = "output"
    compress_level = 4

    def __init__(self) -> None:
        self.output_dir = folder_paths.get_output_directory()
        self.prefix_append = ""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save_images(
        self,
        images: Tensor,
        filename_prefix: str = "ComfyUI",
        prompt: Any = None,
        extra_pnginfo: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        prefix = filename_prefix + self.prefix_append
        metadata = _metadata(prompt, extra_pnginfo)
        saved = save_pictures(images, self.output_dir, prefix, self.kind, self.compress_level, metadata)
        return {"ui": {"images": saved}, "result": (images,)}


class PreviewImage(SaveImage):
    """Pictures into the temporary folder, for the editor to show."""

    kind = "temp"
    compress_level = 1

    def __init__(self) -> None:
        self.output_dir = folder_paths.get_temp_directory()
        self.prefix_append = "_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"images": ("IMAGE",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }


NODES: dict[str, tuple[type, str]] = {
    "LoadImage": (LoadImage, "Load Image"),
    "LoadImageMask": (LoadImageMask, "Load Image (as Mask)"),
    "LoadImageOutput": (LoadImageOutput, "Load Image (from Outputs)"),
    "PreviewImage": (PreviewImage, "Preview Image"),
    "SaveImage": (SaveImage, "Save Image"),
}
