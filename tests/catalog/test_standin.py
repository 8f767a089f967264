"""The stand-ins for ComfyUI's modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from comfystream.catalog import standin
from comfystream.catalog.standin import Folders

standin.install()

import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
import node_helpers  # noqa: E402
import torch  # noqa: E402
from comfy import model_management  # noqa: E402
from comfy.comfy_types import IO  # noqa: E402
from comfy_execution.graph_utils import GraphBuilder, add_graph_prefix, is_link  # noqa: E402
from comfy_execution.utils import CurrentNodeContext, get_executing_context  # noqa: E402

from server import PromptServer  # noqa: E402


def run(code: str, *args: str, cwd: Path | None = None) -> str:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def folders(tmp_path: Path):
    standin.install(Folders(base=str(tmp_path)))
    yield tmp_path
    standin.install(Folders())


def test_install_imports_nothing_and_uninstall_leaves_nothing() -> None:
    code = (
        "import sys\n"
        "from comfystream.catalog import standin\n"
        "before = set(sys.modules)\n"
        "standin.install(); standin.install()\n"
        "print(sorted(set(sys.modules) - before), standin.is_installed())\n"
        "import comfy_api.latest, folder_paths\n"
        "standin.uninstall(); standin.uninstall()\n"
        "print([n for n in sys.modules if n.split('.')[0] in ('comfy_api', 'comfy_execution', 'folder_paths')])\n"
        "try:\n    import folder_paths\nexcept ModuleNotFoundError as e: print(e.name, standin.is_installed())\n"
    )
    assert run(code).splitlines() == ["[] True", "[]", "folder_paths False"]


def test_a_real_comfyui_is_not_pushed_aside(tmp_path: Path) -> None:
    (tmp_path / "folder_paths.py").write_text("")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import folder_paths\n"
        "from comfystream.catalog import standin\n"
        "from comfystream.errors import ConfigError\n"
        "try:\n    standin.install()\n"
        "except ConfigError as e: print(e.code, 'folder_paths' in e.message, standin.is_installed())\n"
    )
    assert run(code, str(tmp_path)) == "comfyui_loaded True False"


def test_a_folder_of_that_name_nearby_is_not_taken_for_comfyuis(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    code = "from comfystream.catalog import standin\nstandin.install()\nimport nodes\nprint(nodes.MAX_RESOLUTION)"
    assert run(code, cwd=tmp_path) == "16384"


@pytest.mark.parametrize("name", ["comfy.samplers", "comfy_extras.nodes_mask", "comfy_api_nodes", "latent_preview"])
def test_a_module_that_is_not_there_says_what_it_takes(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="is part of ComfyUI.*need a real ComfyUI"):
        __import__(name)


def test_an_attribute_that_is_not_there_says_what_it_takes() -> None:
    with pytest.raises(AttributeError, match="comfy.model_management.load_models_gpu.*need a real ComfyUI"):
        model_management.load_models_gpu([])
    assert not hasattr(model_management, "load_models_gpu")
    with pytest.raises(ImportError):
        from nodes import KSampler  # noqa: F401


def test_names_that_are_aliases_give_the_same_classes() -> None:
    import comfy_api.latest
    import comfy_api.latest._io
    import comfy_api.v0_0_2

    assert comfy_api.v0_0_2.io is comfy_api.latest.IO is comfy_api.latest.io
    assert comfy_api.latest._io.ComfyNode is comfy_api.latest.io.ComfyNode


def test_folders(folders: Path) -> None:
    assert folder_paths.get_input_directory() == str(folders / "input")
    assert folder_paths.get_directory_by_type("output") == str(folders / "output")
    assert folder_paths.get_directory_by_type("elsewhere") is None
    assert folder_paths.get_folder_paths("loras") == [str(folders / "models" / "loras")]
    assert folder_paths.get_folder_paths("clip") == folder_paths.get_folder_paths("text_encoders")


def test_annotated_names_stay_in_their_folder(folders: Path) -> None:
    (folders / "output").mkdir()
    (folders / "output" / "a.png").write_bytes(b"")
    assert folder_paths.get_annotated_filepath("b.png") == str(folders / "input" / "b.png")
    assert folder_paths.get_annotated_filepath("a.png [output]") == str(folders / "output" / "a.png")
    assert folder_paths.exists_annotated_filepath("a.png [output]")
    assert not folder_paths.exists_annotated_filepath("a.png")
    for escape in ("../secret", "/etc/hostname", "x/../../secret [temp]"):
        with pytest.raises(ValueError, match="lies outside"):
            folder_paths.get_annotated_filepath(escape)
        assert not folder_paths.exists_annotated_filepath(escape)


def test_model_files(folders: Path) -> None:
    for name in ("b.safetensors", "deep/a.pt", "notes.txt"):
        file = folders / "models" / "loras" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    assert folder_paths.get_filename_list("loras") == ["b.safetensors", "deep/a.pt"]
    assert folder_paths.get_full_path("loras", "deep/a.pt") == str(folders / "models" / "loras" / "deep" / "a.pt")
    assert folder_paths.get_full_path("loras", "../../secret") is None
    assert folder_paths.get_full_path("no such kind", "x") is None
    with pytest.raises(FileNotFoundError, match="'c.pt'"):
        folder_paths.get_full_path_or_raise("loras", "c.pt")


def test_packs_add_folders(folders: Path) -> None:
    extra = str(folders / "mine")
    folder_paths.add_model_folder_path("of_this_test", extra)
    folder_paths.add_model_folder_path("of_this_test", extra)
    folder_paths.add_model_folder_path("of_this_test", "/first", is_default=True)
    assert folder_paths.get_folder_paths("of_this_test") == ["/first", extra]
    del folder_paths.folder_names_and_paths["of_this_test"]


def test_content_types() -> None:
    files = ["a.png", "b.webp", "c.mp4", "d.wav", "e.glb", "f.txt"]
    assert folder_paths.filter_files_content_types(files, ["image"]) == ["a.png", "b.webp"]
    assert folder_paths.filter_files_content_types(files, ["video", "audio", "model"]) == ["c.mp4", "d.wav", "e.glb"]


def test_where_the_next_file_goes(folders: Path) -> None:
    out = str(folders / "output")
    folder, name, number, subfolder, prefix = folder_paths.get_save_image_path("sub/pic_%width%x%height%", out, 8, 4)
    assert (folder, name, number, subfolder, prefix) == (f"{out}/sub", "pic_8x4", 1, "sub", "sub/pic_8x4")
    for file in ("pic_8x4_00007_.png", "pic_8x4_x_.png", "pic_8x44_00099_.png"):
        Path(folder, file).write_bytes(b"")
    assert folder_paths.get_save_image_path("sub/pic_8x4", out)[2] == 8
    with pytest.raises(ValueError, match="outside"):
        folder_paths.get_save_image_path("../up", out)


def test_saved_pictures_hold_the_workflow(folders: Path) -> None:
    from comfy_api.latest import io, ui
    from PIL import Image

    class Node:
        hidden = io.HiddenHolder.from_dict({io.Hidden.prompt: {"1": {}}, io.Hidden.extra_pnginfo: {"workflow": {}}})

    shown = ui.PreviewImage(torch.tensor([[[[1.0, 0.5, 0.0]]]]), cls=Node).as_dict()
    (result,) = shown["images"]
    assert (result["type"], result["subfolder"]) == ("temp", "")
    with Image.open(Path(folder_paths.get_temp_directory(), result["filename"])) as picture:
        assert picture.getpixel((0, 0)) == (255, 127, 0)
        assert picture.info == {"prompt": '{"1": {}}', "workflow": "{}"}


def test_graphs_that_nodes_build() -> None:
    GraphBuilder.set_default_prefix("5", 2, 0)
    graph = GraphBuilder()
    source = graph.node("Source", value=1)
    sink = graph.node("Sink", "end", image=source.out(0), keep=[1, 2])
    assert GraphBuilder().prefix == "5.2.1."
    assert graph.finalize() == {
        "5.2.0.1": {"class_type": "Source", "inputs": {"value": 1}},
        "5.2.0.end": {"class_type": "Sink", "inputs": {"image": ["5.2.0.1", 0], "keep": [1, 2]}},
    }
    assert graph.lookup_node("end") is sink is graph.node("Other", "end")
    graph.replace_node_output("1", 0, ["9", 1])
    assert sink.get_input("image") == ["9", 1]
    sink.set_input("image", None)
    assert "image" not in sink.inputs
    inner = {"1": {"class_type": "A", "inputs": {"x": ["1", 0], "y": 3}}}
    moved, outputs = add_graph_prefix(inner, [["1", 0], 4], "p.")
    assert moved == {"p.1": {"class_type": "A", "inputs": {"x": ["p.1", 0], "y": 3}}}
    assert outputs == (["p.1", 0], 4)


@pytest.mark.parametrize(
    ("value", "answer"), [(["1", 0], True), (["1", 0.0], True), ([1, 0], False), (["1"], False), (("1", 0), False)]
)
def test_what_is_a_link(value: object, answer: bool) -> None:
    assert is_link(value) is answer


def test_the_running_node() -> None:
    assert get_executing_context() is None
    with CurrentNodeContext("p", "7", 2):
        assert get_executing_context() == ("p", "7", 2)
    assert get_executing_context() is None


def test_progress_reaches_the_hook_in_force_when_the_bar_was_made() -> None:
    heard: list[tuple[object, ...]] = []

    def hook(value, total, preview, prompt_id=None, node_id=None):
        heard.append((value, total, node_id))

    silent = comfy.utils.ProgressBar(3)
    comfy.utils.set_progress_bar_global_hook(hook)
    bar = comfy.utils.ProgressBar(3, node_id="7")
    comfy.utils.set_progress_bar_global_hook(None)
    silent.update(1)
    bar.update(2)
    bar.update_absolute(9)
    assert heard == [(2, 3, "7"), (3, 3, "7")]


def test_interrupting() -> None:
    model_management.throw_exception_if_processing_interrupted()
    model_management.interrupt_current_processing()
    assert model_management.processing_interrupted()
    with pytest.raises(model_management.InterruptProcessingException):
        model_management.throw_exception_if_processing_interrupted()
    assert not model_management.processing_interrupted()


def test_the_server_takes_routes_and_hands_messages_on() -> None:
    server = PromptServer.instance

    @server.routes.post("/mine")
    def handler() -> int:
        return 5

    assert handler() == 5
    heard: list[tuple[str, object]] = []
    server.on_message = lambda event, data: heard.append((event, data))
    try:
        server.send_progress_text(b"half", "7")
    finally:
        server.on_message = None
    server.send_sync("dropped", {})
    assert heard == [("progress_text", {"nodeId": "7", "text": "half"})]


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "bislerp", "lanczos"])
def test_scaling_keeps_a_flat_picture_flat(method: str) -> None:
    flat = torch.full((2, 3, 6, 10), 0.25)
    scaled = comfy.utils.common_upscale(flat, 5, 9, method, "disabled")
    assert scaled.shape == (2, 3, 9, 5)
    assert torch.allclose(scaled, torch.full_like(scaled, 0.25), atol=1 / 255)


def test_scaling_with_a_centre_crop_and_a_time_axis() -> None:
    wide = torch.arange(8.0).expand(1, 2, 3, 4, 8)  # [B, C, T, H, W]
    scaled = comfy.utils.common_upscale(wide, 4, 4, "nearest-exact", "center")
    assert scaled.shape == (1, 2, 3, 4, 4)
    assert scaled[0, 0, 0, 0].tolist() == [2.0, 3.0, 4.0, 5.0]


def test_tiles_come_together_without_seams() -> None:
    picture = torch.rand(1, 3, 20, 33, generator=torch.Generator().manual_seed(0))
    steps = comfy.utils.get_tiled_scale_steps(33, 20, 16, 16, 4)
    counted = []
    bar = type("Bar", (), {"update": lambda self, n: counted.append(n)})()
    tiled = comfy.utils.tiled_scale(picture, lambda x: x, 16, 16, 4, upscale_amount=1, pbar=bar)
    assert torch.allclose(tiled, picture, atol=1e-6)
    assert len(counted) == steps == 6


def test_batches() -> None:
    batch = torch.arange(3)
    assert comfy.utils.repeat_to_batch_size(batch, 5).tolist() == [0, 1, 2, 0, 1]
    assert comfy.utils.repeat_to_batch_size(batch, 2).tolist() == [0, 1]
    assert comfy.utils.resize_to_batch_size(torch.arange(5), 3).tolist() == [0, 2, 4]
    assert comfy.utils.resize_to_batch_size(batch, 6).tolist() == [0, 0, 1, 1, 2, 2]


def test_conditioning_and_alpha() -> None:
    before = [["t", {"strength": [1], "keep": 2}]]
    assert node_helpers.conditioning_set_values(before, {"strength": [3]}, append=True) == [
        ["t", {"strength": [1, 3], "keep": 2}]
    ]
    assert before == [["t", {"strength": [1], "keep": 2}]]
    rgb, rgba = torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 4)
    assert node_helpers.image_alpha_fix(rgb, rgba)[1].shape[-1] == 3
    assert node_helpers.image_alpha_fix(rgba, rgb)[1][..., 3].unique().tolist() == [1.0]


def test_truncated_pictures_are_read_at_a_second_try() -> None:
    from PIL import ImageFile

    seen: list[bool] = []

    def fails_once(name: str) -> str:
        seen.append(ImageFile.LOAD_TRUNCATED_IMAGES)
        if len(seen) == 1:
            raise OSError("image file is truncated")
        return name

    assert node_helpers.pillow(fails_once, "x") == "x"
    assert seen == [False, True]
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_type_names_of_v1_nodes() -> None:
    assert IO.IMAGE == "IMAGE"
    assert not (IO.ANY != "IMAGE")  # noqa: SIM202 - the operator is what is tested
    assert not (IO.NUMBER != "INT")  # noqa: SIM202
    assert IO.IMAGE != "MASK"
