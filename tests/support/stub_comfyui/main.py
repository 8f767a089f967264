"""A ComfyUI with little in it: its module names, its way to load `custom_nodes`, its routes, its editor if asked."""

import asyncio
import importlib.util
import json
import mimetypes
import os
import sys

import folder_paths
from aiohttp import web

import nodes
import server

mimetypes.add_type("text/javascript", ".mjs")


def load_custom_node(path):
    """As ComfyUI does it: by path, under a name that is the path."""
    name = path.replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, os.path.join(path, "__init__.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    if getattr(module, "WEB_DIRECTORY", None) is not None:
        nodes.EXTENSION_WEB_DIRS[os.path.basename(path)] = os.path.abspath(os.path.join(path, module.WEB_DIRECTORY))
    for key, cls in module.NODE_CLASS_MAPPINGS.items():
        nodes.NODE_CLASS_MAPPINGS[key] = cls
    nodes.NODE_DISPLAY_NAME_MAPPINGS.update(module.NODE_DISPLAY_NAME_MAPPINGS)


async def serve():
    prompt_server = server.PromptServer(asyncio.get_running_loop())
    packs = os.path.join(folder_paths.base_path, "custom_nodes")
    for name in sorted(os.listdir(packs)):
        load_custom_node(os.path.join(packs, name))
    prompt_server.add_routes()
    if editor := os.environ.get("STUB_EDITOR"):
        prompt_server.object_info = server.object_info_of(os.environ.get("STUB_OBJECT_INFO"))
        prompt_server.add_editor(editor)
    runner = web.AppRunner(prompt_server.app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ours = sorted(name for name in sys.modules if name.startswith("comfystream"))
    import comfystream
    import comfystream_nodes

    said = {
        "port": runner.addresses[0][1],
        "nodes": nodes.WHOSE,
        "server": server.WHOSE,
        "classes": sorted(nodes.NODE_CLASS_MAPPINGS),
        "invert": nodes.NODE_CLASS_MAPPINGS["ImageInvert"].__module__,
        "primary": issubclass(nodes.NODE_CLASS_MAPPINGS["PrimaryInputLoadImage"], nodes.LoadImage),
        "web": nodes.EXTENSION_WEB_DIRS,
        "modules": ours,
        "files": [comfystream.__file__, comfystream_nodes.__file__],
        "path": sys.path,
    }
    print("STUB " + json.dumps(said), flush=True)
    await asyncio.Event().wait()


asyncio.run(serve())
