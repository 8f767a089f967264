"""A ComfyUI in small, written into a folder: the modules, contracts and habits that loading a real one meets."""

from __future__ import annotations

import textwrap
from pathlib import Path

__all__ = ["write_comfyui", "write_pack"]

FILES = {
    "comfyui_version.py": '__version__ = "{version}"\n',
    "main.py": "raise SystemExit('main.py is never imported')\n",
    "execution.py": "import nodes\n",
    "extra_model_paths.yaml": """
        elsewhere:
            base_path: {base}/elsewhere
            checkpoints: weights
            custom_nodes: more_nodes
        """,
    "folder_paths.py": """
        import os
        from comfy.cli_args import args
        base_path = args.base_directory or os.path.dirname(os.path.realpath(__file__))
        models_dir = os.path.join(base_path, "models")
        extensions = {".safetensors", ".ckpt"}
        folder_names_and_paths = {
            name: ([os.path.join(models_dir, name)], extensions)
            for name in ("checkpoints", "clip", "vae", "diffusion_models", "loras")
        }
        folder_names_and_paths["custom_nodes"] = ([os.path.join(base_path, "custom_nodes")], set())
        places = {name: os.path.join(base_path, name) for name in ("input", "output", "temp")}

        def add_model_folder_path(name, path, is_default=False):
            folder_names_and_paths.setdefault(name, ([], set()))[0].append(path)

        def get_folder_paths(name):
            return folder_names_and_paths[name][0][:]

        def get_filename_list(name):
            found = []
            for place in get_folder_paths(name):
                found += os.listdir(place) if os.path.isdir(place) else []
            return sorted(file for file in found if os.path.splitext(file)[1] in extensions)

        def filter_files_content_types(files, kinds): return files
        def get_input_directory(): return places["input"]
        def get_output_directory(): return places["output"]
        def get_temp_directory(): return places["temp"]
        def set_input_directory(path): places["input"] = path
        def set_output_directory(path): places["output"] = path
        def set_temp_directory(path): places["temp"] = path
        """,
    "utils/__init__.py": "",
    "utils/extra_config.py": """
        import os, yaml, folder_paths
        def load_extra_path_config(file):
            for conf in yaml.safe_load(open(file)).values():
                base = conf.pop("base_path", "")
                for name, path in conf.items():
                    folder_paths.add_model_folder_path(name, os.path.join(base, path))
        """,
    "comfy/__init__.py": "",
    "comfy/options.py": "args_parsing = False\n",
    "comfy/cli_args.py": """
        import argparse, sys
        import comfy.options
        parser = argparse.ArgumentParser()
        for flag in ("--cpu", "--lowvram", "--highvram", "--disable-api-nodes"):
            parser.add_argument(flag, action="store_true")
        parser.add_argument("--base-directory")
        args = parser.parse_args(sys.argv[1:] if comfy.options.args_parsing or {parses_argv} else [])
        """,
    "comfy/utils.py": """
        PROGRESS_BAR_HOOK = None
        def set_progress_bar_global_hook(function):
            global PROGRESS_BAR_HOOK
            PROGRESS_BAR_HOOK = function
        class ProgressBar:
            def __init__(self, total, node_id=None):
                self.total, self.node_id, self.hook = total, node_id, PROGRESS_BAR_HOOK
            def update_absolute(self, value, total=None, preview=None):
                if self.hook is not None:
                    self.hook(value, self.total, preview, node_id=self.node_id)
        """,
    "comfy/model_management.py": """
        import comfy.cli_args, comfy.zluda
        class InterruptProcessingException({interrupt_base}):
            pass
        interrupted = False
        vram = "low" if comfy.cli_args.args.lowvram else "high" if comfy.cli_args.args.highvram else "normal"
        def interrupt_current_processing(value=True):
            global interrupted
            interrupted = value
        def processing_interrupted():
            return interrupted
        def throw_exception_if_processing_interrupted():
            global interrupted
            if interrupted:
                interrupted = False
                raise InterruptProcessingException()
        """,
    "comfy/zluda.py": "raise RuntimeError('this would install packages')\n",
    "comfy_execution/__init__.py": "",
    "comfy_execution/graph_utils.py": """
        class ExecutionBlocker:
            def __init__(self, message):
                self.message = message
        class GraphBuilder:
            @classmethod
            def set_default_prefix(cls, root, index, graph=0): pass
        """,
    "comfy_api/__init__.py": "",
    "comfy_api/latest/__init__.py": """
        class Schema:
            def __init__(self, node_id, inputs=(), outputs=(), **more):
                self.node_id, self.inputs, self.outputs = node_id, inputs, outputs
                self.display_name = self.description = ""
                self.category, self.hidden = "stub", []
                self.is_input_list = self.is_output_node = self.not_idempotent = False
        class NodeOutput:
            def __init__(self, *args, ui=None, expand=None, block_execution=None):
                self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution
                self.result = args or None
        class ComfyNode:
            INPUT_IS_LIST = OUTPUT_NODE = False
            OUTPUT_IS_LIST, RETURN_NAMES = (False,), ("IMAGE",)
            RETURN_TYPES = ("IMAGE",)
            @classmethod
            def GET_SCHEMA(cls): return cls.define_schema()
            @classmethod
            def GET_BASE_CLASS(cls): return ComfyNode
            @classmethod
            def INPUT_TYPES(cls): return {{"required": {{name: ("IMAGE",) for name in cls.define_schema().inputs}}}}
        class ComfyExtension:
            async def on_load(self): pass
        class io:
            Schema, NodeOutput, ComfyNode = Schema, NodeOutput, ComfyNode
        """,
    "nodes.py": """
        import importlib.util, logging, os, sys, traceback
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "comfy"))
        import comfy.model_management, folder_paths

        class ImageInvert:
            MARK = "theirs"
            RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "invert", "stub"
            @classmethod
            def INPUT_TYPES(cls): return {{"required": {{"image": ("IMAGE",)}}}}
            def invert(self, image): return (1 - image,)

        class CheckpointLoaderSimple:
            RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "load", "stub"
            @classmethod
            def INPUT_TYPES(cls):
                return {{"required": {{"ckpt_name": (folder_paths.get_filename_list("checkpoints"),)}}}}
            def load(self, ckpt_name): return (ckpt_name,)

        NODE_CLASS_MAPPINGS = {{"ImageInvert": ImageInvert, "CheckpointLoaderSimple": CheckpointLoaderSimple}}
        NODE_DISPLAY_NAME_MAPPINGS = {{"ImageInvert": "Invert Image"}}
        EXTENSION_WEB_DIRS, LOADED_MODULE_DIRS = {{}}, {{}}

        async def load_file(path):
            try:
                spec = importlib.util.spec_from_file_location(path, path)
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                if hasattr(module, "NODE_CLASS_MAPPINGS"):
                    NODE_CLASS_MAPPINGS.update(module.NODE_CLASS_MAPPINGS)
                else:
                    extension = await module.comfy_entrypoint()
                    await extension.on_load()
                    for cls in await extension.get_node_list():
                        NODE_CLASS_MAPPINGS[cls.GET_SCHEMA().node_id] = cls
                return True
            except Exception:
                logging.warning(traceback.format_exc())
                return False

        async def load_folder(name):
            folder = os.path.join(os.path.dirname(os.path.realpath(__file__)), name)
            files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            return [file for file in files if file.endswith(".py") and not await load_file(os.path.join(folder, file))]

        async def init_extra_nodes(init_custom_nodes=True, init_api_nodes=True):
            assert not init_custom_nodes and not init_api_nodes
            return await load_folder("comfy_extras")

        async def init_builtin_api_nodes():
            return await load_folder("comfy_api_nodes")
        """,
    "comfy_extras/nodes_good.py": """
        import logging, os, signal, sys
        from comfy_api.latest import ComfyExtension, io
        from server import PromptServer
        logging.basicConfig(level=logging.DEBUG, force=True)
        signal.signal(signal.SIGINT, lambda *_: None)
        sys.stdout = open(os.devnull, "w")

        @PromptServer.instance.routes.get("/extra")
        async def extra(request): pass

        class Extra(io.ComfyNode):
            @classmethod
            def define_schema(cls): return io.Schema("Extra", ["image"])
            @classmethod
            def execute(cls, image):
                PromptServer.instance.send_sync("extra.ran", {{"node": "x", "mean": float(image.mean())}})
                return io.NodeOutput(image)

        class Extension(ComfyExtension):
            async def get_node_list(self): return [Extra]

        async def comfy_entrypoint(): return Extension()
        """,
    "comfy_extras/nodes_broken.py": "import a_package_that_is_not_there\n",
    "comfy_api_nodes/nodes_paid.py": """
        class Paid:
            RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "api"
            @classmethod
            def INPUT_TYPES(cls): return {{"required": {{}}}}
            def run(self): return (None,)
        NODE_CLASS_MAPPINGS = {{"Paid": Paid}}
        """,
}

PACK = """
class {key}:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "pack"
    @classmethod
    def INPUT_TYPES(cls): return {{"required": {{"image": ("IMAGE",)}}}}
    def run(self, image): return (image,)
NODE_CLASS_MAPPINGS = {{"{key}": {key}}}
"""


def write_comfyui(
    folder: Path, *, version: str = "0.3.70", parses_argv: bool = False, interrupt_base: str = "Exception"
) -> Path:
    """Write it.

    Args:
        folder: where to.
        version: what it calls itself.
        parses_argv: its parser reads `sys.argv` unasked.
        interrupt_base: what its InterruptProcessingException derives from.
    """
    words = {"version": version, "base": folder, "parses_argv": parses_argv, "interrupt_base": interrupt_base}
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(_filled(text, words)))
    for name in ("custom_nodes", "models/checkpoints", "input", "output", "elsewhere/weights", "elsewhere/more_nodes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def _filled(text: str, words: dict[str, object]) -> str:
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text.replace("{{", "{").replace("}}", "}")


def write_pack(folder: Path, name: str, key: str, before: str = "") -> Path:
    """A pack of one class below `folder`; `before` is run first when it is imported."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "__init__.py").write_text(f"{before}\n{PACK.format(key=key)}")
    return place
