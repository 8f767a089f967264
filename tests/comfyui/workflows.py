"""Ten graphs of ComfyUI's built-in nodes that need no model. What `TestKeep` gets is compared."""

from __future__ import annotations

from typing import Any

Graph = dict[str, dict[str, Any]]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def picture(name: str = "one.png") -> dict[str, Any]:
    return node("LoadImage", image=name)


def keep(id: str, slot: int = 0) -> dict[str, Any]:
    return node("TestKeep", value=[id, slot])


WORKFLOWS: dict[str, Graph] = {
    "scale, invert, blur, sharpen": {
        "1": picture(),
        "2": node("ImageScale", image=["1", 0], upscale_method="bicubic", width=200, height=120, crop="center"),
        "3": node("ImageInvert", image=["2", 0]),
        "4": node("ImageBlur", image=["3", 0], blur_radius=3, sigma=1.5),
        "5": node("ImageSharpen", image=["4", 0], sharpen_radius=2, sigma=1.0, alpha=0.8),
        "6": keep("5"),
    },
    "blend two pictures": {
        "1": picture(),
        "2": picture("two.png"),
        "3": node("ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=0.4, blend_mode="soft_light"),
        "4": node("ImageQuantize", image=["3", 0], colors=16, dither="floyd-steinberg"),
        "5": keep("3"),
        "6": keep("4"),
    },
    "a mask, grown and feathered, puts one on the other": {
        "1": picture(),
        "2": picture("two.png"),
        "3": node("ImageToMask", image=["2", 0], channel="green"),
        "4": node("ThresholdMask", mask=["3", 0], value=0.5),
        "5": node("GrowMask", mask=["4", 0], expand=4, tapered_corners=True),
        "6": node("FeatherMask", mask=["5", 0], left=8, top=4, right=8, bottom=4),
        "7": node(
            "ImageCompositeMasked",
            destination=["1", 0],
            source=["2", 0],
            mask=["6", 0],
            x=5,
            y=7,
            resize_source=False,
        ),
        "8": keep("7"),
        "9": keep("6"),
    },
    "masks that are put together": {
        "1": node("SolidMask", value=0.7, width=64, height=48),
        "2": node("SolidMask", value=0.4, width=32, height=24),
        "3": node("MaskComposite", destination=["1", 0], source=["2", 0], x=10, y=6, operation="subtract"),
        "4": node("InvertMask", mask=["3", 0]),
        "5": node("CropMask", mask=["4", 0], x=4, y=4, width=40, height=30),
        "6": node("MaskToImage", mask=["5", 0]),
        "7": keep("6"),
    },
    "a batch, repeated and cut": {
        "1": picture(),
        "2": picture("two.png"),
        "3": node("ImageBatch", image1=["1", 0], image2=["2", 0]),
        "4": node("RepeatImageBatch", image=["3", 0], amount=3),
        "5": node("ImageFromBatch", image=["4", 0], batch_index=2, length=3),
        "6": node("ImageScaleBy", image=["5", 0], upscale_method="lanczos", scale_by=0.5),
        "7": keep("6"),
    },
    "lists: every item runs through the nodes after it": {
        "1": picture(),
        "2": node("RepeatImageBatch", image=["1", 0], amount=5),
        "3": node("RebatchImages", images=["2", 0], batch_size=2),
        "4": node("ImageInvert", image=["3", 0]),
        "5": keep("4"),
    },
    "padding for outpainting, and the mask of it": {
        "1": picture(),
        "2": node("ImagePadForOutpaint", image=["1", 0], left=16, top=8, right=24, bottom=0, feathering=10),
        "3": keep("2"),
        "4": keep("2", 1),
    },
    "alpha: joined, split, composed": {
        "1": picture(),
        "2": picture("two.png"),
        "3": node("SolidMask", value=0.3, width=96, height=64),
        "4": node("JoinImageWithAlpha", image=["1", 0], alpha=["3", 0]),
        "5": node("SplitImageWithAlpha", image=["4", 0]),
        "6": node(
            "PorterDuffImageComposite",
            source=["5", 0],
            source_alpha=["5", 1],
            destination=["2", 0],
            destination_alpha=["3", 0],
            mode="SRC_OVER",
        ),
        "7": keep("6"),
        "8": keep("6", 1),
    },
    "edges and shapes": {
        "1": picture(),
        "2": node("Canny", image=["1", 0], low_threshold=0.2, high_threshold=0.6),
        "3": node("Morphology", image=["1", 0], operation="gradient", kernel_size=5),
        "4": node("ImageCrop", image=["3", 0], width=40, height=40, x=10, y=10),
        "5": keep("2"),
        "6": keep("4"),
    },
    "latents and sigmas": {
        "1": node("EmptyLatentImage", width=128, height=64, batch_size=2),
        "2": node("LatentUpscale", samples=["1", 0], upscale_method="bilinear", width=192, height=128, crop="disabled"),
        "3": node("LatentFlip", samples=["2", 0], flip_method="x-axis: vertically"),
        "4": node("LatentCrop", samples=["3", 0], width=64, height=64, x=8, y=8),
        "5": node("KarrasScheduler", steps=12, sigma_max=14.6, sigma_min=0.03, rho=7.0),
        "6": node("SplitSigmas", sigmas=["5", 0], step=4),
        "7": node("FlipSigmas", sigmas=["6", 1]),
        "8": keep("4"),
        "9": keep("7"),
    },
}
