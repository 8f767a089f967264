"""Inputs on which our nodes and ComfyUI's must give the same. Pictures are made here, from a seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

Case = dict[str, Any]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator("cpu").manual_seed(seed))


def bars(height: int, width: int) -> Tensor:
    """Hard edges in all directions on a smooth ground: ties, corners and long thin connections."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ground = 0.3 + 0.2 * torch.sin(x / 5.0) * torch.cos(y / 7.0)
    box = ((x > width // 4) & (x < width // 2) & (y > height // 5) & (y < height // 2)).float()
    diagonal = ((x + y) % 23 < 6).float() * 0.4
    disc = (((x - 0.7 * width) ** 2 + (y - 0.6 * height) ** 2) < (height / 5.0) ** 2).float()
    return torch.stack(
        [(ground + box).clamp(0, 1), (ground + diagonal).clamp(0, 1), (ground * 0.5 + disc).clamp(0, 1)], -1
    )


def pictures() -> list[Tensor]:
    return [
        noise(1, 7, 5, 3, seed=1),
        noise(2, 16, 12, 3, seed=2),
        noise(1, 1, 1, 3, seed=3),
        noise(2, 9, 8, 4, seed=4),
        bars(64, 47)[None],
        torch.stack([bars(40, 40), bars(40, 40).flip(0)]),
    ]


def masks() -> list[Tensor]:
    return [
        noise(1, 7, 5, seed=11),
        noise(3, 16, 13, seed=12),
        noise(1, 1, 1, seed=13),
        (noise(2, 20, 31, seed=14) > 0.9).float(),
    ]


def grid(**choices: Any) -> Iterator[Case]:
    """All combinations; a list gives the choices, anything else is given as it is."""
    lists = [choice if isinstance(choice, list) else [choice] for choice in choices.values()]
    for values in itertools.product(*lists):
        yield dict(zip(choices, values, strict=True))


METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]


def scaling() -> dict[str, Iterator[Case]]:
    resize_types = [
        {"resize_type": "scale by multiplier", "multiplier": 1.7},
        {"resize_type": "scale dimensions", "width": 11, "height": 0, "crop": "center"},
        {"resize_type": "scale dimensions", "width": 9, "height": 14, "crop": "center"},
        {"resize_type": "scale dimensions", "width": 9, "height": 14, "crop": "disabled"},
        {"resize_type": "scale dimensions", "width": 0, "height": 0, "crop": "disabled"},
        {"resize_type": "scale longer dimension", "longer_size": 21},
        {"resize_type": "scale shorter dimension", "shorter_size": 6},
        {"resize_type": "scale width", "width": 10},
        {"resize_type": "scale height", "height": 10},
        {"resize_type": "scale total pixels", "megapixels": 0.01},
        {"resize_type": "match size", "match": noise(1, 12, 9, 3, seed=5), "crop": "center"},
        {"resize_type": "match size", "match": noise(1, 12, 9, seed=5), "crop": "disabled"},
        {"resize_type": "scale to multiple", "multiple": 4},
        {"resize_type": "scale to multiple", "multiple": 1},
        {"resize_type": "scale to multiple", "multiple": 500},
    ]
    mask_methods = METHODS[:-1]  # with lanczos ComfyUI loses a dimension of a one-line mask
    return {
        "ImageScale": itertools.chain(
            grid(
                image=pictures(), upscale_method=METHODS, width=[1, 9, 0], height=[6, 17], crop=["disabled", "center"]
            ),
            grid(image=pictures()[:2], upscale_method=METHODS, width=[0, 5], height=0, crop=["disabled", "center"]),
        ),
        "ImageScaleBy": grid(image=pictures(), upscale_method=METHODS, scale_by=[1.0, 1.5, 2.31]),
        "ImageScaleToTotalPixels": grid(
            image=pictures(), upscale_method=METHODS, megapixels=[0.01, 0.02], resolution_steps=[1, 8]
        ),
        "ImageScaleToMaxDimension": grid(image=pictures(), upscale_method=METHODS, largest_size=[5, 33]),
        "ResizeAndPadImage": grid(
            image=[pictures()[0], pictures()[3], pictures()[4]],
            target_width=[13, 40],
            target_height=[21, 40],
            padding_color=["white", "black"],
            interpolation=METHODS,
        ),
        "ResizeImageMaskNode": itertools.chain(
            grid(input=[pictures()[0], pictures()[3]], resize_type=resize_types, scale_method=METHODS),
            grid(input=masks()[:2], resize_type=resize_types, scale_method=mask_methods),
        ),
        "ResolutionSelector": grid(
            aspect_ratio=["1:1 (Square)", "2:3 (Portrait Photo)", "16:9 (Widescreen)", "21:9 (Ultrawide)"],
            megapixels=[0.1, 1.0, 2.3],
            multiple=[8, 12, 64],
        ),
    }


def transforms() -> dict[str, Iterator[Case]]:
    return {
        "EmptyImage": grid(width=[1, 5], height=[1, 7], batch_size=[1, 3], color=[0, 0xFFFFFF, 0x12AB7F]),
        "ImageInvert": grid(image=pictures()),
        "ImageBatch": itertools.chain(grid(image1=pictures(), image2=pictures())),
        "ImagePadForOutpaint": grid(
            image=pictures(), left=[0, 8], top=[0, 16], right=[0, 3], bottom=[0, 8], feathering=[0, 2, 15, 40]
        ),
        "ImageCrop": grid(image=pictures(), width=[1, 4, 512], height=[3, 512], x=[0, 2, 99], y=[0, 5, 99]),
        "ImageCropV2": grid(
            image=pictures(),
            crop_region=[{"x": 1, "y": 2, "width": 3, "height": 4}, {"x": 99, "y": 99, "width": 9, "height": 9}, {}],
        ),
        "PrimitiveBoundingBox": grid(x=1, y=2, width=3, height=4),
        "ImageFlip": grid(image=pictures(), flip_method=["x-axis: vertically", "y-axis: horizontally"]),
        "ImageRotate": grid(image=pictures(), rotation=["none", "90 degrees", "180 degrees", "270 degrees"]),
        "ImageStitch": itertools.chain(
            grid(
                image1=[pictures()[1], pictures()[3]],
                image2=[pictures()[0], pictures()[3], pictures()[4]],
                direction=["right", "down", "left", "up"],
                match_image_size=[True, False],
                spacing_width=[0, 4, 3],
                spacing_color=["white", "black", "red", "blue"],
            ),
            grid(image1=pictures(), direction="right", match_image_size=True, spacing_width=2, spacing_color="red"),
        ),
        "GetImageSize": grid(image=pictures()),
    }


def batches() -> dict[str, Iterator[Case]]:
    tiles = [noise(1, 64, 64, 3, seed=20 + index) for index in range(6)]
    return {
        "RepeatImageBatch": grid(image=pictures(), amount=[1, 3]),
        "ImageFromBatch": grid(image=[noise(5, 3, 2, 3)], batch_index=[-9, -2, 0, 3, 9], length=[1, 2, 99]),
        "RebatchImages": grid(images=[[noise(3, 4, 5, 3), noise(2, 4, 5, 3, seed=1)]], batch_size=[[1], [2], [9]]),
        "BatchImagesNode": grid(
            images=[
                {"image0": noise(1, 6, 5, 3)},
                {"image0": noise(1, 6, 5, 3), "image1": noise(2, 9, 4, 4, seed=1), "image2": noise(1, 6, 5, 3, seed=2)},
            ]
        ),
        "BatchMasksNode": grid(masks=[{"mask0": noise(1, 6, 5), "mask1": noise(2, 9, 4, seed=1)}]),
        "SplitImageToTileList": grid(
            image=[noise(1, 100, 150, 3), noise(2, 64, 64, 3), noise(1, 30, 20, 3)],
            tile_width=[64, 70],
            tile_height=64,
            overlap=[0, 16, 200],
        ),
        "ImageMergeTileList": grid(
            image_list=[tiles], final_width=[[150], [128]], final_height=[[100]], overlap=[[0], [16]]
        ),
    }


def filters() -> dict[str, Iterator[Case]]:
    dithers = ["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"]
    blends = ["normal", "multiply", "screen", "overlay", "soft_light", "difference"]
    return {
        "ImageBlur": grid(image=pictures(), blur_radius=[1, 2, 4, 15], sigma=[0.1, 1.0, 10.0]),
        "ImageSharpen": grid(image=pictures(), sharpen_radius=[1, 3], sigma=[0.3, 1.0], alpha=[0.0, 0.07, 1.0]),
        "ImageBlend": grid(image1=pictures(), image2=pictures(), blend_factor=[0.0, 0.3, 1.0], blend_mode=blends),
        "ImageQuantize": grid(image=[p for p in pictures() if p.shape[-1] == 3], colors=[1, 2, 7, 256], dither=dithers),
        "AdjustBrightness": grid(images=pictures(), factor=[0.0, 0.7, 2.0]),
        "AdjustContrast": grid(images=pictures(), factor=[0.0, 0.7, 2.0]),
        "NormalizeImages": grid(images=pictures(), mean=[0.5, 0.1], std=[0.5, 0.03]),
        "TextOverlay": grid(
            images=[noise(1, 90, 160, 3), noise(2, 33, 20, 3)],
            text=[
                "",
                "Hello",
                "one two three four five six seven\\nand averylongwordthatdoesnotfitinaline\n\nend",
                "x " * 400,
            ],
            font_size=[5.0, 20.0],
            color=["#ffffff", "#12345680"],
            position=["top", "bottom"],
            align=["left", "center", "right"],
            outline=[True, False],
        ),
        "ImageAddNoise": grid(image=pictures(), seed=[0, 7, 2**63], strength=[0.0, 0.5]),
        "Canny": grid(
            image=[*pictures(), bars(130, 177)[None], noise(1, 90, 90, 3, seed=6)],
            low_threshold=[0.01, 0.1, 0.4],
            high_threshold=[0.3, 0.8],
        ),
        "Morphology": grid(
            image=pictures(),
            operation=["erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat"],
            kernel_size=[3, 4, 7, 12],
        ),
        "ImageRGBToYUV": grid(image=[p for p in pictures() if p.shape[-1] == 3]),
        "ImageYUVToRGB": grid(Y=pictures()[0], U=noise(1, 7, 5, 3, seed=8), V=noise(1, 7, 5, 3, seed=9)),
    }


def mask_nodes() -> dict[str, Iterator[Case]]:
    operations = ["multiply", "add", "subtract", "and", "or", "xor"]
    return {
        "MaskToImage": grid(mask=masks()),
        "ImageToMask": grid(image=pictures(), channel=["red", "green", "blue", "alpha"]),
        "ImageColorToMask": grid(
            image=[(p * 2).round() / 2 for p in pictures()] + [p * 1.4 - 0.2 for p in pictures()],
            color=[0, 0xFFFFFF, 0x8000FF, 0x800080],
        ),
        "SolidMask": grid(value=[0.0, 0.3], width=[1, 5], height=[1, 9]),
        "InvertMask": grid(mask=masks()),
        "CropMask": grid(mask=masks(), x=[0, 3, 99], y=[0, 2], width=[1, 50], height=[4]),
        "MaskComposite": grid(
            destination=[masks()[0], masks()[3]],
            source=[masks()[0], masks()[2]],
            x=[0, 3],
            y=[0, 4],
            operation=operations,
        ),
        "FeatherMask": grid(mask=masks(), left=[0, 3, 99], top=[0, 5], right=[0, 4, 99], bottom=[0, 2]),
        "GrowMask": grid(mask=masks(), expand=[0, 1, 2, 3, 7, 25, -1, -4], tapered_corners=[True, False]),
        "ThresholdMask": grid(mask=masks(), value=[0.0, 0.5, 1.0]),
        "ImageCompositeMasked": itertools.chain(
            grid(
                destination=pictures()[:5],
                source=[pictures()[0], pictures()[3]],
                x=[0, 4],
                y=[0, 3],
                resize_source=[True, False],
            ),
            grid(
                destination=[pictures()[1], pictures()[3]],
                source=[pictures()[0], pictures()[1]],
                x=[0, 4],
                y=[0, 3],
                resize_source=[True, False],
                mask=masks(),
            ),
        ),
        "PorterDuffImageComposite": grid(
            source=[noise(2, 9, 7, 3, seed=31)],
            source_alpha=[noise(2, 9, 7, seed=32), noise(3, 5, 4, seed=33)],
            destination=[noise(2, 9, 7, 3, seed=34), noise(1, 12, 8, 3, seed=35)],
            destination_alpha=[noise(2, 9, 7, seed=36), (noise(1, 9, 7, seed=37) > 0.5).float()],
            mode=["ADD", "CLEAR", "DARKEN", "DST", "DST_ATOP", "DST_IN", "DST_OUT", "DST_OVER", "LIGHTEN", "MULTIPLY"]
            + ["OVERLAY", "SCREEN", "SRC", "SRC_ATOP", "SRC_IN", "SRC_OUT", "SRC_OVER", "XOR"],
        ),
        "SplitImageWithAlpha": grid(image=pictures()),
        "JoinImageWithAlpha": grid(image=pictures(), alpha=masks()),
    }


def values() -> dict[str, Iterator[Case]]:
    words = ["", "Hello World", "  some\ttext \n", "aaa bbb\nAAA", "été {a}"]
    regexes = ["a+", "(a)(b)?", "^A", "(", r"\bW(or)"]
    flags = {"case_insensitive": [True, False], "multiline": [True, False], "dotall": False}
    extract_modes = ["First Match", "All Matches", "First Group", "All Groups"]
    sums: list[tuple[str, dict[str, Any]]] = [
        ("a + b", {"a": 1, "b": 2.5}),
        ("sum(values) / 2", {"a": 1, "b": 2}),
        ("sum(a, b, 3)", {"a": 1, "b": 2}),
        ("a if a > b else b ** 2", {"a": 1, "b": 7}),
        ("min(a, b) // 2 % 3 - -a", {"a": 15, "b": 7}),
        ("sqrt(a) + floor(2.7) + pow(2, 3)", {"a": 16}),
        ("not a or b and 1 < b <= 7", {"a": True, "b": 7}),
        ("values[1] * 2", {"a": 1, "b": 2}),
        ("a == 1", {"a": 1}),
        ("1 / a", {"a": 0}),
        ("pow(2, 5000)", {"a": 0}),
        ("__import__('os')", {"a": 0}),
        ("a.__class__", {"a": 0}),
        ("'text'", {"a": 0}),
        ("  ", {"a": 0}),
        ("a b", {"a": 0}),
        ("c", {"a": 0}),
        ("1e308 * 10", {"a": 0}),
    ]
    return {
        "PrimitiveString": grid(value=words),
        "PrimitiveStringMultiline": grid(value=words),
        "PrimitiveInt": grid(value=[0, -7]),
        "PrimitiveFloat": grid(value=[0.5, -7.25]),
        "PrimitiveBoolean": grid(value=[True, False]),
        "SeedNode": grid(seed=[0, 12345]),
        "ColorToRGBInt": grid(color=["#ff8000", "#12345678", "red", "#12345g", "#1234"]),
        "ComfyNumberConvert": grid(value=[True, 3, -2.7, " 12 ", "1e3", "1.5", "", "x", "inf", float("inf"), None]),
        "ComfyMathExpression": ({"expression": text, "values": dict(names)} for text, names in sums),
        "StringConcatenate": grid(string_a=words, string_b=["x"], delimiter=["", ", "]),
        "StringFormat": grid(values=[{"a": 3.14159, "b": "x"}], f_string=["{a:.2f} {b!r}", "{a}", "{c}"]),
        "StringSubstring": grid(string=words, start=[0, 2, -3], end=[5, -1, 0]),
        "StringLength": grid(string=words),
        "CaseConverter": grid(string=words, mode=["UPPERCASE", "lowercase", "Capitalize", "Title Case"]),
        "StringTrim": grid(string=words, mode=["Both", "Left", "Right"]),
        "StringReplace": grid(string=words, find=["l", "aaa"], replace=["", "Z"]),
        "StringContains": grid(string=words, substring=["world", "aaa", ""], case_sensitive=[True, False]),
        "StringCompare": grid(
            string_a=words,
            string_b=["hello", "AAA", ""],
            mode=["Starts With", "Ends With", "Equal"],
            case_sensitive=[True, False],
        ),
        "RegexMatch": grid(string=words, regex_pattern=regexes, **flags),
        "RegexExtract": grid(string=words, regex_pattern=regexes, mode=extract_modes, group_index=[0, 1, 2], **flags),
        "RegexReplace": grid(string=words, regex_pattern=regexes, replace=["-", r"<\g<0>>"], count=[0, 1], **flags),
        "JsonExtractString": grid(
            json_string=['{"a": 1, "b": null, "c": "x", "d": [1, 2]}', "[1]", "{"], key=["a", "b", "c", "d", "e"]
        ),
        "ConvertDictionaryToString": grid(dictionary=[{"a": "é", "b": [1]}], indent=[0, 2]),
        "ConvertArrayToString": grid(array=[[1, "é"]], indent=[0, 2]),
        "ComfyNotNode": grid(value=[True, 0, "", "x"]),
        "ComfyAndNode": grid(values=[{"value0": 1, "value1": 0}, {"value0": "x"}]),
        "ComfyOrNode": grid(values=[{"value0": 0, "value1": 0}, {"value0": "x", "value1": 0}]),
        "ComfySwitchNode": grid(switch=[True, False], on_true="yes", on_false="no"),
        "CustomCombo": grid(choice=["a"], index=[2]),
        "CreateList": ({"inputs": item} for item in ({"input0": [1, 2], "input1": ["x"]}, {"input0": []})),
        "PreviewAny": grid(source=["text", 3, True, None, {"a": [1]}, noise(2, 2)]),
    }


def sounds() -> dict[str, Iterator[Case]]:
    def sound(channels: int, samples: int, rate: int = 8000, seed: int = 0) -> dict[str, Any]:
        return {"waveform": noise(1, channels, samples, seed=seed) * 2 - 1, "sample_rate": rate}

    stereo, mono, none = sound(2, 400), sound(1, 300, seed=1), None
    other_rate = sound(2, 441, rate=11025, seed=2)
    gains = {"low_gain_dB": [0.0, 6.0], "mid_gain_dB": [0.0, -6.0], "high_gain_dB": [0.0, 12.0]}
    return {
        "EmptyAudio": grid(duration=[0.0, 0.5], sample_rate=[8000, 44100], channels=[1, 2]),
        "AudioConcat": grid(
            audio1=[stereo, mono, none], audio2=[stereo, mono, none, other_rate], direction=["after", "before"]
        ),
        "AudioMerge": grid(
            audio1=[stereo, mono, none],
            audio2=[stereo, mono, none, other_rate],
            merge_method=["add", "mean", "subtract", "multiply"],
        ),
        "AudioAdjustVolume": grid(audio=[stereo, none], volume=[0, 6, -20]),
        "TrimAudioDuration": grid(
            audio=[stereo, none], start_index=[0.0, 0.01, -0.02, 9.0], duration=[0.0, 0.01, 60.0]
        ),
        "SplitAudioChannels": grid(audio=[stereo, mono, none]),
        "JoinAudioChannels": grid(audio_left=[mono, stereo, none], audio_right=[mono, sound(1, 200, rate=16000), none]),
        "AudioEqualizer3Band": grid(
            audio=[stereo, none], low_freq=100, mid_freq=1000, mid_q=0.707, high_freq=3000, **gains
        ),
    }


def all_cases() -> dict[str, list[Case]]:
    """Cases by class key."""
    groups = (scaling(), transforms(), batches(), filters(), mask_nodes(), values(), sounds())
    return {key: list(cases) for group in groups for key, cases in group.items()}
