"""The editor's format: every construct of it comes out as the editor itself would queue it."""

from __future__ import annotations

from typing import Any

import pytest

from comfystream.errors import WorkflowError
from comfystream.workflow.api_format import to_api
from comfystream.workflow.model import Link, Workflow
from comfystream.workflow.read import parse_workflow


class Ui:
    """Builds a graph in the editor's format."""

    def __init__(self, *, is_root: bool = True) -> None:
        self.is_root = is_root
        self.nodes: list[dict[str, Any]] = []
        self.links: list[Any] = []

    def node(
        self,
        node_id: int | str,
        node_type: str,
        widgets: Any = None,
        *,
        inputs: list[tuple[str, str, tuple[Any, int] | None]] = (),  # type: ignore[assignment]
        outputs: tuple[str, ...] = ("IMAGE",),
        **more: Any,
    ) -> Ui:
        slots = [
            {"name": name, "type": kind, "link": None if origin is None else self.link(origin, node_id, index, kind)}
            for index, (name, kind, origin) in enumerate(inputs)
        ]
        self.nodes.append(
            {
                "id": node_id,
                "type": node_type,
                "inputs": slots,
                "outputs": [{"name": kind, "type": kind} for kind in outputs],
                "widgets_values": widgets,
            }
            | more
        )
        return self

    def link(self, origin: tuple[Any, int], target: Any, slot: int, kind: str) -> int:
        number = len(self.links) + 1
        if self.is_root:
            self.links.append([number, origin[0], origin[1], target, slot, kind])
        else:
            names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
            self.links.append(dict(zip(names, (number, *origin, target, slot, kind), strict=True)))
        return number

    def document(self, *subgraphs: dict[str, Any]) -> dict[str, Any]:
        return {"nodes": self.nodes, "links": self.links, "definitions": {"subgraphs": list(subgraphs)}}

    def subgraph(self, key: str, inputs: tuple[str, ...], outputs: tuple[str, ...] = ("IMAGE",)) -> dict[str, Any]:
        slots = {"inputs": [{"name": name} for name in inputs], "outputs": [{"name": name} for name in outputs]}
        return {"id": key, "nodes": self.nodes, "links": self.links} | slots


def inputs_of(workflow: Workflow) -> dict[str, Any]:
    return {key: entry["inputs"] for key, entry in to_api(workflow).items()}


def read(ui: Ui, catalog: Any, *subgraphs: dict[str, Any]) -> dict[str, Any]:
    return inputs_of(parse_workflow(ui.document(*subgraphs), catalog))


def image_from(*origin: Any) -> list[Any]:
    return [("image", "IMAGE", tuple(origin))]


def test_names_the_widget_values(catalog: Any) -> None:
    ui = Ui().node(1, "LoadTensor", [2.0]).node(2, "Blur", [7, "hard"], inputs=image_from(1, 0), title="Soft")
    workflow = parse_workflow(ui.document(), catalog)
    assert inputs_of(workflow) == {
        "1": {"timeout_seconds": 2.0},
        "2": {"radius": 7, "mode": "hard", "image": ["1", 0]},
    }
    assert workflow.nodes["2"].title == "Soft"
    assert workflow.ui is not None
    assert workflow.warnings == ()


@pytest.mark.parametrize(
    ("key", "widgets", "values"),
    [
        ("Sampler", [5, "randomize", 30, "lcm"], {"seed": 5, "steps": 30, "sampler": "lcm"}),
        ("Sampler", [5, 30, "lcm"], {"seed": 5, "steps": 30, "sampler": "lcm"}),
        ("Sampler", {"steps": 9, "seed": 1, "x": {}}, {"seed": 1, "steps": 9, "sampler": "euler"}),
        ("LoadImage", ["b.png", "image"], {"image": "b.png"}),
        ("LoadImage", ["gone.png", "image"], {"image": "gone.png"}),
        ("Blur", [9], {"radius": 9, "mode": "soft"}),
        ("Blur", [9, "hard", "more", None], {"radius": 9, "mode": "hard"}),
        ("Blur", None, {"radius": 1, "mode": "soft"}),
        ("SaveTextTensor", [], {}),
        ("Many", [["x", "y"]], {"tags": {"__value__": ["x", "y"]}}),
        ("Resize", ["by factor", 3.5, True], {"resize": "by factor", "resize.factor": 3.5, "fast": True}),
        (
            *("Resize", ["to size", 64, 32, True]),
            {"resize": "to size", "resize.width": 64, "resize.height": 32, "fast": True},
        ),
        ("Resize", [], {"resize": "by factor", "resize.factor": 2.0, "fast": False}),
        ("Batch", [], {}),
    ],
)
def test_widget_values(catalog: Any, key: str, widgets: Any, values: dict[str, Any]) -> None:
    workflow = parse_workflow(Ui().node(1, key, widgets).document(), catalog)
    assert inputs_of(workflow)["1"] == values
    assert workflow.warnings == ()


