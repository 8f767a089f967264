"""Stand for ComfyUI's VAE, CONTROL_NET and MODEL objects: the attributes and calls that others rely on, tiny inside."""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FakeControlNet", "FakeModel", "FakeModelPatcher", "FakeTinyVae", "FakeVae", "fake_unet"]


class _Stage(nn.Module):
    """As `first_stage_model` of a KL autoencoder: a mean and a variance, and a draw from them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv2d(3, 8, 8, stride=8)
        self.quant_conv = nn.Conv2d(8, 8, 1)
        self.regularization = nn.Identity()
        self.decoder = nn.ConvTranspose2d(4, 3, 8, stride=8)

    def encode(self, x: Tensor) -> Tensor:
        raise AssertionError("it draws a sample: a still picture would flicker")

    def decode(self, z: Tensor) -> Tensor:
        return torch.tanh(self.decoder(z))


class _TinyStage(_Stage):
    """Gives the latent itself."""

    def __init__(self) -> None:
        super().__init__()
        del self.regularization

    def encode(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(x))[:, :4]


class FakeVae:
    latent_channels = 4
    latent_dim = 2

    def __init__(self) -> None:
        self.first_stage_model = _Stage().eval()

    def process_input(self, image: Tensor) -> Tensor:
        return image * 2.0 - 1.0

    def encode(self, pixels: Tensor) -> Tensor:
        """What its mean would be, as the reference."""
        stage = self.first_stage_model
        moments = stage.quant_conv(stage.encoder(self.process_input(pixels.movedim(-1, 1))))
        return moments.chunk(2, 1)[0]

    def decode(self, latent: Tensor) -> Tensor:
        return ((self.first_stage_model.decode(latent) + 1) / 2).clamp(0, 1).movedim(1, -1)


class FakeTinyVae(FakeVae):
    """As ComfyUI's TAESD: its encoder gives the latent itself."""

    def __init__(self) -> None:
        self.first_stage_model = _TinyStage().eval()


class _ControlNetwork(nn.Module):
    def __init__(self, pooled: int = 0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.dtype = torch.float32
        self.look = nn.Conv2d(3, 8, 8, stride=8)
        self.read = nn.ModuleDict({"attn2": nn.ModuleDict({"to_k": nn.Linear(16, 8, bias=False)})})
        self.zero_convs = nn.ModuleList([nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 1, stride=2)])
        self.middle = nn.Conv2d(4, 8, 1, stride=2)
        if pooled:
            self.label_emb = nn.Sequential(nn.Sequential(nn.Linear(pooled, 8)))

    def forward(
        self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor, y: Tensor | None = None
    ) -> dict[str, list[Tensor]]:
        said = self.read["attn2"]["to_k"](context).mean(1) + timesteps[:, None] / 1000
        if y is not None:
            said = said + self.label_emb(y)
        seen = self.look(hint) + said[:, :, None, None]
        return {
            "output": [self.zero_convs[0](x) + seen, self.zero_convs[1](x) + seen[..., ::2, ::2]],
            "middle": [self.middle(x) * seen[..., ::2, ::2]],
        }


class FakeModelPatcher:
    def __init__(self, model: Any, load_device: Any, offload_device: Any) -> None:
        self.model, self.load_device, self.offload_device = model, load_device, offload_device


class FakeControlNet:
    """As ComfyUI's ControlNet: a copy shares the network."""

    def __init__(self, pooled: int = 0) -> None:
        self.control_model: Any = _ControlNetwork(pooled)
        self.control_model_wrapped: Any = "of the network"
        self.manual_cast_dtype = torch.float16
        self.strength = 0.7

    def copy(self) -> FakeControlNet:
        twin = object.__new__(FakeControlNet)
        twin.__dict__ = dict(self.__dict__)
        return twin


class fake_unet(nn.Module):  # noqa: N801 - called like the function that ComfyUI's samplers call
    """As ComfyUI's UNetModel with two levels; adds the residuals of a ControlNet to its skips, the last one first."""

    def __init__(self, pooled: int = 0) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.block = nn.Conv2d(8, 8, 3, padding=1)
        self.smaller = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(8, 16, 3, padding=1)
        self.read = nn.Linear(16, 16)
        self.label = nn.Linear(pooled, 16) if pooled else None
        self.up = nn.Conv2d(16, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: dict[str, list[Tensor]] | None = None,
    ) -> Tensor:
        skips = [self.first(x)]
        skips.append(torch.relu(self.block(skips[-1])))
        skips.append(self.smaller(skips[-1]))
        skips.append(torch.relu(self.deep(skips[-1])))
        said = self.read(context).mean(1) + timesteps[:, None] / 1000
        if self.label is not None:
            said = said + self.label(y)
        hidden = skips[-1] * said[:, :, None, None]
        if control:
            hidden = hidden + control["middle"].pop()
            skips = [skip + control["output"].pop() for skip in reversed(skips)][::-1]
        hidden = self.up(hidden + skips[3]) + skips[2]
        hidden = nn.functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
        return self.last(hidden + skips[1] + skips[0])


class FakeModel:
    """As ComfyUI's ModelPatcher of a UNet."""

    def __init__(self, pooled: int = 0, **config: Any) -> None:
        self._unet = fake_unet(pooled).eval()
        known = {"model_channels": 8, "channel_mult": (1, 2), "num_res_blocks": 1, "context_dim": 16, "in_channels": 4}
        unet_config = {**known, "adm_in_channels": pooled or None, **config}
        self.model = types.SimpleNamespace(model_config=types.SimpleNamespace(unet_config=unet_config))

    def get_model_object(self, name: str) -> nn.Module:
        assert name == "diffusion_model"
        return self._unet
