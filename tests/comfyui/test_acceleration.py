"""Models of a real ComfyUI on our backends: what comes out is what ComfyUI's own code makes of the same weights."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from own_process import in_own_process

HERE = Path(__file__).resolve().parent
BACKENDS = ("eager", "onnxruntime")
TOLERANCE = 1e-4
SIDE, LATENT = 64, 8


def compare(checkout: str, folder: str, which: str, backend: str) -> dict[str, list[float]]:
    """Runs in the other process: [largest difference, spread of what is right] by name."""
    sys.path.append(str(HERE))
    os.environ["COMFYSTREAM_ENGINES"] = str(Path(folder) / "engines")
    import torch

    from comfystream.catalog.comfyui import ComfyUIOptions
    from comfystream.catalog.standin import Folders
    from comfystream.engine.local import LocalEngine
    from comfystream.engine.protocol import EngineOptions

    folders = Folders(base=folder, input=folder, output=folder)
    LocalEngine(EngineOptions(threads=1, folders=folders, comfyui=ComfyUIOptions(checkout)))
    told: dict[str, list[float]] = {}
    with torch.inference_mode():
        for name, ours, theirs in globals()[which](backend):
            told[name] = [float((ours - theirs).abs().max()), float(theirs.std())]
    return told


def accelerated(key: str, **inputs: Any) -> Any:
    from comfystream_nodes.accel import NODE_CLASS_MAPPINGS

    node = NODE_CLASS_MAPPINGS[key]()
    return getattr(node, node.FUNCTION)(**inputs, width=SIDE, height=SIDE, precision="fp32")[0]


def vaes(backend: str) -> Any:
    """Both kinds, by ComfyUI's nodes."""
    import tiny_comfy
    import torch

    import nodes

    def all_ways(vae: Any, name: str) -> Any:
        picture, latent = torch.rand(2, SIDE + 5, SIDE + 3, 3), {"samples": torch.randn(2, 4, LATENT, LATENT)}
        yield f"{name} encode", nodes.VAEEncode().encode(vae, picture)[0]["samples"]
        yield f"{name} decode", nodes.VAEDecode().decode(vae, latent)[0]
        small = {"tile_size": 512, "overlap": 64}
        yield f"{name} encode tiled", nodes.VAEEncodeTiled().encode(vae, picture, **small)[0]["samples"]
        yield f"{name} decode tiled", nodes.VAEDecodeTiled().decode(vae, latent, **small)[0]
        mask = torch.zeros(1, SIDE, SIDE)
        mask[:, 16:40, 16:40] = 1
        inside = nodes.VAEEncodeForInpaint().encode(vae, picture[:, :SIDE, :SIDE], mask)[0]
        yield f"{name} inpaint", inside["samples"]

    for vae, name in ((tiny_comfy.kl_vae(), "KL"), (tiny_comfy.taesd_vae(), "TAESD")):
        fast = accelerated("AcceleratedVAE", vae=vae, backend=backend)
        torch.manual_seed(1)
        theirs = list(all_ways(vae, name))
        torch.manual_seed(1)
        for (what, ours), (_, right) in zip(all_ways(fast, name), theirs, strict=True):
            yield what, ours.cpu(), right


def sampled(model: Any, control: Any = None, cfg: float = 3.0) -> Any:
    """Two steps of ComfyUI's sampler."""
    import tiny_comfy
    import torch

    import nodes

    positive, negative = tiny_comfy.conditioning(1), tiny_comfy.conditioning(2)
    if control is not None:
        hint = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(3))
        apply = nodes.ControlNetApplyAdvanced().apply_controlnet
        positive, negative = apply(positive, negative, control, hint, 0.7, 0.0, 1.0)
    latent = {"samples": torch.zeros(1, 4, LATENT, LATENT)}
    made = nodes.common_ksampler(model, 5, 2, cfg, "euler", "normal", positive, negative, latent)
    return made[0]["samples"]


def control_nets(backend: str) -> Any:
    """Both families, sampled with guidance, and one net behind another."""
    import tiny_comfy

    for family in tiny_comfy.FAMILIES:
        model, net = tiny_comfy.model(family), tiny_comfy.control_net(family)
        right, without = sampled(model, net), sampled(model)
        fast = accelerated("AcceleratedControlNet", control_net=net, backend=backend, rows=2)
        yield f"{family} control", sampled(model, fast), right
        yield f"{family} control, once more", sampled(model, fast), right
        yield f"{family} the net itself", sampled(model, net), right
        assert (right - without).abs().max() > 100 * TOLERANCE, "a net that changes nothing proves nothing"


def models(backend: str) -> Any:
    """The UNet of a MODEL on a backend, in a MODEL as the loader of engines makes it."""
    import tiny_comfy

    from comfystream.accel.accelerate import How, accelerate
    from comfystream.accel.engine_unet import EngineUNet
    from comfystream.accel.model_specs import Ranges
    from comfystream_nodes.accel.convertible import module_of_model
    from comfystream_nodes.accel.in_comfyui import model_of

    for family, model_type in tiny_comfy.FAMILIES.items():
        model, net = tiny_comfy.model(family), tiny_comfy.control_net(family)
        plain, steered = sampled(model), sampled(model, net)
        for takes_control in (False, True):
            module, spec = module_of_model(model, Ranges(2, SIDE, SIDE), takes_control)
            fast = model_of(EngineUNet(accelerate(module, spec, How(backend)).runner), model_type)
            yield f"{family} model, control {takes_control}", sampled(fast), plain
            if takes_control:
                yield f"{family} model with a net", sampled(fast, net), steered


@pytest.mark.comfyui
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("which", ["vaes", "control_nets", "models"])
def test_a_backend_gives_what_comfyui_gives(
    which: str, backend: str, checkout: Path, python: str, tmp_path: Path
) -> None:
    told = in_own_process(__file__, "compare", checkout, tmp_path, which, backend, python=python, timeout_s=580)
    for name, (worst, spread) in told.items():
        print(f"{name}, {backend}: largest difference {worst:.1e}, spread {spread:.2f}")
    assert told
    for name, (worst, spread) in told.items():
        assert spread > 0.05, f"{name}: values that are all the same prove nothing"
        assert worst <= TOLERANCE * max(1.0, spread), name
