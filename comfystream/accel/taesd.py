"""The tiny autoencoder of Stable Diffusion, TAESD (Ollin Boer Bohan): 1.2 million weights each way.

The layers are numbered as in its published weights (`taesd_encoder.safetensors`, `taesd_decoder.safetensors`), which
ComfyUI keeps in `models/vae_approx`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from comfystream.errors import AssetError

from .weights import read_weights

__all__ = ["TaesdDecoder", "TaesdEncoder", "load_taesd"]

LATENT = 4


class _Clamp(nn.Module):
    def forward(self, latent: Tensor) -> Tensor:
        return torch.tanh(latent / 3) * 3


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(width), nn.ReLU(), _conv(width), nn.ReLU(), _conv(width))
        self.fuse = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fuse(self.conv(x) + x)
        return result


def _conv(width: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, stride=stride, bias=bias)


class TaesdEncoder(nn.Module):
    """Picture [n, 3, h, w] in 0..1 -> latent [n, 4, h/8, w/8]; it is not scaled further.

    Args:
        width: channels inside; 64 is what weights are published for.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), _Block(width)]
        for _ in range(3):
            layers += [_conv(width, stride=2, bias=False), _Block(width), _Block(width), _Block(width)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, LATENT, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.layers(image)
        return latent


class TaesdDecoder(nn.Module):
    """Latent [n, 4, h, w] -> picture [n, 3, 8h, 8w], about 0..1.

    Args:
        width: channels inside; 64 is what weights are published for.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Clamp(), nn.Conv2d(LATENT, width, 3, padding=1), nn.ReLU()]
        for _ in range(3):
            layers += [
                _Block(width),
                _Block(width),
                _Block(width),
                nn.Upsample(scale_factor=2),
                _conv(width, bias=False),
            ]
        self.layers = nn.Sequential(*layers, _Block(width), nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.layers(latent)
        return image


def load_taesd(path: Path) -> TaesdEncoder | TaesdDecoder:
    """A published half of the autoencoder, the encoder or the decoder by its weights.

    Raises:
        AssetError: the file is broken, or holds something else.
    """
    weights = read_weights(path)
    module: TaesdEncoder | TaesdDecoder
    first = weights.get("0.weight")
    try:
        if first is not None and first.shape[1] == 3:
            module = TaesdEncoder(first.shape[0])
        else:
            module = TaesdDecoder(weights["1.weight"].shape[0])
        module.layers.load_state_dict(weights)
    except (KeyError, RuntimeError, IndexError) as error:
        raise AssetError(f"{path}: these are not the weights of a TAESD", code="wrong_weights") from error
    return module
