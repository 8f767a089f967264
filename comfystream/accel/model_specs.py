"""What diffusion models take, by rows and sizes: the inputs and outputs of the modules in `modules`."""

from __future__ import annotations

from dataclasses import dataclass

from comfystream.errors import EngineError

from .spec import PRECISIONS, Axis, ModelSpec, TensorSpec

__all__ = ["SCALE", "Ranges", "controlnet_spec", "decoder_spec", "encoder_spec", "unet_spec"]

SCALE = 8  # pixels per latent value, each way


@dataclass(frozen=True, slots=True)
class Ranges:
    """How many rows and what sizes an engine takes: each a number, or (min, opt, max).

    Args:
        batch: rows.
        height: of the picture, in pixels, a multiple of 8; of 64 for a UNet that is to take several sizes.
        width: likewise.
        tokens: of the text.
        step: in a range, sizes are multiples of this, in pixels.
    """

    batch: int | tuple[int, int, int] = 1
    height: int | tuple[int, int, int] = 512
    width: int | tuple[int, int, int] = 512
    tokens: int | tuple[int, int, int] = 77
    step: int = 64

    def axis(self, name: str, per: int = 1) -> int | Axis:
        """One of them as a size: a picture's height in units of `per` pixels."""
        value: int | tuple[int, int, int] = getattr(self, name)
        if isinstance(value, int):
            return value // per
        low, best, high = (size // per for size in value)
        step = self.step // per if name in ("height", "width") else 1
        return low if low == high else Axis(name, low, best, high, max(1, step))


def unet_spec(
    ranges: Ranges,
    precision: str = "fp32",
    *,
    text_width: int = 768,
    channels: int = 4,
    pooled_width: int = 0,
    residuals: tuple[tuple[int, int], ...] = (),
    picture_layers: int = 0,
    guidance_width: int = 0,
) -> ModelSpec:
    """Inputs of `UNetModule`.

    Args:
        ranges: rows and sizes.
        precision: of weights and inputs; time steps are always float32.
        text_width: 768 for SD 1.x, 1024 for SD 2.x and SD-Turbo, 2048 for SDXL.
        channels: of the latent.
        pooled_width: 1280 for SDXL; 0 for models without pooled text.
        residuals: (channels, division) of each residual, the middle one last.
        picture_layers: in how many layers an IP-Adapter works; 0 for none.
        guidance_width: of what a model that was distilled with guidance is told of its scale, 256; 0 for others.
    """
    dtype, batch = PRECISIONS[precision], ranges.axis("batch")
    inputs = [
        TensorSpec("sample", dtype, (batch, channels, ranges.axis("height", SCALE), ranges.axis("width", SCALE))),
        TensorSpec("timestep", "float32", (batch,)),
        TensorSpec("encoder_hidden_states", dtype, (batch, ranges.axis("tokens"), text_width)),
    ]
    if picture_layers:
        inputs.append(TensorSpec("ipadapter_scale", dtype, (picture_layers,)))
    if guidance_width:
        inputs.append(TensorSpec("timestep_cond", dtype, (batch, guidance_width)))
    if pooled_width:
        inputs += [TensorSpec("text_embeds", dtype, (batch, pooled_width)), TensorSpec("time_ids", dtype, (batch, 6))]
    for index, (width, division) in enumerate(residuals):
        name = "input_control_middle" if index == len(residuals) - 1 else f"input_control_{index:02d}"
        inputs.append(TensorSpec(name, dtype, (batch, width, *_divided(ranges, division))))
    return ModelSpec("unet", tuple(inputs), ("latent",), precision)


def _divided(ranges: Ranges, division: int) -> tuple[int | Axis, int | Axis]:
    height, width = (ranges.axis(name, SCALE * division) for name in ("height", "width"))
    if isinstance(height, Axis) or isinstance(width, Axis):
        raise EngineError(
            "an engine with ControlNet residuals has one size",
            code="bad_profile",
            hint="give height and width as numbers",
        )
    return height, width


def controlnet_spec(
    ranges: Ranges, precision: str = "fp32", *, text_width: int = 768, outputs: int = 13, pooled_width: int = 0
) -> ModelSpec:
    """Inputs of `ControlNetModule`, and its outputs: the down residuals, then the middle one."""
    base = unet_spec(ranges, precision, text_width=text_width, pooled_width=pooled_width)
    dtype, batch = PRECISIONS[precision], ranges.axis("batch")
    picture = TensorSpec("controlnet_cond", dtype, (batch, 3, ranges.axis("height"), ranges.axis("width")))
    inputs = (*base.inputs[:3], picture, TensorSpec("conditioning_scale", dtype, (1,)), *base.inputs[3:])
    names = (*(f"down_{index:02d}" for index in range(outputs - 1)), "middle")
    return ModelSpec("controlnet", inputs, names, precision)


def encoder_spec(ranges: Ranges, precision: str = "fp32", name: str = "vae_encoder") -> ModelSpec:
    """Picture -> latent."""
    shape = (ranges.axis("batch"), 3, ranges.axis("height"), ranges.axis("width"))
    return ModelSpec(name, (TensorSpec("images", PRECISIONS[precision], shape),), ("latent",), precision)


def decoder_spec(ranges: Ranges, precision: str = "fp32", name: str = "vae_decoder", channels: int = 4) -> ModelSpec:
    """Latent -> picture."""
    shape = (ranges.axis("batch"), channels, ranges.axis("height", SCALE), ranges.axis("width", SCALE))
    return ModelSpec(name, (TensorSpec("latent", PRECISIONS[precision], shape),), ("images",), precision)