def test_seeds_have_a_control_value_even_when_not_declared(catalog: Any, make_class: Any) -> None:
    catalog.add("Old", make_class({"required": {"noise_seed": ("INT", {}), "steps": ("INT", {})}}, ("IMAGE",)))
    assert read(Ui().node(1, "Old", [1, "fixed", 2]), catalog)["1"] == {"noise_seed": 1, "steps": 2}


def test_the_control_of_a_seed_was_a_boolean_once(catalog: Any, make_class: Any) -> None:
    inputs = {"noise_seed": ("INT", {}), "is_tiled": ("BOOLEAN", {}), "steps": ("INT", {})}
    catalog.add("Old", make_class({"required": inputs}, ("IMAGE",)))
    expected = {"noise_seed": 1, "is_tiled": False, "steps": 2}
    assert read(Ui().node(1, "Old", [1, True, False, 2]), catalog)["1"] == expected
    assert read(Ui().node(1, "Old", [1, False, 2]), catalog)["1"] == expected


def test_dummy_values_of_old_forced_inputs_are_dropped(catalog: Any, make_class: Any) -> None:
    declared = {"required": {"text": ("STRING", {"forceInput": True}), "steps": ("INT", {}), "on": ("BOOLEAN", {})}}
    catalog.add("Old", make_class(declared, ("IMAGE",)))
    assert read(Ui().node(1, "Old", ["", 2, True]), catalog)["1"] == {"steps": 2, "on": True}
    assert read(Ui().node(1, "Old", [2, True]), catalog)["1"] == {"steps": 2, "on": True}


def test_values_that_do_not_fit_are_replaced_with_a_warning(catalog: Any) -> None:
    workflow = parse_workflow(Ui().node(1, "Blur", ["wide", "hard"]).document(), catalog)
    assert inputs_of(workflow)["1"] == {"radius": 1, "mode": "hard"}
    warning = workflow.warnings[0]
    assert (warning.type, warning.node_id, warning.input_name, warning.is_error) == (
        *("widget_values_misaligned", "1", "radius"),
        False,
    )


def test_a_converted_widget_keeps_its_place_and_the_link_wins(catalog: Any) -> None:
    ui = Ui().node(1, "Number", [4], outputs=("INT",))
    ui.node(2, "Blur", [7, "hard"], inputs=[("image", "IMAGE", None), ("radius", "INT", (1, 0))])
    assert read(ui, catalog)["2"] == {"radius": ["1", 0], "mode": "hard"}


def test_virtual_nodes_leave_only_what_they_mean(catalog: Any) -> None:
    ui = Ui().node(1, "LoadTensor").node(2, "Reroute", inputs=[("", "*", (1, 0))]).node(3, "Note", ["text"])
    ui.node(4, "SetNode", ["pic"], inputs=[("IMAGE", "IMAGE", (2, 0))]).node(5, "GetNode", ["pic"])
    ui.node(6, "PrimitiveNode", [9, "fixed"], outputs=("INT",)).node(7, "MarkdownNote", ["text"])
    ui.node(8, "Blur", [1, "soft"], inputs=[("image", "IMAGE", (5, 0)), ("radius", "INT", (6, 0))])
    assert read(ui, catalog) == {
        "1": {"timeout_seconds": 1.0},
        "8": {"image": ["1", 0], "radius": 9, "mode": "soft"},
    }


