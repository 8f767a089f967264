"""A VAE or TAESD by a backend: for ComfyUI's VAEEncode and VAEDecode, and nodes that keep tensors on the device."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from comfystream.errors import AssetError, EngineError

from .ready import (
    CATEGORY,
    backend_input,
    file_of,
    files_in,
    named,
    precision_input,
    ranges_for,
    ready,
    resolved_precision,
    size_input,
)

if TYPE_CHECKING:
    from torch import Tensor

    from comfystream.accel.picture_vae import VaeHalves
    from comfystream.accel.runner import Runner

__all__ = ["NODES", "AcceleratedVae", "accelerated_vae"]

SHRINK = 8


class AcceleratedVae:
    """In the place of ComfyUI's VAE object.

    Args:
        encoder: pictures of 0..1 to latents; None where there is none.
        decoder: back; None where there is none.
        channels: of the latent.
        engines: digests of the engines in use, for people.
    """

    downscale_ratio = upscale_ratio = SHRINK
    output_channels = 3
    latent_dim = 2

    def __init__(
        self, encoder: Runner | None, decoder: Runner | None, channels: int, engines: tuple[str, ...] = ()
    ) -> None:
        self._encoder, self._decoder = encoder, decoder
        self.latent_channels = channels
        self.engines = engines

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """Latent of pictures.

        Args:
            pixel_samples: [n, height, width, 3] of 0..1; what does not fill a latent value is cut off at both sides.

        Returns:
            [n, channels, height/8, width/8], on the device.

        Raises:
            EngineError: there is no encoder, or it was made for another size.
        """
        if self._encoder is None:
            raise EngineError("this autoencoder has no encoder", code="no_encoder", hint="it lacks its other file")
        picture = pixel_samples[..., :3]
        height, width = (side // SHRINK * SHRINK for side in picture.shape[1:3])
        top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
        cut = picture[:, top : top + height, left : left + width].movedim(-1, 1)
        return _one_by_one(self._encoder, "images", cut)

    def decode(self, samples_in: Tensor, vae_options: Any = None) -> Tensor:
        """Pictures of latents.

        Args:
            samples_in: [n, channels, h, w].
            vae_options: of ComfyUI; none has an effect here.

        Returns:
            [n, 8h, 8w, 3] of 0..1, on the device.

        Raises:
            EngineError: there is no decoder, or it was made for another size.
        """
        if self._decoder is None:
            raise EngineError("this autoencoder has no decoder", code="no_decoder", hint="it lacks its other file")
        return _one_by_one(self._decoder, "latent", samples_in).movedim(1, -1)

    def encode_tiled(self, pixel_samples: Tensor, **sizes: Any) -> Tensor:
        """As `encode`: whole pictures, for an engine has one size."""
        return self.encode(pixel_samples)

    def decode_tiled(self, samples: Tensor, **sizes: Any) -> Tensor:
        """As `decode`."""
        return self.decode(samples)

    def spacial_compression_encode(self) -> int:
        """ComfyUI's word for pixels per latent value."""
        return SHRINK

    def spacial_compression_decode(self) -> int:
        """The same on the way back."""
        return SHRINK

    def temporal_compression_decode(self) -> None:
        """There is no time in a picture."""


def _one_by_one(runner: Runner, name: str, value: Tensor) -> Tensor:
    """Rows in parts that the runner takes; the result is the caller's own, in single precision."""
    import torch

    most = runner.spec.input(name).at("max")[0]
    groups = [value[start : start + most] for start in range(0, len(value), most)]
    parts = [runner.results({name: some})[runner.spec.outputs[0]].float() for some in groups]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def accelerated_vae(halves: VaeHalves, backend: str, width: int, height: int, precision: str) -> AcceleratedVae:
    """Both halves on a backend.

    Raises:
        EngineError: the backend is not here, or cannot run them.
    """
    from comfystream.accel.model_specs import decoder_spec, encoder_spec

    # The large autoencoder of SDXL leaves the range of fp16.
    exact = resolved_precision(precision, backend, "fp16" if halves.is_tiny else "bf16")
    ranges = ranges_for(backend, 1, height, width)
    made = []
    for half, spec in (
        (halves.encoder, encoder_spec(ranges, exact)),
        (halves.decoder, decoder_spec(ranges, exact, channels=halves.channels)),
    ):
        made.append(ready(half, spec, backend) if half is not None else None)
    encoder, decoder = (one.runner if one is not None else None for one in made)
    engines = tuple(one.engine for one in made if one is not None and one.engine)
    return AcceleratedVae(encoder, decoder, halves.channels, engines)


