"""Wan's own autoencoder, and pruned ones of the same layout, by diffusers' `AutoencoderKLWan`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from comfystream.errors import AssetError

from .autoencoder import Memory, VideoAutoencoder

__all__ = ["wan_autoencoder"]

SETTLES = 2  # the first call has no past, the second one frame of it; then all convolutions have what they look back at


class _Scaled(nn.Module):
    """What both halves share: the mean and the spread of latents, [channels, 1, 1] each."""

    mean: Tensor
    spread: Tensor

    def __init__(self, vae: Any) -> None:
        super().__init__()
        for name, values in (("mean", vae.config.latents_mean), ("spread", vae.config.latents_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)


class _Encoder(_Scaled):
    settles = SETTLES

    def __init__(self, vae: Any) -> None:
        super().__init__(vae)
        self.net, self.leave = vae.encoder, vae.quant_conv
        self.places = vae._cached_conv_counts["encoder"]

    def run(self, x: Tensor, memory: Memory, is_first: bool) -> Tensor:
        found = self.leave(self.net((x * 2 - 1).transpose(0, 1)[None], feat_cache=memory, feat_idx=[0]))
        mean = found[0, : found.shape[1] // 2].transpose(0, 1)
        return (mean - self.mean.to(mean)) / self.spread.to(mean)


class _Decoder(_Scaled):
    settles = SETTLES

    def __init__(self, vae: Any) -> None:
        super().__init__(vae)
        self.net, self.enter = vae.decoder, vae.post_quant_conv
        self.places = vae._cached_conv_counts["decoder"]

    def run(self, x: Tensor, memory: Memory, is_first: bool) -> Tensor:
        latent = (x * self.spread.to(x) + self.mean.to(x)).transpose(0, 1)[None]
        made = self.net(self.enter(latent), feat_cache=memory, feat_idx=[0], first_chunk=is_first)
        return made[0].transpose(0, 1) / 2 + 0.5


def wan_autoencoder(vae: Any, what: str) -> VideoAutoencoder:
    """An `AutoencoderKLWan` for streams.

    Args:
        vae: of Wan 2.1's kind, of any width.
        what: for messages.

    Raises:
        AssetError: it is of Wan 2.2's kind, which these transformers do not know.
    """
    config = vae.config
    if config.is_residual or config.patch_size or sum(config.temperal_downsample) != 2:
        raise AssetError(
            f"{what} is no autoencoder of Wan 2.1's kind", code="weights_do_not_fit", hint="these models use Wan 2.1's"
        )
    module = nn.ModuleDict({"encoder": _Encoder(vae), "decoder": _Decoder(vae)})
    shrink = 2 ** (len(config.dim_mult) - 1)
    return VideoAutoencoder("wan", module, module["encoder"], module["decoder"], config.z_dim, shrink)