def test_reroutes_in_a_circle_end(catalog: Any) -> None:
    ui = Ui().node(2, "Reroute", inputs=[("", "*", (3, 0))]).node(3, "Reroute", inputs=[("", "*", (2, 0))])
    ui.node(4, "Blur", inputs=image_from(3, 0))
    assert "image" not in read(ui, catalog)["4"]


def test_muted_nodes_are_dropped_with_their_links(catalog: Any) -> None:
    ui = Ui().node(1, "LoadTensor", mode=2).node(2, "Blur", inputs=image_from(1, 0))
    assert read(ui, catalog) == {"2": {"radius": 1, "mode": "soft"}}


@pytest.mark.parametrize(
    ("inputs", "outputs", "origin"),
    [
        ([("image", "IMAGE", (1, 0)), ("mask", "MASK", (2, 0))], ("IMAGE", "MASK"), "1"),
        ([("mask", "MASK", (2, 0)), ("image", "IMAGE", (1, 0))], ("IMAGE",), "1"),
        ([("any", "*", (2, 0))], ("IMAGE",), "2"),
        ([("mask", "MASK", (2, 0))], ("IMAGE",), None),
    ],
)
def test_bypassed_nodes_hand_on_the_fitting_input(
    catalog: Any, inputs: list[Any], outputs: tuple[str, ...], origin: str | None
) -> None:
    ui = Ui().node(1, "LoadTensor").node(2, "LoadTensor")
    ui.node(3, "Blur", inputs=inputs, outputs=outputs, mode=4).node(4, "Blur", inputs=image_from(3, 0))
    assert read(ui, catalog)["4"].get("image") == (None if origin is None else [origin, 0])


def test_subgraphs_are_unfolded_at_any_depth(catalog: Any) -> None:
    inner = Ui(is_root=False).node(5, "Blur", [3, "hard"], inputs=image_from(-10, 0))
    inner.link((5, 0), -20, 0, "IMAGE")
    outer = Ui(is_root=False).node(7, "inner", inputs=image_from(-10, 0))
    outer.link((7, 0), -20, 0, "IMAGE")
    ui = Ui().node(1, "LoadTensor").node(2, "outer", inputs=image_from(1, 0))
    ui.node(3, "SaveTensor", inputs=[("images", "IMAGE", (2, 0))])
    found = read(ui, catalog, outer.subgraph("outer", ("image",)), inner.subgraph("inner", ("image",)))
    assert list(found) == ["1", "2:7:5", "3"]
    assert found["2:7:5"] == {"radius": 3, "mode": "hard", "image": ["1", 0]}
    assert found["3"] == {"images": ["2:7:5", 0]}


def blur_subgraph() -> dict[str, Any]:
    """Subgraph "soft" whose inputs image and size go to a Blur."""
    inside = Ui(is_root=False).node(
        5, "Blur", [3, "hard"], inputs=[("image", "IMAGE", (-10, 0)), ("radius", "INT", (-10, 1))]
    )
    inside.link((5, 0), -20, 0, "IMAGE")
    return inside.subgraph("soft", ("image", "size"))


@pytest.mark.parametrize(
    ("widgets", "more", "radius"),
    [
        ([8], {}, 8),
        ([], {}, 3),
        ([8, 9], {}, 3),
        ([8], {"properties": {"proxyWidgets": [["-1", "size"]]}}, 8),
        ([None], {"properties": {"proxyWidgets": [["-1", "size"]]}}, 3),
        (None, {"properties": {"proxyWidgets": [["-1", "size"]]}}, 3),
    ],
)
def test_promoted_widgets(catalog: Any, widgets: Any, more: dict[str, Any], radius: int) -> None:
    ui = Ui().node(1, "LoadTensor").node(2, "soft", widgets, inputs=image_from(1, 0), **more)
    ui.nodes[1]["inputs"].append({"name": "size", "type": "INT", "link": None, "widget": {"name": "size"}})
    assert read(ui, catalog, blur_subgraph())["2:5"] == {"radius": radius, "mode": "hard", "image": ["1", 0]}


def test_a_proxy_widget_sets_a_member(catalog: Any) -> None:
    properties = {"proxyWidgets": [["5", "mode"]]}
    ui = Ui().node(2, "soft", ["median"], properties=properties)
    assert read(ui, catalog, blur_subgraph())["2:5"] == {"radius": 3, "mode": "median"}


