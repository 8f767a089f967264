"""Where values go in the graphs that people have, told by a catalog of ComfyUI's own nodes."""

from __future__ import annotations

from typing import Any

import pytest
from engine_harness import link, node

from comfystream.catalog.from_object_info import ObjectInfoCatalog
from comfystream.workflow.read import parse_workflow
from comfystream_server.batch.faults import Refused
from comfystream_server.batch.places import Places


def described(outputs: list[str], **inputs: Any) -> dict[str, Any]:
    required = {name: [kind, {}] for name, kind in inputs.items()}
    return {"input": {"required": required}, "output": outputs, "output_is_list": [False] * len(outputs)}


CATALOG = ObjectInfoCatalog(
    {
        "CheckpointLoaderSimple": described(["MODEL", "CLIP", "VAE"], ckpt_name="STRING"),
        "CLIPTextEncode": described(["CONDITIONING"], clip="CLIP", text="STRING"),
        "ConditioningZeroOut": described(["CONDITIONING"], conditioning="CONDITIONING"),
        "ControlNetApplyAdvanced": described(
            ["CONDITIONING", "CONDITIONING"], positive="CONDITIONING", negative="CONDITIONING", strength="FLOAT"
        ),
        "EmptyLatentImage": described(["LATENT"], width="INT", height="INT", batch_size="INT"),
        "KSampler": described(
            ["LATENT"],
            model="MODEL",
            seed="INT",
            steps="INT",
            cfg="FLOAT",
            denoise="FLOAT",
            positive="CONDITIONING",
            negative="CONDITIONING",
            latent_image="LATENT",
        ),
        "VAEDecode": described(["IMAGE"], samples="LATENT", vae="VAE"),
        "ImageScale": described(["IMAGE"], image="IMAGE", width="INT", height="INT"),
        "PrimitiveString": described(["STRING"], value="STRING"),
        "TextOverlay": described(["IMAGE"], image="IMAGE", text="STRING"),
        "LoadImage": described(["IMAGE", "MASK"], image="STRING"),
        "PrimaryInputLoadImage": described(["IMAGE", "MASK"], image="STRING"),
        "SaveImage": described([], images="IMAGE", filename_prefix="STRING"),
    }
)


def diffusion(**more: Any) -> dict[str, Any]:
    return {
        "ckpt": node("CheckpointLoaderSimple", ckpt_name="a"),
        "yes": node("CLIPTextEncode", clip=link("ckpt", 1), text="a house"),
        "no": node("CLIPTextEncode", clip=link("ckpt", 1), text="people"),
        "empty": node("EmptyLatentImage", width=512, height=512, batch_size=1),
        "k": node(
            "KSampler",
            model=link("ckpt"),
            seed=1,
            steps=20,
            cfg=7.0,
            denoise=1.0,
            positive=link("yes"),
            negative=link("no"),
            latent_image=link("empty"),
        ),
        "decode": node("VAEDecode", samples=link("k"), vae=link("ckpt", 2)),
        "out": node("SaveImage", images=link("decode"), filename_prefix="x"),
        **more,
    }


def places(graph: dict[str, Any], **declared: Any) -> Places:
    return Places(parse_workflow(graph), CATALOG, declared)


def where(graph: dict[str, Any], name: str, **declared: Any) -> list[str]:
    return [f"{place.node}.{place.input}" for place in places(graph, **declared).of(name)]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("prompt", "yes.text"),
        ("negative_prompt", "no.text"),
        ("seed", "k.seed"),
        ("steps", "k.steps"),
        ("guidance_scale", "k.cfg"),
        ("strength", "k.denoise"),
        ("width", "empty.width"),
        ("height", "empty.height"),
    ],
)
def test_a_usual_graph(name: str, place: str) -> None:
    assert where(diffusion(), name) == [place]
    assert name in places(diffusion()).names()


def test_through_nodes_that_have_both_sides() -> None:
    control = node("ControlNetApplyAdvanced", positive=link("yes"), negative=link("no"), strength=1.0)
    graph = diffusion(control=control)
    graph["k"]["inputs"].update(positive=link("control"), negative=link("control", 1))
    assert where(graph, "prompt") == ["yes.text"]
    assert where(graph, "negative_prompt") == ["no.text"]
    assert where(graph, "strength") == ["k.denoise"]


def test_a_text_of_its_own_node() -> None:
    graph = diffusion(words=node("PrimitiveString", value="a house"))
    graph["yes"]["inputs"]["text"] = link("words")
    assert where(graph, "prompt") == ["words.value"]


def test_no_negative_where_it_is_the_positive_made_zero() -> None:
    graph = diffusion(zero=node("ConditioningZeroOut", conditioning=link("yes")))
    graph["k"]["inputs"]["negative"] = link("zero")
    assert where(graph, "prompt") == ["yes.text"]
    assert where(graph, "negative_prompt") == []


def test_titles_and_the_sidecar_win() -> None:
    graph = diffusion()
    graph["no"]["_meta"] = {"title": "Prompt"}
    assert where(graph, "prompt") == ["no.text"]
    assert where(graph, "prompt", prompt="yes.text") == ["yes.text"]
    assert where(graph, "both", both=["yes.text", "no.text"]) == ["yes.text", "no.text"]


def test_what_fits_several_places_is_asked_back() -> None:
    graph = diffusion(empty2=node("EmptyLatentImage", width=64, height=64, batch_size=1))
    with pytest.raises(Refused, match="several places") as refused:
        where(graph, "width")
    assert refused.value.field == "width"
    assert '"values"' in refused.value.hint


def test_a_text_on_a_picture_is_no_prompt_and_a_scale_is_no_size() -> None:
    graph = {
        "in": node("LoadImage", image="a.png"),
        "write": node("TextOverlay", image=link("in"), text="hello"),
        "scale": node("ImageScale", image=link("write"), width=64, height=64),
        "out": node("SaveImage", images=link("scale"), filename_prefix="x"),
    }
    assert places(graph).names() == []
    assert where(graph, "prompt") == where(graph, "width") == []


def test_which_node_gets_the_picture() -> None:
    still = {**node("LoadImage", image="style.png"), "_meta": {"title": "Style picture"}}
    one = places({"a": still})
    assert (found := one.picture()) is not None
    assert found.id == "a"
    two = {"a": still, "b": node("LoadImage", image="b.png")}
    assert places(two).picture() is None
    assert (found := places({**two, "c": node("PrimaryInputLoadImage", image="c")}).picture()) is not None
    assert found.id == "c"
    assert (found := places(two).loader("style_picture")) is not None
    assert found.id == "a"
    assert (found := places(two).loader("b")) is not None
    assert found.id == "b"
    assert places(two).loader("image") is None
