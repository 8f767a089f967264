"""ComfyUI's own execution tests on our engine: their graphs and assertions from the checkout, the harness from here.

Run by pytest in a process of its own (test_execution_graphs.py); `COMFYUI_CHECKOUT` names the folder,
`GRAPHS_FOLDER` one for what is written. What asks for its HTTP server (history, jobs) is left out: that is no engine.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from comfystream.catalog.comfyui import ComfyUIOptions
from comfystream.catalog.standin import Folders
from comfystream.engine.local import LocalEngine
from comfystream.engine.once import OnceRunner
from comfystream.engine.protocol import EngineOptions
from comfystream.errors import NodeError, WorkflowError
from comfystream.workflow.api_format import parse_api
from comfystream.workflow.check import NOTHING_BOUND, check
from comfystream.workflow.model import Workflow
from comfystream.workflow.types import matches

CHECKOUT = Path(os.environ["COMFYUI_CHECKOUT"])
FOLDER = os.environ["GRAPHS_FOLDER"]
PACK = CHECKOUT / "tests" / "execution" / "testing_nodes" / "testing-pack"


def _engine() -> LocalEngine:
    folders = Folders(base=FOLDER, input=FOLDER, output=FOLDER)
    comfyui = ComfyUIOptions(str(CHECKOUT), api_nodes=False)
    return LocalEngine(EngineOptions(packs=(str(PACK),), threads=1, folders=folders, comfyui=comfyui))


ENGINE = _engine()
sys.modules.setdefault("websocket", ModuleType("websocket"))  # of the harness that is replaced
execution = importlib.import_module("tests.execution.test_execution")  # the checkout is on `sys.path`
async_nodes = importlib.import_module("tests.execution.test_async_nodes")


class Client:
    """Runs graphs as ComfyUI's client does, without a server between."""

    def __init__(self) -> None:
        self.test_name = ""
        self._runner = OnceRunner(ENGINE.host)

    def set_test_name(self, name: str) -> None:
        self.test_name = name.replace("[", "_").replace("]", "_")

    def run(self, graph: Any, partial_execution_targets: list[str] | None = None) -> Any:
        for node in graph.nodes.values():
            if node.class_type == "SaveImage":
                node.inputs["filename_prefix"] = self.test_name
        workflow = parse_api(json.loads(json.dumps(graph.finalize())), source=self.test_name)
        _refuse_what_cannot_run(workflow, partial_execution_targets)
        try:
            done = self._runner.run(workflow, partial_execution_targets)
        except (NodeError, WorkflowError) as error:  # an expansion can turn out wrong while it runs
            told = {"prompt_id": "1", "node_id": error.node_id, "exception_message": str(error)}
            raise Exception(told) from error  # as its client does
        result = execution.RunResult("1")
        result.runs = dict.fromkeys(done.ran, True)
        result.cached = dict.fromkeys(done.kept, True)
        result.outputs = {id: _with_pictures(shown) for id, shown in done.outputs.items()}
        return result

    def close(self) -> None:
        self._runner.close()


def _refuse_what_cannot_run(workflow: Workflow, targets: list[str] | None) -> None:
    """What ComfyUI answers with status 400 before anything runs."""
    checked = check(workflow, ENGINE.host.catalog, NOTHING_BOUND)
    if checked.errors or not [id for id in checked.roots if targets is None or id in targets]:
        raise urllib.error.HTTPError("/prompt", 400, str(checked.errors), None, None)  # type: ignore[arg-type]


def _with_pictures(shown: Any) -> dict[str, Any]:
    from PIL import Image

    paths = importlib.import_module("folder_paths")
    pictures = []
    for one in shown.get("images", ()):
        folder = Path(paths.get_directory_by_type(one["type"])) / one["subfolder"]
        with Image.open(folder / one["filename"]) as picture:
            pictures.append(picture.copy())
    return {**shown, "image_objects": pictures}


class _OnOurEngine:
    """Takes the place of their fixtures that start a server and connect to it."""

    @pytest.fixture(scope="class", autouse=True)
    def server(self) -> dict[str, Any]:
        return {"should_cache_results": True}

    @pytest.fixture(scope="class", autouse=True)
    def _server(self) -> None:
        return None

    @pytest.fixture(scope="class", autouse=True)
    def shared_client(self) -> Iterator[Client]:
        client = Client()
        yield client
        client.close()


@pytest.fixture(scope="session")
def skip_timing_checks() -> bool:
    return True


class TestExecution(_OnOurEngine, execution.TestExecution):  # type: ignore[name-defined,misc]
    pass


class TestAsyncNodes(_OnOurEngine, async_nodes.TestAsyncNodes):  # type: ignore[name-defined,misc]
    pass


if (CHECKOUT / "tests" / "execution" / "test_public_api.py").is_file():
    public_api = importlib.import_module("tests.execution.test_public_api")

    class TestPublicAPI(_OnOurEngine, public_api.TestPublicAPI):  # type: ignore[name-defined,misc]
        pass


def _fits(received: str, wanted: str, strict: bool = False) -> bool:
    if strict:
        pytest.skip("a mode of its function that neither executor asks for")
    return matches(received, wanted)


def _matcher_tests() -> dict[str, Any]:
    """Their cases for which types fit which, asked of our matcher."""
    file = CHECKOUT / "tests-unit" / "execution_test" / "validate_node_input_test.py"
    spec = importlib.util.spec_from_file_location("validate_node_input_test", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["validate_node_input"] = _fits
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


globals().update(_matcher_tests())
