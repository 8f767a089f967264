"""Batches of pictures and masks: repeat, pick, join, cut into tiles and back."""

from __future__ import annotations

from functools import lru_cache

import torch
from comfy_api.latest import io
from torch import Tensor

from .image_basic import cat_images
from .limits import MAX_BATCH, MAX_RESOLUTION
from .resampling import resize_mask

__all__ = ["NODES"]

MOST_INPUTS = 50


class RepeatImageBatch(io.ComfyNode):
    """A batch several times."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RepeatImageBatch",
            display_name="Repeat Image Batch",
            category="image/batch",
            inputs=[io.Image.Input("image"), io.Int.Input("amount", default=1, min=1, max=MAX_BATCH)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, amount: int) -> io.NodeOutput:
        return io.NodeOutput(image.repeat(amount, 1, 1, 1))


class ImageFromBatch(io.ComfyNode):
    """Some pictures of a batch; a negative index counts from the end."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageFromBatch",
            display_name="Get Image from Batch",
            category="image/batch",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("batch_index", default=0, min=-MAX_RESOLUTION, max=MAX_RESOLUTION),
                io.Int.Input("length", default=1, min=1, max=MAX_BATCH),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, batch_index: int, length: int) -> io.NodeOutput:
        count = image.shape[0]
        start = min(max(batch_index + count if batch_index < 0 else batch_index, 0), count - 1)
        return io.NodeOutput(image[start : start + length].clone())


class GetImageSize(io.ComfyNode):
    """Width, height and number of pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GetImageSize",
            display_name="Get Image Size",
            category="image",
            inputs=[io.Image.Input("image")],
            outputs=[io.Int.Output(display_name=name) for name in ("width", "height", "batch_size")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, image: Tensor) -> io.NodeOutput:
        return io.NodeOutput(image.shape[2], image.shape[1], image.shape[0])


class RebatchImages(io.ComfyNode):
    """Lists of batches cut anew into batches of one size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RebatchImages",
            display_name="Rebatch Images",
            category="image/batch",
            is_input_list=True,
            inputs=[io.Image.Input("images"), io.Int.Input("batch_size", default=1, min=1, max=MAX_BATCH)],
            outputs=[io.Image.Output(is_output_list=True)],
        )

    @classmethod
    def execute(cls, images: list[Tensor], batch_size: list[int]) -> io.NodeOutput:
        single = [picture for batch in images for picture in batch.split(1)]
        size = batch_size[0]
        return io.NodeOutput([torch.cat(single[start : start + size]) for start in range(0, len(single), size)])


class BatchImagesNode(io.ComfyNode):
    """Any number of batches one after the other, brought to the size of the first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        group = io.Autogrow.TemplatePrefix(io.Image.Input("image"), prefix="image", min=1, max=MOST_INPUTS)
        return io.Schema(
            node_id="BatchImagesNode",
            display_name="Batch Images",
            category="image/batch",
            essentials_category="Image Tools",
            inputs=[io.Autogrow.Input("images", template=group)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, images: dict[str, Tensor]) -> io.NodeOutput:
        return io.NodeOutput(cat_images(list(images.values())))


class BatchMasksNode(io.ComfyNode):
    """Any number of masks one after the other, brought to the size of the first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        group = io.Autogrow.TemplatePrefix(io.Mask.Input("mask"), prefix="mask", min=1, max=MOST_INPUTS)
        return io.Schema(
            node_id="BatchMasksNode",
            display_name="Batch Masks",
            category="image/mask",
            inputs=[io.Autogrow.Input("masks", template=group)],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, masks: dict[str, Tensor]) -> io.NodeOutput:
        first, *rest = masks.values()
        height, width = first.shape[1:]
        same = [resize_mask(mask, width, height, "bilinear", "center").to(first.device) for mask in rest]
        return io.NodeOutput(torch.cat([first, *same]))


def _starts(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Start and end of the tiles along one side; the last one ends with the picture."""
    stride = round(max(tile * 0.25, tile - overlap))
    spans = []
    for start in range(0, length, stride):
        end = min(start + tile, length)
        spans.append((max(0, end - tile), end))
        if end >= length:
            break
    return spans


class SplitImageToTileList(io.ComfyNode):
    """A picture as a list of overlapping tiles, row by row."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SplitImageToTileList",
            display_name="Split Image into List of Tiles",
            category="image/batch",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("tile_width", default=1024, min=64, max=MAX_RESOLUTION),
                io.Int.Input("tile_height", default=1024, min=64, max=MAX_RESOLUTION),
                io.Int.Input("overlap", default=128, min=0, max=4096),
            ],
            outputs=[io.Image.Output(is_output_list=True)],
        )

    @classmethod
    def execute(cls, image: Tensor, tile_width: int, tile_height: int, overlap: int) -> io.NodeOutput:
        rows = _starts(image.shape[1], tile_height, overlap)
        columns = _starts(image.shape[2], tile_width, overlap)
        return io.NodeOutput([image[:, top:bottom, left:right] for top, bottom in rows for left, right in columns])


@lru_cache(maxsize=8)
def _tile_weights(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A half sine across each side, [height, width, 1]: where tiles overlap the nearer centre counts more."""
    down, across = (
        torch.sin(torch.pi * torch.linspace(0, 1, length, device=device, dtype=dtype)).clamp_(min=1e-5)
        for length in (height, width)
    )
    return (down[:, None] * across)[..., None]


class ImageMergeTileList(io.ComfyNode):
    """The tiles of `SplitImageToTileList` put together again, seams blended."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageMergeTileList",
            display_name="Merge List of Tiles to Image",
            category="image/batch",
            is_input_list=True,
            inputs=[
                io.Image.Input("image_list"),
                io.Int.Input("final_width", default=1024, min=64, max=32768),
                io.Int.Input("final_height", default=1024, min=64, max=32768),
                io.Int.Input("overlap", default=128, min=0, max=4096),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(
        cls, image_list: list[Tensor], final_width: list[int], final_height: list[int], overlap: list[int]
    ) -> io.NodeOutput:
        first, width, height, shared = image_list[0], final_width[0], final_height[0], overlap[0]
        batch, tile_height, tile_width, channels = first.shape
        canvas = first.new_zeros((batch, height, width, channels))
        total = first.new_zeros((height, width, 1))
        weights = _tile_weights(tile_height, tile_width, first.device, first.dtype) if shared else None
        rows, columns = _starts(height, tile_height, shared), _starts(width, tile_width, shared)
        places = [(row, column) for row in rows for column in columns]
        for tile, ((top, bottom), (left, right)) in zip(image_list, places, strict=False):
            part = tile[:, : bottom - top, : right - left]
            weight = first.new_ones((1, 1, 1)) if weights is None else weights[: part.shape[1], : part.shape[2]]
            where = (slice(top, top + part.shape[1]), slice(left, left + part.shape[2]))
            canvas[:, *where] += part * weight
            total[where] += weight
        return io.NodeOutput(canvas.div_(torch.where(total == 0, 1.0, total)))


NODES = [
    BatchImagesNode,
    BatchMasksNode,
    GetImageSize,
    ImageFromBatch,
    ImageMergeTileList,
    RebatchImages,
    RepeatImageBatch,
    SplitImageToTileList,
]
