"""Socket types without a widget: a table of their names."""

from __future__ import annotations

from typing import Any

from ._kinds import ComfyTypeIO, comfytype

Structure = dict[str, Any]

# name in `io`: (socket type, names that node signatures use for the parts of its values)
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "Image": ("IMAGE", {}),
    "WanCameraEmbedding": ("WAN_CAMERA_EMBEDDING", {}),
    "Mask": ("MASK", {}),
    "Latent": ("LATENT", {"LatentDict": Structure}),
    "Conditioning": ("CONDITIONING", {"PooledDict": Structure, "CondList": list[Any]}),
    "Sampler": ("SAMPLER", {}),
    "Sigmas": ("SIGMAS", {}),
    "Noise": ("NOISE", {}),
    "Guider": ("GUIDER", {}),
    "Clip": ("CLIP", {}),
    "ControlNet": ("CONTROL_NET", {}),
    "Vae": ("VAE", {}),
    "Model": ("MODEL", {}),
    "BackgroundRemoval": ("BACKGROUND_REMOVAL", {}),
    "ClipVision": ("CLIP_VISION", {}),
    "ClipVisionOutput": ("CLIP_VISION_OUTPUT", {}),
    "StyleModel": ("STYLE_MODEL", {}),
    "Gligen": ("GLIGEN", {}),
    "UpscaleModel": ("UPSCALE_MODEL", {}),
    "LatentUpscaleModel": ("LATENT_UPSCALE_MODEL", {}),
    "Audio": ("AUDIO", {"AudioDict": Structure}),
    "Video": ("VIDEO", {}),
    "SVG": ("SVG", {}),
    "LoraModel": ("LORA_MODEL", {}),
    "LossMap": ("LOSS_MAP", {"LossMapDict": Structure}),
    "Voxel": ("VOXEL", {}),
    "Mesh": ("MESH", {}),
    "Splat": ("SPLAT", {}),
    "File3DAny": ("FILE_3D", {}),
    "File3DGLB": ("FILE_3D_GLB", {}),
    "File3DGLTF": ("FILE_3D_GLTF", {}),
    "File3DFBX": ("FILE_3D_FBX", {}),
    "File3DOBJ": ("FILE_3D_OBJ", {}),
    "File3DSTL": ("FILE_3D_STL", {}),
    "File3DUSDZ": ("FILE_3D_USDZ", {}),
    "File3DPLY": ("FILE_3D_PLY", {}),
    "File3DSPLAT": ("FILE_3D_SPLAT", {}),
    "File3DSPZ": ("FILE_3D_SPZ", {}),
    "File3DKSPLAT": ("FILE_3D_KSPLAT", {}),
    "File3DSplatAny": ("FILE_3D_SPLAT_ANY", {}),
    "File3DPointCloudAny": ("FILE_3D_POINT_CLOUD_ANY", {}),
    "Hooks": ("HOOKS", {}),
    "HookKeyframes": ("HOOK_KEYFRAMES", {}),
    "TimestepsRange": ("TIMESTEPS_RANGE", {}),
    "LatentOperation": ("LATENT_OPERATION", {}),
    "FlowControl": ("FLOW_CONTROL", {}),
    "Accumulation": ("ACCUMULATION", {"AccumulationDict": Structure}),
    "Load3DCamera": ("LOAD3D_CAMERA", {"CameraInfo": Structure}),
    "Load3DModelInfo": ("LOAD3D_MODEL_INFO", {"Model3DTransform": Structure}),
    "Load3D": ("LOAD_3D", {"Model3DDict": Structure}),
    "Load3DAnimation": ("LOAD_3D_ANIMATION", {"Model3DDict": Structure}),
    "Layers": ("LAYERS", {"BlendMode": str, "LayerItem": Structure, "Document": Structure}),
    "Photomaker": ("PHOTOMAKER", {}),
    "Point": ("POINT", {}),
    "FaceAnalysis": ("FACE_ANALYSIS", {}),
    "BBOX": ("BBOX", {}),
    "SEGS": ("SEGS", {}),
    "AnyType": ("*", {}),
    "ModelPatch": ("MODEL_PATCH", {}),
    "AudioEncoder": ("AUDIO_ENCODER", {}),
    "AudioEncoderOutput": ("AUDIO_ENCODER_OUTPUT", {}),
    "Tracks": ("TRACKS", {"TrackDict": Structure}),
    "Dict": ("DICT", {}),
    "Array": ("ARRAY", {}),
    "Histogram": ("HISTOGRAM", {}),
}


def _make(name: str, io_type: str, parts: dict[str, Any]) -> Any:
    body = {"__module__": __name__, "__doc__": f"Socket type {io_type}.", **parts}
    return comfytype(io_type)(type(name, (ComfyTypeIO,), body))


TYPES: dict[str, Any] = {name: _make(name, *entry) for name, entry in TABLE.items()}
