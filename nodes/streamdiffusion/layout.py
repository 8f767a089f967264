"""What a stream's settings ask of the networks: which there are, and in what shapes they are run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from comfystream.accel.comfy_modules import residuals_of_config
from comfystream.accel.model_specs import SCALE, Ranges, controlnet_spec, decoder_spec, encoder_spec, unet_spec
from comfystream.accel.modules import ControlNetModule, UNetModule, VaeDecoderModule, VaeEncoderModule
from comfystream.accel.runner import torch_dtype
from comfystream.accel.spec import PRECISIONS, ModelSpec

from .acceleration import Acceleration
from .control import ControlModel
from .core.guidance import GuidanceMode
from .loading.infer import Family
from .model import StreamModel
from .shelf import Shelf

__all__ = ["Layout", "Network", "Role", "Shapes", "TickShape"]

Role = str | ControlModel
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Network:
    """One network, for one layout.

    Attributes:
        role: "vae_encoder", "unet", "vae_decoder", or a ControlNet.
        label: for people: "unet", "controlnet depth".
        shelf: where its runner is kept.
        key: under which.
        spec: what it takes, with all ranges.
        shapes: in which it is run.
        module: makes it: tensors in, tensors out.
    """

    role: Role
    label: str
    shelf: Shelf
    key: Hashable
    spec: ModelSpec
    shapes: tuple[Shapes, ...]
    module: Callable[[], nn.Module]


@dataclass(frozen=True, slots=True)
class TickShape:
    """What a tick does around the networks, as far as it cannot change in a recording.

    Attributes:
        slots: how many steps.
        mode: of the guidance that is in effect.
        adds_noise: whether noise is put on between steps.
        is_from_noise: whether frames begin as noise alone, and the picture says only the size.
    """

    slots: int
    mode: GuidanceMode
    adds_noise: bool = True
    is_from_noise: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """How a stream runs its networks.

    Attributes:
        rows: all numbers of rows that the UNet is run with.
        frames: of a tick.
        size: (width, height) of the pictures.
        text_tokens: how many tokens a row has, those of a picture not counted.
        controls: the ControlNets.
        takes_residuals: whether the UNet is the one for ControlNets.
        tick: what is recorded as one launch together with the networks; None where each is launched by itself.
    """

    rows: tuple[int, ...]
    frames: int
    size: tuple[int, int]
    text_tokens: int
    controls: tuple[ControlModel, ...] = ()
    takes_residuals: bool = False
    tick: TickShape | None = None

    def networks(self, model: StreamModel, acceleration: Acceleration) -> list[Network]:
        """All that is run: encoder, ControlNets, UNet, decoder.

        Raises:
            ConfigError: more rows than the model was accelerated for.
            EngineError: ranges that cannot be.
        """
        return _Networks(self, model, acceleration).all()


class _Networks:
    """The networks of a layout of a model."""

    def __init__(self, layout: Layout, model: StreamModel, acceleration: Acceleration) -> None:
        self.layout, self.model, self.acceleration = layout, model, acceleration
        self.most_rows = acceleration.rows_up_to(max(layout.rows), model.shelf.most_rows)
        self.ranges = self._ranges(max(layout.rows), layout.text_tokens)
        sizes = acceleration.sizes or layout.size
        self.place: Hashable = (acceleration.backend, acceleration.precision, self.most_rows, sizes)

    def all(self) -> list[Network]:
        controls = [self._control(net) for net in self.layout.controls]
        return [self._encoder(), *controls, self._unet(), self._decoder()]

    def _ranges(self, rows: int, tokens: int) -> Ranges:
        acceleration, (width, height) = self.acceleration, self.layout.size
        least = min(acceleration.min_rows, rows)
        batch = (least, rows, self.most_rows) if least < self.most_rows else rows
        if acceleration.sizes is None:
            return Ranges(batch, height, width, tokens)
        low, high = acceleration.sizes
        return Ranges(batch, (low, height, high), (low, width, high), tokens)

    def _pictures(self) -> Ranges:
        ranges = self._ranges(self.layout.frames, self.layout.text_tokens)
        return ranges if self.acceleration.min_rows == 1 else replace(ranges, batch=self.layout.frames)

    def _vae_precision(self) -> str:
        wanted = self.model.autoencoder_dtype(torch_dtype(PRECISIONS[self.acceleration.precision]))
        return next(name for name, dtype in PRECISIONS.items() if torch_dtype(dtype) is wanted)

    def _encoder(self) -> Network:
        spec = encoder_spec(self._pictures(), self._vae_precision())
        vae = self.model.autoencoder.module
        return self._network("vae_encoder", spec, (self.layout.frames,), lambda: VaeEncoderModule(vae))

    def _decoder(self) -> Network:
        spec = decoder_spec(self._pictures(), self._vae_precision(), channels=self.model.latent_channels)
        vae = self.model.autoencoder.module
        return self._network("vae_decoder", spec, (self.layout.frames,), lambda: VaeDecoderModule(vae))

    def _unet(self) -> Network:
        model, adapter, takes_residuals = self.model, self.model.image_prompt, self.layout.takes_residuals
        layers = adapter.layers if adapter is not None else ()
        residuals = residuals_of_config(model.unet.config) if takes_residuals else ()
        spec = unet_spec(
            replace(self.ranges, tokens=self.layout.text_tokens + (adapter.tokens if adapter is not None else 0)),
            self.acceleration.precision,
            text_width=model.unet.config.cross_attention_dim,
            channels=model.latent_channels,
            pooled_width=pooled_width(model),
            residuals=residuals,
            picture_layers=len(layers),
            guidance_width=model.guidance_width,
        )
        places = [name.removesuffix(".processor") + ".processor" for name in layers]
        return self._network(
            "unet",
            spec,
            self.layout.rows,
            lambda: UNetModule(
                model.typed_unet(), len(residuals), model.family is Family.SDXL, places, bool(model.guidance_width)
            ),
            (self.layout.text_tokens, takes_residuals),
        )

    def _control(self, net: ControlModel) -> Network:
        model = self.model
        spec = controlnet_spec(
            self.ranges,
            self.acceleration.precision,
            text_width=model.unet.config.cross_attention_dim,
            outputs=len(residuals_of_config(net.module.config)),
            pooled_width=pooled_width(model),
        )

        def module() -> nn.Module:
            return ControlNetModule(net.module, model.family is Family.SDXL)

        made = self._network("controlnet", spec, self.layout.rows, module, (self.layout.text_tokens,))
        return replace(made, role=net, label=f"controlnet {net.name}", shelf=net.shelf)

    def _network(
        self, role: str, spec: ModelSpec, rows: Sequence[int], module: Callable[[], nn.Module], more: Hashable = ()
    ) -> Network:
        shapes = tuple(self._at(spec, count) for count in rows)
        return Network(role, role, self.model.shelf, (role, self.place, more), spec, shapes, module)

    def _at(self, spec: ModelSpec, rows: int) -> Shapes:
        """The shapes of all inputs for so many rows at this size."""
        width, height = self.layout.size
        shapes: Shapes = {}
        for one in spec.inputs:
            per = 1 if one.name in ("images", "controlnet_cond") else SCALE
            sizes = {"batch": rows, "height": height // per, "width": width // per}
            shapes[one.name] = tuple(size if isinstance(size, int) else sizes[size.name] for size in one.shape)
        return shapes


def pooled_width(model: StreamModel) -> int:
    """How wide the pooled text is that a UNet takes; 0 where it takes none."""
    if model.family is not Family.SDXL:
        return 0
    config = model.unet.config
    return int(config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim)
