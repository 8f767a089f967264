"""The networks of one layout, on runners that are bound: inputs are told and networks launched, nothing is made."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .conditioning import Rows
from .control import ActiveControl, ControlModel
from .layout import Role
from .model import StreamModel
from .shelf import BoundRunner

__all__ = ["Bound", "BoundNetworks"]

Bound = dict[Role, list[BoundRunner]]


class BoundNetworks:
    """How the networks of a layout are called.

    `predict` tells and launches. Where launches are recorded, `tell` is called before each and `run` is what is
    recorded; each ControlNet may be there once then.

    Args:
        model: whose networks.
        bound: their runners; several of one network where it runs with several numbers of rows.
    """

    def __init__(self, model: StreamModel, bound: Bound) -> None:
        self._model = model
        self.bound = bound

    def encode(self, picture: Tensor) -> Tensor:
        """See `Networks.encode`."""
        bound = self.bound["vae_encoder"][0]
        bound.put("images", picture)
        bound.runner.inputs["images"].mul_(2).sub_(1)
        bound.runner.enqueue()
        latent, scaling = self._own(bound.runner.outputs["latent"]), self._model.autoencoder.scaling
        return latent if scaling == 1 else latent * scaling

    def decode(self, latent: Tensor) -> Tensor:
        """See `Networks.decode`."""
        bound, scaling = self.bound["vae_decoder"][0], self._model.autoencoder.scaling
        bound.put("latent", latent if scaling == 1 else latent / scaling)
        bound.runner.enqueue()
        return self._own(bound.runner.outputs["images"])

    def predict(
        self, x: Tensor, times: Tensor, told: Rows, controls: Sequence[ActiveControl], scales: Tensor | None
    ) -> Tensor:
        """See `Networks.predict`."""
        self._tell_unet(len(x), times, told, scales, bool(controls))
        unet = self._for_rows("unet", len(x))
        for number, control in enumerate(controls):
            self._show(len(x), times, told, control)
            unet.sum_into(_residual_names(unet), self._steer(control[0], x), is_first=number == 0)
        return self._launch(unet, x)

    def tell(
        self, rows: int, times: Tensor, told: Rows, controls: Sequence[ActiveControl], scales: Tensor | None
    ) -> None:
        """Copy what is new into the inputs that a recorded `run` reads; the arguments are those of `predict`."""
        self._tell_unet(rows, times, told, scales, bool(controls))
        for control in controls:
            self._show(rows, times, told, control)

    def run(self, x: Tensor, nets: Sequence[ControlModel]) -> Tensor:
        """What the UNet says with these ControlNets, by what was told last."""
        unet = self._for_rows("unet", len(x))
        for number, net in enumerate(nets):
            unet.sum_into(_residual_names(unet), self._steer(net, x), is_first=number == 0)
        return self._launch(unet, x)

    def _tell_unet(self, rows: int, times: Tensor, told: Rows, scales: Tensor | None, is_steered: bool) -> None:
        unet = self._for_rows("unet", rows)
        _tell(unet, times, told, told.tokens)
        if told.scale is not None:
            unet.put("timestep_cond", told.scale, told)
        if scales is not None:
            unet.put("ipadapter_scale", scales, scales)
        names = _residual_names(unet)
        if names and not is_steered:
            unet.clear(names)

    def _show(self, rows: int, times: Tensor, told: Rows, control: ActiveControl) -> None:
        net, pictures, strength = control
        bound = self._for_rows(net, rows)
        _tell(bound, times, told, told.tokens[:, : told.text_tokens])
        bound.put("controlnet_cond", pictures)
        bound.put("conditioning_scale", strength, strength)

    def _launch(self, unet: BoundRunner, x: Tensor) -> Tensor:
        unet.put("sample", x)
        unet.runner.enqueue()
        return self._own(unet.runner.outputs["latent"])

    def _steer(self, net: ControlModel, x: Tensor) -> list[Tensor]:
        """What a ControlNet gives, the middle one last."""
        bound = self._for_rows(net, len(x))
        bound.put("sample", x)
        bound.runner.enqueue()
        return list(bound.runner.outputs.values())

    def _for_rows(self, role: Role, rows: int) -> BoundRunner:
        return next(one for one in self.bound[role] if len(one.runner.inputs["sample"]) == rows)

    def _own(self, value: Tensor) -> Tensor:
        """On the model's device, in its precision; nothing happens where it is already."""
        return value.to(self._model.device, self._model.dtype, non_blocking=True)


def _residual_names(unet: BoundRunner) -> list[str]:
    return [one.name for one in unet.runner.spec.inputs if one.name.startswith("input_control_")]


def _tell(bound: BoundRunner, times: Tensor, told: Rows, tokens: Tensor) -> None:
    """What UNet and ControlNets are both told."""
    bound.put("timestep", times, times)
    bound.put("encoder_hidden_states", tokens, told)
    for name, value in (told.added or {}).items():
        bound.put(name, value, told)
