"""Networks that enlarge pictures, made from their weights: SRVGGNetCompact, RRDBNet (ESRGAN) and FSRCNN.

Layers and names as published: "Real-ESRGAN" (arXiv 2107.10833) for the first two, "ESRGAN" (arXiv 1809.00219) for the
second and its older names, "Accelerating the Super-Resolution Convolutional Neural Network" (arXiv 1608.00367) for the
third. Pictures are [n, 3, height, width] of 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_unshuffle

from comfystream.errors import AssetError

__all__ = ["Fsrcnn", "RrdbNet", "SrvggNet", "upscaler_of"]

LEAK = 0.2
BLACK, SWING = 16 / 255, 219 / 255  # of brightness in 8 bits as ITU-R BT.601 has it


class SrvggNet(nn.Module):
    """A row of 3x3 convolutions at the small size, then one pixel shuffle; the result is added to the nearest pixels.

    Args:
        width: channels inside.
        convolutions: between the first and the last one.
        scale: times in each direction.
    """

    def __init__(self, width: int = 64, convolutions: int = 16, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.ModuleList([*layers, nn.Conv2d(width, 3 * scale * scale, 3, padding=1)])
        self.upsampler = nn.PixelShuffle(scale)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for layer in self.body:
            x = layer(x)
        larger: Tensor = self.upsampler(x) + interpolate(images, scale_factor=float(self.scale), mode="nearest")
        return larger


class _Dense(nn.Module):
    """Five convolutions, each of which sees what all before it gave."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for number in range(4):
            setattr(self, f"conv{number + 1}", nn.Conv2d(width + number * growth, growth, 3, padding=1))
        self.conv5 = nn.Conv2d(width + 4 * growth, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for number in range(4):
            made = nn.functional.leaky_relu(getattr(self, f"conv{number + 1}")(seen), LEAK)
            seen = torch.cat((seen, made), 1)
        result: Tensor = self.conv5(seen) * 0.2 + x
        return result


class _DenseInDense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (_Dense(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x
        return result


class RrdbNet(nn.Module):
    """Residual blocks of dense blocks at the small size, then one convolution per doubling.

    Args:
        width: channels inside.
        growth: channels that each convolution in a dense block adds.
        blocks: how many residual blocks.
        doublings: how often the picture is doubled.
        unshuffle: the picture is first folded by this (2 and 1 times enlargement, with two doublings).
    """

    def __init__(
        self, width: int = 64, growth: int = 32, blocks: int = 23, doublings: int = 2, unshuffle: int = 1
    ) -> None:
        super().__init__()
        self.unshuffle, self.doublings = unshuffle, doublings
        self.scale = 2**doublings // unshuffle
        self.conv_first = nn.Conv2d(3 * unshuffle**2, width, 3, padding=1)
        self.body = nn.Sequential(*(_DenseInDense(width, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        for number in range(doublings):
            setattr(self, f"conv_up{number + 1}", nn.Conv2d(width, width, 3, padding=1))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_first(pixel_unshuffle(images, self.unshuffle) if self.unshuffle > 1 else images)
        x = x + self.conv_body(self.body(x))
        for number in range(self.doublings):
            larger = interpolate(x, scale_factor=2.0, mode="nearest")
            x = nn.functional.leaky_relu(getattr(self, f"conv_up{number + 1}")(larger), LEAK)
        result: Tensor = self.conv_last(nn.functional.leaky_relu(self.conv_hr(x), LEAK))
        return result


class Fsrcnn(nn.Module):
    """Works on the brightness alone, in the range that the published weights were trained with (16 to 235 of 255).

    The colours are enlarged bicubically.

    Args:
        width: channels of the features, d.
        inner: channels of the mapping, s.
        mappings: 3x3 convolutions between shrinking and expanding, m.
        scale: times in each direction.
    """

    def __init__(self, width: int = 56, inner: int = 12, mappings: int = 4, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.first_part = nn.Sequential(nn.Conv2d(1, width, 5, padding=2), nn.PReLU(width))
        middle: list[nn.Module] = [nn.Conv2d(width, inner, 1), nn.PReLU(inner)]
        for _ in range(mappings):
            middle += [nn.Conv2d(inner, inner, 3, padding=1), nn.PReLU(inner)]
        self.mid_part = nn.Sequential(*middle, nn.Conv2d(inner, width, 1), nn.PReLU(width))
        self.last_part = nn.ConvTranspose2d(width, 1, 9, scale, padding=4, output_padding=scale - 1)

    def forward(self, images: Tensor) -> Tensor:
        red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        chroma = torch.cat(((blue - luma) / 1.772, (red - luma) / 1.402), 1)
        made = self.last_part(self.mid_part(self.first_part(luma * SWING + BLACK)))
        y = (made - BLACK) / SWING
        colours = interpolate(chroma, scale_factor=float(self.scale), mode="bicubic", align_corners=False)
        r, b = y + 1.402 * colours[:, 1:2], y + 1.772 * colours[:, 0:1]
        return torch.cat((r, (y - 0.299 * r - 0.114 * b) / 0.587, b), 1)


def upscaler_of(weights: Mapping[str, Tensor], name: str, scale: int = 0) -> Any:
    """The network that weights belong to, filled with them.

    Args:
        weights: by the names of the published files; what stands under "params_ema" or "params" is found there.
        name: of the file, for messages; FSRCNN's enlargement stands in no weight, only in it ("fsrcnn_x2.pth").
        scale: of an FSRCNN, when its name does not say it; 0 reads the name.

    Returns:
        A module with `scale`.

    Raises:
        AssetError: another architecture, or weights that do not fit together.
    """
    plain = _unwrapped(weights)
    for is_one, make in ((_is_srvgg, _srvgg), (_is_rrdb, _rrdb), (_is_fsrcnn, _fsrcnn)):
        if is_one(plain):
            try:
                return make(plain, name, scale)
            except (RuntimeError, KeyError, IndexError, ValueError) as error:
                if isinstance(error, AssetError):
                    raise
                said = " ".join(str(error).split())[:160]
                raise AssetError(
                    f"{name}: its weights do not make an upscaler: {said}", code="weights_do_not_fit"
                ) from error
    raise AssetError(
        f"{name}: neither SRVGGNetCompact nor RRDBNet (ESRGAN) nor FSRCNN",
        code="wrong_weights",
        hint="other architectures need the package spandrel (and torchvision)",
    )


def _unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what training scripts put around: `params_ema.`, `params.`, `module.`; and with ESRGAN's newer names."""
    plain = dict(weights)
    for prefix in ("params_ema.", "params.", "state_dict.", "module."):
        inner = {name[len(prefix) :]: value for name, value in plain.items() if name.startswith(prefix)}
        plain = inner or plain
    return _newer_names(plain) if "model.0.weight" in plain and "model.1.sub.0.RDB1.conv1.0.weight" in plain else plain


OLD_BLOCK = re.compile(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.(weight|bias)")


def _newer_names(old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    last = max(int(found[1]) for name in old if (found := re.fullmatch(r"model\.(\d+)\.weight", name)))
    doublings = (last - 4) // 3
    blocks = max(int(found[1]) for name in old if (found := re.match(r"model\.1\.sub\.(\d+)\.", name)))
    modules = {"model.0": "conv_first", f"model.1.sub.{blocks}": "conv_body"}
    modules |= {f"model.{3 * number}": f"conv_up{number}" for number in range(1, doublings + 1)}
    modules |= {f"model.{last - 2}": "conv_hr", f"model.{last}": "conv_last"}
    renamed = {}
    for name, value in old.items():
        if found := OLD_BLOCK.fullmatch(name):
            renamed[f"body.{found[1]}.rdb{found[2]}.conv{found[3]}.{found[4]}"] = value
        else:
            module, _, leaf = name.rpartition(".")
            renamed[f"{modules.get(module, module)}.{leaf}"] = value
    return renamed


def _is_srvgg(weights: Mapping[str, Tensor]) -> bool:
    return "body.0.weight" in weights and "body.1.weight" in weights and weights["body.0.weight"].ndim == 4


def _is_rrdb(weights: Mapping[str, Tensor]) -> bool:
    return {"conv_first.weight", "body.0.rdb1.conv1.weight", "conv_last.weight"} <= set(weights)


def _is_fsrcnn(weights: Mapping[str, Tensor]) -> bool:
    return {"first_part.0.weight", "mid_part.0.weight", "last_part.weight"} <= set(weights)


def _filled(module: Any, weights: Mapping[str, Tensor]) -> Any:
    module.load_state_dict(dict(weights))
    return module.eval().requires_grad_(False)


def _srvgg(weights: Mapping[str, Tensor], name: str, scale: int) -> Any:
    last = max(int(key.split(".")[1]) for key in weights if key.startswith("body."))
    enlarged = _root(weights[f"body.{last}.weight"].shape[0] / 3, name)
    return _filled(SrvggNet(weights["body.0.weight"].shape[0], (last - 2) // 2, enlarged), weights)


def _rrdb(weights: Mapping[str, Tensor], name: str, scale: int) -> Any:
    blocks = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("body."))
    doublings = sum(f"conv_up{number}.weight" in weights for number in range(1, 5))
    width, channels = weights["conv_first.weight"].shape[:2]
    growth = weights["body.0.rdb1.conv1.weight"].shape[0]
    return _filled(RrdbNet(width, growth, blocks, doublings, _root(channels / 3, name)), weights)


def _fsrcnn(weights: Mapping[str, Tensor], name: str, scale: int) -> Any:
    found = re.search(r"x(\d)|(\d)x", name.lower())
    enlarged = scale or int(found[1] or found[2] if found else 0)
    if not 2 <= enlarged <= 4:
        raise AssetError(
            f"{name}: how much an FSRCNN enlarges stands in its name, and this one does not say",
            code="wrong_weights",
            hint="give the scale, or rename the file: fsrcnn_x2.pth",
        )
    mappings = (max(int(key.split(".")[1]) for key in weights if key.startswith("mid_part.")) - 3) // 2
    width, inner = weights["first_part.0.weight"].shape[0], weights["mid_part.0.weight"].shape[0]
    return _filled(Fsrcnn(width, inner, mappings, enlarged), weights)


def _root(value: float, name: str) -> int:
    root: int = round(value**0.5)
    if root < 1 or root * root != value:
        raise AssetError(f"{name}: gives or takes {value * 3:g} channels, which is no picture", code="wrong_weights")
    return root
