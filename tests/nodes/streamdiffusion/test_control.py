"""ControlNets, preprocessors and IP-Adapters in a stream."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from frames import picture, settings_for

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.errors import AssetError, ConfigError
from comfystream_nodes.streamdiffusion.control import Control, ControlModel
from comfystream_nodes.streamdiffusion.control_rows import ControlRows
from comfystream_nodes.streamdiffusion.core import Guidance
from comfystream_nodes.streamdiffusion.loader_nodes import add_image_prompt, style_of
from comfystream_nodes.streamdiffusion.preprocess import DRAWN, draw
from comfystream_nodes.streamdiffusion.stream import Stream

NONE = Guidance.of("none", 1.0, 1.0)


@pytest.fixture(scope="module")
def nets():
    return [ControlModel(f"net{seed}", tiny.controlnet("sd15", seed)) for seed in (5, 6)]


def test_several_nets_add_up(models, nets) -> None:
    model = models["sd15"]
    base = settings_for(model, steps=(20,), guidance=NONE)
    heard = []
    forward = type(model.unet).forward

    def listening(self, *args, **kwargs):
        heard.append([value.clone() for value in kwargs["down_block_additional_residuals"] or ()])
        return forward(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.unet), "forward", listening)
        for used in ([nets[0]], [nets[1]], nets, []):
            Stream(model, replace(base, controls=tuple(Control(net, 0.5) for net in used))).process(picture())
    one, other, both, nothing = heard
    assert all(torch.allclose(a + b, c, atol=1e-5) for a, b, c in zip(one, other, both, strict=True))
    assert any(value.abs().max() > 0 for value in one)
    assert nothing == []


@pytest.mark.parametrize("mode", ["full", "initialize", "self"])
def test_control_in_every_mode_for_sdxl(folders, models, mode: str) -> None:
    model, net = models["sdxl"], ControlModel("xl", tiny.controlnet("sdxl"))
    settings = settings_for(model, guidance=Guidance.of(mode, 1.5, 0.8), controls=(Control(net, 1.0, "canny"),))
    for used in (settings, replace(settings, is_batched=False)):
        assert torch.isfinite(Stream(model, used).process(picture())).all()


def test_a_scale_holds_from_the_next_frame_on(models, nets) -> None:
    model = models["sd15"]
    base = settings_for(model, steps=(20,), guidance=NONE)
    stream = Stream(model, replace(base, controls=(Control(nets[0], 1.0),)))
    strong = stream.process(picture())
    stream.settings = base
    assert torch.allclose(stream.process(picture()), Stream(model, base).process(picture()), atol=1e-5)
    assert not torch.allclose(strong, stream.process(picture()), atol=1e-3)


def test_each_frame_keeps_its_own_drawing_until_it_comes_out(nets) -> None:
    rows = ControlRows()
    for number in range(4):
        rows.push((Control(nets[0]),), torch.full((1, 3, 8, 8), float(number)), 3, 1, None)
    held = rows._rows[id(nets[0])]
    assert held[:, 0, 0, 0].tolist() == [3, 2, 1]
    rows.push((Control(nets[0]),), torch.full((1, 3, 8, 8), 4.0), 2, 1, None)
    assert rows._rows[id(nets[0])][:, 0, 0, 0].tolist() == [4, 3]


def test_a_picture_that_another_node_drew_is_used(nets) -> None:
    rows = ControlRows()
    rows.push(
        (Control(nets[0], 1.0, "canny", {}, torch.full((1, 4, 4, 3), 0.25)),), torch.zeros(1, 3, 8, 8), 1, 1, None
    )
    assert torch.equal(rows._rows[id(nets[0])], torch.full((1, 3, 8, 8), 0.25))


@pytest.mark.parametrize("name", DRAWN)
def test_every_preprocessor_draws(folders, name: str) -> None:
    half = torch.zeros(2, 3, 48, 48)
    half[..., 24:] = 1.0
    drawn = draw(name, half, {"low_threshold": 20, "high_threshold": 60})
    assert drawn.shape == half.shape
    assert 0 <= drawn.min() <= drawn.max() <= 1
    if name in ("canny", "soft_edge", "lineart", "standard_lineart"):
        assert drawn[..., 4].max() == pytest.approx(0, abs=1e-4)  # far from the border of the halves
        assert drawn[..., 20:28].max() > 0.2


def test_soft_edges_are_where_the_brightness_changes_whatever_the_direction() -> None:
    step = torch.zeros(1, 3, 32, 32)
    step[..., 16:] = 1.0
    drawn = draw("soft_edge", step, {})
    assert drawn[0, 0, 16, 15:17].min() > 0.5
    assert drawn[0, 0, :, :8].max() < 1e-3
    torch.testing.assert_close(draw("soft_edge", step.mT, {}), drawn.mT)


def test_what_is_even_stays_as_it_is() -> None:
    """A blur that makes it brighter or darker would show in what is drawn."""
    even = torch.full((1, 3, 32, 32), 0.6)
    torch.testing.assert_close(draw("sharpen", even, {"sharpen_intensity": 3.0}), even)
    assert draw("lineart", even, {}).max() == 0


def test_feedback_is_the_last_output() -> None:
    last = torch.rand(1, 3, 8, 8)
    assert draw("feedback", torch.zeros(1, 3, 8, 8), {}, last) is last
    assert draw("feedback", torch.zeros(1, 3, 9, 8), {}, last).shape == (1, 3, 9, 8)


def test_a_preprocessor_that_needs_a_model_and_an_unknown_one_say_so() -> None:
    with pytest.raises(ConfigError, match=r"'openpose' needs a model of its own.*control_image"):
        draw("openpose", picture(), {})
    with pytest.raises(ConfigError, match=r"'sketchy' is unknown \(one of: passthrough"):
        draw("sketchy", picture(), {})


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def styled(request, tmp_path_factory, models):
    folder, model = tmp_path_factory.mktemp("adapter"), models[request.param]
    tiny.write_ip_adapter(folder / "adapter.safetensors", model.unet)
    tiny.image_encoder().save_pretrained(folder / "encoder")
    return model, add_image_prompt(model, str(folder / "adapter.safetensors"), str(folder / "encoder"))


def test_a_style_changes_the_picture_and_scale_0_does_not(styled) -> None:
    plain, model = styled
    base = settings_for(plain, steps=(20, 40), guidance=Guidance.of("full", 1.5, 1.0))
    style = style_of(model, torch.rand(1, 50, 70, 3), 0.8)
    assert style.tokens.shape[1] == 4
    without = Stream(plain, base).process(picture())
    assert torch.allclose(Stream(model, base).process(picture()), without, atol=1e-4)
    assert torch.allclose(
        Stream(model, replace(base, style=replace(style, scale=0.0))).process(picture()), without, atol=1e-4
    )
    assert not torch.allclose(Stream(model, replace(base, style=style)).process(picture()), without, atol=1e-3)
    assert torch.allclose(Stream(plain, base).process(picture()), without, atol=1e-5)


def test_two_streams_of_one_model_have_styles_of_their_own(styled) -> None:
    _, model = styled
    base = settings_for(model, steps=(20,), guidance=NONE)
    style = style_of(model, torch.rand(1, 32, 32, 3), 1.0)
    strong, none = Stream(model, replace(base, style=style)), Stream(model, base)
    alone = strong.process(picture())
    none.process(picture())
    assert torch.equal(strong.process(picture()), alone)


def test_an_adapter_for_another_architecture_and_another_kind_say_so(tmp_path, models) -> None:
    tiny.image_encoder().save_pretrained(tmp_path / "encoder")
    tiny.write_ip_adapter(tmp_path / "xl.safetensors", models["sdxl"].unet)
    with pytest.raises(AssetError, match=r"IP-Adapter xl.safetensors is for another architecture: its layer 0"):
        add_image_prompt(models["sd15"], str(tmp_path / "xl.safetensors"), str(tmp_path / "encoder"))
    tiny.write_lora(tmp_path / "lora.safetensors")
    with pytest.raises(AssetError, match="is no IP-Adapter file that is understood"):
        add_image_prompt(models["sd15"], str(tmp_path / "lora.safetensors"), str(tmp_path / "encoder"))


def test_a_style_without_an_adapter_says_so(models) -> None:
    with pytest.raises(ConfigError, match="has no IP-Adapter"):
        style_of(models["sd15"], picture(), 1.0)


def plus_weights(width: int, wide: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    weights = {"latents": random(1, 6, 64), "proj_in.weight": random(64, wide), "proj_in.bias": random(64)}
    weights |= {"proj_out.weight": random(width, 64), "proj_out.bias": random(width)}
    weights |= {"norm_out.weight": 1 + random(width), "norm_out.bias": random(width)}
    for layer in range(4):
        base = f"layers.{layer}."
        for norm in ("0.norm1", "0.norm2", "1.0"):
            weights |= {f"{base}{norm}.weight": 1 + random(64), f"{base}{norm}.bias": random(64)}
        weights |= {f"{base}0.to_q.weight": random(128, 64), f"{base}0.to_kv.weight": random(256, 64)}
        weights |= {f"{base}0.to_out.weight": random(64, 128)}
        weights |= {f"{base}1.1.weight": random(256, 64), f"{base}1.3.weight": random(64, 256)}
    return weights


def test_a_plus_adapter_gives_the_tokens_of_diffusers(tmp_path, models) -> None:
    model = models["sd15"]
    tiny.write_ip_adapter(tmp_path / "plain.safetensors", model.unet)
    from safetensors.torch import load_file, save_file

    picture_part = {f"image_proj.{name}": value for name, value in plus_weights(tiny.WIDTH).items()}
    layers = {name: value for name, value in load_file(tmp_path / "plain.safetensors").items() if "ip_adapter" in name}
    save_file({**picture_part, **layers}, tmp_path / "plus.safetensors")
    tiny.image_encoder().save_pretrained(tmp_path / "encoder")
    adapted = add_image_prompt(model, str(tmp_path / "plus.safetensors"), str(tmp_path / "encoder"))
    theirs = tiny.unet("sd15")._convert_ip_adapter_image_proj_to_diffusers(plus_weights(tiny.WIDTH))
    patches = torch.randn(2, 17, 32)
    assert torch.allclose(adapted.image_prompt.projection(patches), theirs(patches), atol=1e-5)
    style = style_of(adapted, picture(), 1.0)
    assert style.tokens.shape == style.blank.shape == (1, 6, tiny.WIDTH)
    base = settings_for(model, guidance=Guidance.of("full", 1.5, 1.0))
    assert torch.isfinite(Stream(adapted, replace(base, style=style)).process(picture())).all()