def _sizes() -> dict[str, Any]:
    return {"width": size_input(), "height": size_input(), "precision": precision_input()}


class AcceleratedVAE:
    """A VAE that is loaded already, by a backend."""

    CATEGORY, FUNCTION = CATEGORY, "accelerate"
    RETURN_TYPES: ClassVar = ("VAE",)
    DESCRIPTION = "Runs a VAE by a backend; engines are built here, once, and kept. Goes into VAE Encode and Decode."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"vae": ("VAE",), "backend": backend_input(), **_sizes()}}

    def accelerate(self, vae: Any, backend: str, width: int, height: int, precision: str) -> tuple[AcceleratedVae]:
        from comfystream.accel.picture_vae import halves_of

        with named("AcceleratedVAE"):
            own = copy.copy(vae)
            if hasattr(own, "first_stage_model"):  # ComfyUI moves and casts its own
                own.first_stage_model = copy.deepcopy(own.first_stage_model)
            else:
                own = copy.deepcopy(vae)
            return (accelerated_vae(halves_of(own), backend, width, height, precision),)


class AcceleratedTAESDLoader:
    """A TAESD from its files, by a backend."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES: ClassVar = ("VAE",)
    DESCRIPTION = "Loads the tiny autoencoder from models/vae_approx and runs it by a backend."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        found = sorted({name.rsplit("_", 1)[0] for name in files_in("vae_approx") if name.startswith("taesd")})
        names = [name for name in found if name in ("taesd", "taesdxl")] or ["taesd", "taesdxl"]
        return {"required": {"taesd": (names,), "backend": backend_input(), **_sizes()}}

    def load(self, taesd: str, backend: str, width: int, height: int, precision: str) -> tuple[AcceleratedVae]:
        with named("AcceleratedTAESDLoader"):
            return (accelerated_vae(_taesd_halves(taesd), backend, width, height, precision),)


def _taesd_halves(name: str) -> VaeHalves:
    from comfystream.accel.picture_vae import TAESD_SCALES, PictureDecoder, PictureEncoder, VaeHalves
    from comfystream.accel.taesd import TaesdDecoder, TaesdEncoder, load_taesd

    scale = TAESD_SCALES[name]
    encoder = load_taesd(_half_file(name, "encoder"))
    decoder = load_taesd(_half_file(name, "decoder"))
    if not isinstance(encoder, TaesdEncoder) or not isinstance(decoder, TaesdDecoder):
        raise AssetError(f"{name}: encoder and decoder are in each other's place", code="wrong_weights")
    return VaeHalves(PictureEncoder(encoder, scale=scale), PictureDecoder(decoder, scale=scale), is_tiny=True)


def _half_file(name: str, half: str) -> Path:
    path: Path = file_of(f"{name}_{half}.safetensors", "vae_approx")
    return path


class AcceleratedVAEEncode:
    """As VAEEncode, without a copy to the processor."""

    CATEGORY, FUNCTION = CATEGORY, "encode"
    RETURN_TYPES: ClassVar = ("LATENT",)
    DESCRIPTION = "Pictures to latents by an accelerated VAE; the latents stay on the GPU."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"pixels": ("IMAGE",), "vae": ("VAE",)}}

    def encode(self, pixels: Tensor, vae: Any) -> tuple[dict[str, Tensor]]:
        with named("AcceleratedVAEEncode"):
            return ({"samples": vae.encode(pixels)},)


class AcceleratedVAEDecode:
    """As VAEDecode, without a copy to the processor."""

    CATEGORY, FUNCTION = CATEGORY, "decode"
    RETURN_TYPES: ClassVar = ("IMAGE",)
    DESCRIPTION = "Latents to pictures by an accelerated VAE; the pictures stay on the GPU."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"samples": ("LATENT",), "vae": ("VAE",)}}

    def decode(self, samples: dict[str, Tensor], vae: Any) -> tuple[Tensor]:
        with named("AcceleratedVAEDecode"):
            return (vae.decode(samples["samples"]),)


NODES: dict[str, tuple[type, str]] = {
    "AcceleratedVAE": (AcceleratedVAE, "Accelerated VAE"),
    "AcceleratedTAESDLoader": (AcceleratedTAESDLoader, "Load TAESD (accelerated)"),
    "AcceleratedVAEEncode": (AcceleratedVAEEncode, "VAE Encode (stays on the GPU)"),
    "AcceleratedVAEDecode": (AcceleratedVAEDecode, "VAE Decode (stays on the GPU)"),
}
