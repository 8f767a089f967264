"""What nodes show in an editor: saved files and texts."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

import folder_paths

from ._io import FolderType
from ._node import _UIOutput


class SavedResult(dict[str, Any]):
    """A file that was written: name, subfolder, and which folder."""

    def __init__(self, filename: str, subfolder: str, type: FolderType) -> None:
        super().__init__(filename=filename, subfolder=subfolder, type=FolderType(type).value)

    @property
    def filename(self) -> str:
        """Name without folders."""
        return str(self["filename"])

    @property
    def subfolder(self) -> str:
        """Path below the folder; may be empty."""
        return str(self["subfolder"])

    @property
    def type(self) -> FolderType:
        """Which folder."""
        return FolderType(self["type"])


class SavedImages(_UIOutput):
    """Pictures that were written."""

    def __init__(self, results: list[SavedResult], is_animated: bool = False) -> None:
        self.results = results
        self.is_animated = is_animated

    def as_dict(self) -> dict[str, Any]:
        """As the V1 `ui` dictionary."""
        return {"images": self.results, **({"animated": (True,)} if self.is_animated else {})}


class SavedAudios(_UIOutput):
    """Sounds that were written."""

    def __init__(self, results: list[SavedResult]) -> None:
        self.results = results

    def as_dict(self) -> dict[str, Any]:
        """As the V1 `ui` dictionary."""
        return {"audio": self.results}


def _folder(folder_type: FolderType) -> str:
    return str(folder_paths.get_directory_by_type(FolderType(folder_type).value))


def _to_pil(image: Any) -> Any:
    from PIL import Image

    return Image.fromarray((image.cpu() * 255.0).clamp(0, 255).byte().numpy())


def _workflow_texts(cls: Any) -> dict[str, Any]:
    hidden = getattr(cls, "hidden", None)
    if hidden is None:
        return {}
    texts = {"prompt": hidden.prompt} if hidden.prompt else {}
    return {**texts, **(hidden.extra_pnginfo or {})}


class ImageSaveHelper:
    """Writes pictures with the workflow in them."""

    @staticmethod
    def save_images(
        images: Any, filename_prefix: str, folder_type: FolderType, cls: Any, compress_level: int = 4
    ) -> list[SavedResult]:
        """A PNG per picture of the batch [B, H, W, C]."""
        from PIL.PngImagePlugin import PngInfo

        height, width = images[0].shape[0], images[0].shape[1]
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, _folder(folder_type), width, height
        )
        info = PngInfo()
        for key, value in _workflow_texts(cls).items():
            info.add_text(key, json.dumps(value))
        results = []
        for number, image in enumerate(images):
            file = f"{name.replace('%batch_num%', str(number))}_{counter + number:05}_.png"
            _to_pil(image).save(os.path.join(folder, file), pnginfo=info, compress_level=compress_level)
            results.append(SavedResult(file, subfolder, folder_type))
        return results

    @classmethod
    def get_save_images_ui(cls, images: Any, filename_prefix: str, node: Any = None, **kwargs: Any) -> SavedImages:
        """Write into the output folder and say so."""
        level = kwargs.get("compress_level", 4)
        return SavedImages(cls.save_images(images, filename_prefix, FolderType.output, kwargs.get("cls", node), level))


class PreviewImage(_UIOutput):
    """Pictures written to the temp folder."""

    def __init__(self, image: Any, animated: bool = False, cls: Any = None, **kwargs: Any) -> None:
        prefix = f"ComfyUI_temp_{uuid.uuid4().hex[:5]}"
        self.values = ImageSaveHelper.save_images(image, prefix, FolderType.temp, cls, compress_level=1)
        self.animated = animated

    def as_dict(self) -> dict[str, Any]:
        """As the V1 `ui` dictionary."""
        return {"images": self.values, "animated": (self.animated,)}


class PreviewMask(PreviewImage):
    """Masks [B, H, W] shown as grey pictures."""

    def __init__(self, mask: Any, animated: bool = False, cls: Any = None, **kwargs: Any) -> None:
        grey = mask.reshape(-1, mask.shape[-2], mask.shape[-1], 1).expand(-1, -1, -1, 3)
        super().__init__(grey, animated, cls, **kwargs)


class PreviewVideo(_UIOutput):
    """Clips that were written."""

    def __init__(self, values: list[Any], **kwargs: Any) -> None:
        self.values = values

    def as_dict(self) -> dict[str, Any]:
        """As the V1 `ui` dictionary."""
        return {"images": self.values, "animated": (True,)}


class PreviewText(_UIOutput):
    """A text."""

    def __init__(self, value: str, **kwargs: Any) -> None:
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        """As the V1 `ui` dictionary."""
        return {"text": (self.value,)}


__all__ = [
    "ImageSaveHelper",
    "PreviewImage",
    "PreviewMask",
    "PreviewText",
    "PreviewVideo",
    "SavedAudios",
    "SavedImages",
    "SavedResult",
]
