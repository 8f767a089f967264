"""Compares our core nodes with those of a ComfyUI checkout, in one process: declarations, and results on a table.

    python tests/nodes/parity_runner.py CHECKOUT [--only KEY ...] [--json FILE]

Needs a Python that can import the checkout. Prints a line per node; exit code 1 if one differs.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE)]

import comfyui_checkout  # noqa: E402
import torch  # noqa: E402
from parity_cases import Case, all_cases  # noqa: E402

TOLERANCE = 1e-6
# ComfyUI sums (2 * radius + 1) ** 2 float32 products per pixel, which by itself is up to 2e-6 off the exact sum;
# the kernel of a sharpener holds weights of 10 * alpha, which is by how much float32 rounding grows
# torchaudio makes the filter of a sample rate change in float32 (90 dB of precision), we in float64
LOOSER = {"ImageBlur": 2e-6, "ImageSharpen": 1.2e-5, "AudioConcat": 5e-5, "AudioMerge": 5e-5, "JoinAudioChannels": 5e-5}
# what ComfyUI refuses and we take, on purpose
MORE_ABLE = {"Canny"}  # kornia takes no alpha channel
EXTRA_MODULES = (
    "latent post_processing images mask canny morphology compositing rebatch primitive string logic math number_convert"
    " color seed resolution toolkit preview_any audio dataset text_overlay"
)
ATTRIBUTES = (
    "RETURN_TYPES RETURN_NAMES OUTPUT_IS_LIST INPUT_IS_LIST OUTPUT_NODE CATEGORY DEPRECATED EXPERIMENTAL"
    " ESSENTIALS_CATEGORY NOT_IDEMPOTENT HAS_INTERMEDIATE_OUTPUT"
)
PROSE = ("tooltip", "description")


def import_ours(package: str) -> Any:
    """Our pack, with the import names that an installation would give it."""
    for name, folder in (("comfystream", ROOT / "comfystream"), ("comfystream_nodes", ROOT / "nodes")):
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return importlib.import_module(package)


def without_prose(declared: Any) -> Any:
    """A declaration without the sentences in it; lists and tuples are the same."""
    if isinstance(declared, dict):
        return {key: without_prose(value) for key, value in declared.items() if key not in PROSE}
    if isinstance(declared, list | tuple):
        items = [without_prose(item) for item in declared]
        return items[:1] if items[1:] == [{}] else items
    return declared


def ordered(declared: Any) -> str:
    return json.dumps(without_prose(declared), default=str)


def declaration(cls: Any, name: str) -> dict[str, str]:
    """All that a person or an executor sees of a class."""
    flags = {key: ordered(getattr(cls, key, None) or None) for key in ATTRIBUTES.split()}
    if flags["RETURN_NAMES"] == "null":
        flags["RETURN_NAMES"] = flags["RETURN_TYPES"]
    if "true" not in flags["OUTPUT_IS_LIST"]:
        flags["OUTPUT_IS_LIST"] = "null"
    method = "" if hasattr(cls, "define_schema") else cls.FUNCTION
    kind = "v3" if hasattr(cls, "define_schema") else "v1"
    return {"inputs": ordered(cls.INPUT_TYPES()), "name": name, "method": method, "kind": kind, **flags}


def call(cls: Any, case: Case) -> Any:
    """Results of a node, or the exception that it raised."""
    arguments = copy.deepcopy(case)
    try:
        with torch.inference_mode():
            if hasattr(cls, "define_schema"):
                result = cls.PREPARE_CLASS_CLONE(None).execute(**arguments)
                return list(result.result or ()) if hasattr(result, "result") else result
            result = getattr(cls(), cls.FUNCTION)(**arguments)
            return list(result["result"] if isinstance(result, dict) else result)
    except Exception as error:  # noqa: BLE001 - raising is a result to compare
        return error


def difference(ours: Any, theirs: Any, tolerance: float) -> str:
    """What differs, in words; empty when nothing does."""
    if isinstance(ours, Exception) or isinstance(theirs, Exception):
        both = isinstance(ours, Exception) and isinstance(theirs, Exception)
        return "" if both else f"ours {ours!r:.120}, theirs {theirs!r:.120}"
    if isinstance(theirs, torch.Tensor):
        if not isinstance(ours, torch.Tensor) or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return f"ours {getattr(ours, 'shape', ours)}, theirs {theirs.shape} {theirs.dtype}"
        worst = (ours.double() - theirs.double()).abs().max().item() if ours.numel() else 0.0
        equal = worst <= tolerance or torch.allclose(ours, theirs, atol=tolerance, rtol=0, equal_nan=True)
        return "" if equal else f"differs by up to {worst:.2e}"
    if isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            return f"{len(ours)} values, theirs {len(theirs)}"
        return next(filter(None, (difference(a, b, tolerance) for a, b in zip(ours, theirs, strict=True))), "")
    if isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            return f"keys {sorted(ours)}, theirs {sorted(theirs)}"
        return next(filter(None, (difference(ours[key], theirs[key], tolerance) for key in theirs)), "")
    same = type(ours) is type(theirs) and (ours == theirs or (ours != ours and theirs != theirs))
    return "" if same else f"ours {ours!r:.100}, theirs {theirs!r:.100}"


def brief(case: Case) -> str:
    shown = {key: list(value.shape) if isinstance(value, torch.Tensor) else value for key, value in case.items()}
    return f"{shown!r:.300}"


def compare(key: str, ours: tuple[Any, str], theirs: tuple[Any, str], cases: list[Case]) -> dict[str, Any]:
    """Differences of one node."""
    found = []
    mine, real = declaration(*ours), declaration(*theirs)
    found += [f"{part}: ours {mine[part]}, theirs {real[part]}" for part in mine if mine[part] != real[part]]
    failed = 0
    for case in cases:
        mine_result, real_result = call(ours[0], case), call(theirs[0], case)
        if key in MORE_ABLE and isinstance(real_result, Exception):
            continue
        words = difference(mine_result, real_result, LOOSER.get(key, TOLERANCE))
        if words:
            failed += 1
            if failed <= 3:
                found.append(f"{brief(case)}: {words}")
    return {"node": key, "cases": len(cases), "failed": failed, "differences": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    real = comfyui_checkout.load(arguments.checkout, [f"nodes_{name}" for name in EXTRA_MODULES.split()])
    pack = import_ours("comfystream_nodes.core")
    cases = all_cases()
    rows = []
    for key, cls in sorted(pack.NODE_CLASS_MAPPINGS.items()):
        if arguments.only and key not in arguments.only:
            continue
        ours = (cls, pack.NODE_DISPLAY_NAME_MAPPINGS[key])
        if key in real:
            row = compare(key, ours, real[key], cases.get(key, []))
        else:
            row = {"node": key, "cases": 0, "failed": 0, "differences": [], "absent": True}
        rows.append(row)
        verdict = "not in this ComfyUI" if "absent" in row else "DIFFERS" if row["differences"] else "same"
        print(f"{key:28} {row['cases']:5} cases  {verdict}", *row["differences"], sep="\n    ", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    bad = [row["node"] for row in rows if row["differences"]]
    total = math.fsum(row["cases"] for row in rows)
    print(f"{len(rows)} nodes, {total:.0f} cases, {len(bad)} nodes differ: {' '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
