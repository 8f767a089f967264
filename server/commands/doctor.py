"""`comfystream doctor`: is everything there that a run needs?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..faults import BAD_INPUT, Reported

__all__ = ["doctor"]


def doctor(
    nodes: Annotated[
        list[Path] | None, typer.Option("--nodes", metavar="FOLDER", help="Folder of custom node packs to try, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Check Python, torch, GPU, codecs and ComfyUI, with a plain verdict for each."""
    from ..examination import Verdict, examine
    from ..loading import pack_folders

    findings = examine(pack_folders(nodes or []))
    if as_json:
        import dataclasses
        import json

        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        from rich.console import Console

        from ..examination import show

        show(Console(), findings)
    if any(finding.verdict is Verdict.BAD for finding in findings):
        raise Reported(BAD_INPUT)
