"""V3 nodes with every kind of input, described as JSON: by the stand-in, or by the ComfyUI whose folder is given.

Run as a script: `described_nodes.py [COMFYUI_FOLDER]`.
"""

from __future__ import annotations

import json
import sys
import types
from typing import Any

PLAIN = [
    "Image",
    "Mask",
    "Latent",
    "Conditioning",
    "Sampler",
    "Sigmas",
    "Noise",
    "Guider",
    "Clip",
    "ControlNet",
    "Vae",
    "Model",
    "ClipVision",
    "ClipVisionOutput",
    "StyleModel",
    "Gligen",
    "UpscaleModel",
    "Audio",
    "Video",
    "SVG",
    "LoraModel",
    "LossMap",
    "Voxel",
    "Mesh",
    "Hooks",
    "HookKeyframes",
    "TimestepsRange",
    "LatentOperation",
    "FlowControl",
    "Accumulation",
    "Load3DCamera",
    "Load3D",
    "Load3DAnimation",
    "Photomaker",
    "Point",
    "FaceAnalysis",
    "BBOX",
    "SEGS",
    "AnyType",
    "Tracks",
    "WanCameraEmbedding",
    "Webcam",
]


def inputs(io: Any) -> list[Any]:
    remote = io.RemoteOptions("/models", True, timeout=5)
    return [
        *(getattr(io, name).Input(f"plain_{name}") for name in PLAIN),
        io.Custom("MY_TYPE").Input("custom", display_name="Mine", optional=True, tooltip="t", lazy=True),
        io.Boolean.Input("b", default=True, label_on="on", label_off="off"),
        io.Int.Input("i", default=1, min=0, max=9, step=2, control_after_generate=True, socketless=True),
        io.Int.Input("slider", display_mode=io.NumberDisplay.slider, force_input=True),
        io.Float.Input("f", default=0.5, min=0.0, max=1.0, step=0.1, round=0.01),
        io.String.Input("s", multiline=True, placeholder="p", default="d", dynamic_prompts=True),
        io.String.Input("extra", extra_dict={"mine": 1, "none": None}),
        io.Combo.Input("c", ["a", "b"], default="b", control_after_generate=True),
        io.Combo.Input("upload", options=[], upload=io.UploadType.video, image_folder=io.FolderType.output),
        io.Combo.Input("remote", options=None, remote=remote),
        io.MultiType.Input("multi", [io.Image, io.Mask, io.Image]),
        io.MultiType.Input(io.Float.Input("widget", default=1.0, tooltip="w", optional=True), [io.Int, io.Image]),
    ]


def newer_inputs(io: Any) -> list[Any]:
    """Those that ComfyUI 0.3 does not have yet."""
    same = io.MatchType.Template("t", [io.Image, io.Mask])
    fast = io.DynamicCombo.Option("fast", [io.Float.Input("strength"), io.Int.Input("steps", optional=True)])
    prefix = io.Autogrow.TemplatePrefix(io.Int.Input("one"), prefix="n", min=1, max=3)
    names = io.Autogrow.TemplateNames(io.Image.Input("one", optional=True), names=["left", "right"], min=0)
    return [
        io.MatchType.Input("match", template=same),
        io.MatchType.Input("any", io.MatchType.Template("u")),
        io.Autogrow.Input("grow", template=prefix),
        io.Autogrow.Input("sides", names, tooltip="g"),
        io.DynamicCombo.Input("mode", [fast, io.DynamicCombo.Option("slow", [])], display_name="M"),
        io.MultiCombo.Input("many", options=["a", "b"], default=["a"], placeholder="p", chip=True),
        io.Color.Input("color", default="#112233"),
        io.BoundingBox.Input("box"),
        io.Curve.Input("curve"),
    ]


def describe(io: Any, *, with_newer: bool) -> dict[str, Any]:
    chosen = [*inputs(io), *(newer_inputs(io) if with_newer else [])]

    class Everything(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> Any:
            outputs = [io.Image.Output(), io.Int.Output("n", display_name="N", tooltip="t", is_output_list=True)]
            return io.Schema(
                node_id="Everything",
                display_name="All",
                category="test",
                inputs=chosen,
                outputs=outputs,
                hidden=[io.Hidden.unique_id],
                description="d",
                is_output_node=True,
                is_api_node=True,
            )

        @classmethod
        def execute(cls, **kwargs: Any) -> None:
            return None

    info: dict[str, Any] = json.loads(json.dumps(Everything.GET_NODE_INFO_V1()))
    return info


def main(folder: str | None) -> None:
    if folder is None:
        from comfystream.catalog import standin

        standin.install()
    else:
        sys.path.insert(0, folder)
        sys.modules["comfy.zluda"] = types.ModuleType("comfy.zluda")  # one fork installs packages from there
        from comfy.cli_args import args

        args.cpu = True
    from comfy_api.latest import io

    newer = hasattr(io, "DynamicCombo")
    print(json.dumps({"newer": newer, "info": describe(io, with_newer=newer)}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
