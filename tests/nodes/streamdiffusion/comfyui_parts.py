"""ComfyUI's objects, as far as a model is read out of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor

__all__ = ["holder", "patcher_of"]


class EPS:
    """ComfyUI's classes have these names, and nothing else of them is looked at."""


class V_PREDICTION(EPS):  # noqa: N801
    pass


class EDM(V_PREDICTION):
    pass


class X0(EPS):
    pass


class CONST:
    pass


class ModelSamplingDiscrete:
    zsnr = False


class ModelSamplingContinuousEDM:
    pass


KINDS = {"eps": EPS, "v_prediction": V_PREDICTION, "edm": EDM, "x0": X0, "flow": CONST}


def holder(weights: Mapping[str, Tensor]) -> Any:
    return SimpleNamespace(state_dict=lambda: weights)


def patcher_of(unet: Mapping[str, Tensor], kind: str = "eps", is_zero: bool = False, is_discrete: bool = True) -> Any:
    """A ModelPatcher.

    Args:
        unet: weights in the original layout.
        kind: what it predicts.
        is_zero: whether its noise levels end with noise alone.
        is_discrete: whether they are Stable Diffusion's.
    """
    levels = ModelSamplingDiscrete if is_discrete else ModelSamplingContinuousEDM
    sampling = type("ModelSampling", (levels, KINDS[kind]), {"zsnr": is_zero} if is_discrete else {})()
    model = SimpleNamespace(diffusion_model=holder(unet))
    return SimpleNamespace(model=model, patches={}, get_model_object=lambda name: {"model_sampling": sampling}[name])
