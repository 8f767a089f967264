"""Runs a function of a test in a fresh Python: what a process loads under ComfyUI's names stays in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["in_own_process"]

HERE = Path(__file__).resolve().parent
REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {"comfystream": "comfystream", "comfystream_server": "server", "comfystream_nodes": "nodes"}
BOOT = """
import importlib.util, json, os, sys
for package, folder in {packages!r}.items():
    if importlib.util.find_spec(package) is None:  # a Python that has ComfyUI's packages and not ours
        init = os.path.join(folder, "__init__.py")
        spec = importlib.util.spec_from_file_location(package, init, submodule_search_locations=[folder])
        module = sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
spec = importlib.util.spec_from_file_location("the_test", {file!r})
module = importlib.util.module_from_spec(spec)
sys.modules["the_test"] = module
sys.path.append({support!r})
spec.loader.exec_module(module)
answer = getattr(module, {name!r})(*json.loads({arguments!r}))
print("\\nANSWER " + json.dumps(answer), file=sys.__stdout__)
"""


def in_own_process(file: str, name: str, *arguments: Any, python: str = sys.executable, timeout_s: float = 120) -> Any:
    """What `name(*arguments)` of `file` gives, as JSON; arguments are JSON, too."""
    given = json.dumps([str(one) if isinstance(one, Path) else one for one in arguments])
    packages = {name: str(REPOSITORY / folder) for name, folder in PACKAGES.items()}
    code = BOOT.format(packages=packages, file=file, support=str(HERE), name=name, arguments=given)
    environ = {key: value for key, value in os.environ.items() if key != "COMFYUI_PATH"}
    done = subprocess.run(
        [python, "-P", "-c", code, "--an-argument-of-ours"],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environ,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, f"exit code {done.returncode}: {done.stderr[-3000:]}"
    return json.loads(lines[-1].removeprefix("ANSWER "))