def test_an_instance_may_list_fewer_inputs_than_its_definition(catalog: Any) -> None:
    ui = Ui().node(1, "Number", outputs=("INT",)).node(2, "soft", inputs=[("size", "INT", (1, 0))])
    assert read(ui, catalog, blur_subgraph())["2:5"] == {"radius": ["1", 0], "mode": "hard"}


@pytest.mark.parametrize(("mode", "images"), [(2, None), (4, ["1", 0])])
def test_a_muted_or_bypassed_subgraph_takes_its_members_along(catalog: Any, mode: int, images: Any) -> None:
    ui = Ui().node(1, "LoadTensor").node(2, "soft", inputs=image_from(1, 0), mode=mode)
    ui.node(3, "SaveTensor", inputs=[("images", "IMAGE", (2, 0))])
    found = read(ui, catalog, blur_subgraph())
    assert list(found) == ["1", "3"]
    assert found["3"].get("images") == images


def test_refuses_group_nodes_of_old_editors(catalog: Any) -> None:
    with pytest.raises(WorkflowError, match="convert the group to a subgraph") as caught:
        parse_workflow(Ui().node(1, "workflow>Mine").document(), catalog)
    assert caught.value.node_id == "1"


def test_refuses_a_subgraph_that_contains_itself(catalog: Any) -> None:
    loop = Ui(is_root=False).node(5, "loop")
    with pytest.raises(WorkflowError, match="nested too deeply"):
        read(Ui().node(1, "loop"), catalog, loop.subgraph("loop", ()))


def test_refuses_subgraphs_that_multiply(catalog: Any) -> None:
    levels = [Ui(is_root=False) for _ in range(20)]
    for depth, level in enumerate(levels[:-1]):
        for index in range(20):
            level.node(index, f"level{depth + 1}")
    subgraphs = [level.subgraph(f"level{depth}", ()) for depth, level in enumerate(levels)]
    with pytest.raises(WorkflowError, match="too many"):
        read(Ui().node(1, "level0"), catalog, *subgraphs)


def test_an_unknown_class_keeps_its_links_for_the_check_to_name(catalog: Any) -> None:
    ui = Ui().node(1, "LoadTensor").node(2, "Unheard", [1], inputs=image_from(1, 0))
    ui.node(3, "Label (drawing)", outputs=())
    workflow = parse_workflow(ui.document(), catalog)
    assert workflow.nodes["2"].inputs == {"image": Link("1", 0)}
    assert [(warning.type, warning.node_id) for warning in workflow.warnings] == [("node_skipped", "3")]


def test_the_buttons_of_a_3d_node_take_no_value(catalog: Any) -> None:
    declared = {"model_file": (["none"], {"file_upload": True}), "image": ("LOAD_3D", {}), "width": ("INT", {})}
    body = {"INPUT_TYPES": classmethod(lambda cls: {"required": declared}), "RETURN_TYPES": (), "FUNCTION": "__init__"}
    catalog.add("Load3D", type("Load3D", (), body))
    saved = ["a.fbx", "upload3dmodel", "uploadExtraResources", "clear", "", 640]
    workflow = parse_workflow(Ui().node(1, "Load3D", saved).document(), catalog)
    assert workflow.nodes["1"].inputs == {"model_file": "a.fbx", "image": "", "width": 640}
    assert workflow.warnings == ()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"nodes": [5]}, r"nodes\[0\] is not an object"),
        ({"nodes": [{"type": "Blur"}]}, r"nodes\[0\] has no id"),
        ({"nodes": [{"id": 4}]}, "node 4 has no type"),
        ({"nodes": [{"id": 4, "type": "Blur"}], "links": [[1, 2]]}, "a link is"),
        ({"nodes": [{"id": 4, "type": "Blur"}], "links": [[1, 2, "x", 4, 0]]}, "slot that is no number"),
        ({"nodes": []}, "no nodes that would run"),
        ({"nodes": [{"id": 4, "type": "Blur", "mode": 2}]}, "no nodes that would run"),
    ],
)
def test_says_what_is_wrong(catalog: Any, document: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkflowError, match=words):
        parse_workflow(document, catalog)
