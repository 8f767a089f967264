"""The tiny autoencoder for video: 2D convolutions, blocks that look one frame back, and halving or doubling of time.

The layers and the names of their weights are those of the published TAEHV family (`taew2_1` for Wan 2.1), so that its
files load. It works on latents as the transformer has them, without a mean or a spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from comfystream.errors import AssetError

from ..loading.weights import fill
from .autoencoder import Memory, VideoAutoencoder
from .pipelines import FRAMES_PER_LATENT

__all__ = ["TinyVideoAutoencoder", "tiny_autoencoder_of", "tiny_video_autoencoder"]

BLOCKS = 3  # per resolution
DECODER_CONVOLUTIONS = (1, 8, 14, 20, 22)  # their places, which the files' names hold
LIMIT = 3.0  # latents are softly clamped to this


def _convolution(wide: int, high: int, stride: int = 1, has_bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(wide, high, 3, stride, 1, bias=has_bias)


class _Limit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / LIMIT) * LIMIT


class MemBlock(nn.Module):
    """Three convolutions over a frame and the one before it, around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _convolution(2 * width, width), nn.ReLU(), _convolution(width, width), nn.ReLU(), _convolution(width, width)
        )

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """[frames, channels, height, width] each; `before` are the same frames, one earlier."""
        return torch.relu(self.conv(torch.cat([x, before], 1)) + x)


class TPool(nn.Module):
    """Joins `stride` frames to one."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.conv = stride, nn.Conv2d(width * stride, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.reshape(-1, self.stride * x.shape[1], *x.shape[2:]))


class TGrow(nn.Module):
    """Makes `stride` frames of one."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.conv = stride, nn.Conv2d(width, width * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).reshape(-1, x.shape[1], *x.shape[2:])


def _encoder(width: int, channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = [_convolution(3, width), nn.ReLU()]
    for stride in (2, 2, 1):
        layers += [TPool(width, stride), _convolution(width, width, 2, has_bias=False)]
        layers += [MemBlock(width) for _ in range(BLOCKS)]
    return [*layers, _convolution(width, channels)]


def _decoder(widths: Sequence[int], channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = [_Limit(), _convolution(channels, widths[0]), nn.ReLU()]
    for width, following, stride in zip(widths, widths[1:], (1, 2, 2), strict=False):
        layers += [*(MemBlock(width) for _ in range(BLOCKS)), nn.Upsample(scale_factor=2), TGrow(width, stride)]
        layers.append(_convolution(width, following, has_bias=False))
    return [*layers, nn.ReLU(), _convolution(widths[-1], 3)]


class _Layers(nn.Sequential):
    """One half: layers in a row. A place of the memory per block, with the last frame that it saw."""

    settles = 1

    def __init__(self, layers: list[nn.Module], repeats: int = 1, trims: int = 0) -> None:
        super().__init__(*layers)
        self._repeats, self._trims = repeats, trims
        self.places = sum(isinstance(layer, MemBlock) for layer in layers)

    def run(self, x: Tensor, memory: Memory, is_first: bool) -> Tensor:
        """See `Half.run`: the first picture stands for the three before it, and what is made of these is left out."""
        if is_first:
            x = x.expand(self._repeats, -1, -1, -1) if self._repeats > 1 else x
        place = 0
        for layer in self:
            if not isinstance(layer, MemBlock):
                x = layer(x)
                continue
            last = torch.zeros_like(x[:1]) if memory[place] is None else memory[place]
            memory[place] = x[-1:]
            x, place = layer(x, torch.cat([last, x[:-1]])), place + 1
        return x[self._trims :] if is_first else x


class TinyVideoAutoencoder(nn.Module):
    """Both halves.

    Args:
        encoder_width: channels of the encoder's layers.
        decoder_widths: of the decoder's, four, from the smallest picture to the largest.
        channels: of a latent.
    """

    def __init__(
        self, encoder_width: int = 64, decoder_widths: Sequence[int] = (256, 128, 64, 64), channels: int = 16
    ) -> None:
        super().__init__()
        self.encoder = _Layers(_encoder(encoder_width, channels), repeats=FRAMES_PER_LATENT)
        self.decoder = _Layers(_decoder(decoder_widths, channels), trims=FRAMES_PER_LATENT - 1)
        self.channels = channels


def tiny_video_autoencoder(module: TinyVideoAutoencoder) -> VideoAutoencoder:
    """For streams."""
    return VideoAutoencoder("tae", module, module.encoder, module.decoder, module.channels)


def tiny_autoencoder_of(weights: Mapping[str, Tensor], what: str) -> TinyVideoAutoencoder:
    """The network that a file holds; its widths are read off it.

    Raises:
        AssetError: it is of another architecture.
    """
    names = ["encoder.0.weight", *(f"decoder.{place}.weight" for place in DECODER_CONVOLUTIONS)]
    if any(name not in weights for name in names):
        raise AssetError(
            f"{what} is no tiny video autoencoder",
            code="weights_do_not_fit",
            hint="use a file such as taew2_1, or set vae_type to wan",
        )
    first, *others = (weights[name] for name in names)
    widths = [one.shape[0] for one in others[:4]]
    with torch.device("meta"):
        module = TinyVideoAutoencoder(first.shape[0], widths, others[0].shape[1])
    return fill(module, _grown(module, weights), what)


def _grown(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Some files hold a doubling of time where this network has none; the last of its frames is what counts."""
    fitted = dict(weights)
    for name, layer in module.named_modules():
        key = f"{name}.conv.weight"
        if isinstance(layer, TGrow) and key in fitted:
            fitted[key] = fitted[key][-layer.conv.out_channels :]
    return fitted
