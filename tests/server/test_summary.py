from __future__ import annotations

import io

from rich.console import Console

from comfystream.engine.protocol import NodeTiming
from comfystream_server.summary import node_table


def shown(*nodes: NodeTiming) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(node_table(nodes))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_table_says_where_pictures_are_and_what_is_moved() -> None:
    there = NodeTiming("1", "Blur", "", "video", 10, 5.0, 1.0, place="cuda")
    here = NodeTiming("2", "Sketch", "", "video", 10, 50.0, 9.0, place="host", moved_bytes=31_457_280, moved_ms=12.5)
    text = shown(there, here)
    assert "pictures on" in text
    assert "3.1 MB, 1.25 ms" in next(line for line in text.splitlines() if "Sketch" in line)
    assert "cuda" in next(line for line in text.splitlines() if "Blur" in line)
    assert "the time to give the GPU its work" in text


def test_with_frames_on_the_host_it_says_nothing_of_that() -> None:
    text = shown(NodeTiming("1", "Blur", "", "video", 10, 5.0, 1.0))
    assert "pictures on" not in text
    assert "GPU" not in text
