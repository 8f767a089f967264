"""What is printed when a job is done: where the time went, and what came out."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from comfystream.engine.protocol import NodeTiming
from comfystream.session.result import FileResult
from comfystream.session.stages import node_share, slowest

from .display import clock

__all__ = ["node_table", "show_summary", "size_in_words"]

SHOWN_NODES = 15


def size_in_words(count: int) -> str:
    """Bytes as people read them."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} bytes"


def show_summary(console: Console, result: FileResult) -> None:
    """Tables of stages and nodes, then one line with the result."""
    console.print(_stage_table(result))
    console.print()
    if result.nodes:
        console.print(node_table(result.nodes))
        console.print()
    for line in (_failed_line(result), _dropped_line(result), *_result_lines(result)):
        if line:
            console.print(line, highlight=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True, overflow="ellipsis")
    return table


def _stage_table(result: FileResult) -> Table:
    table = _table("Stage", "per frame", "total", "busy", "waited")
    table.add_column("")
    worst = slowest(result.stages)
    for stage in result.stages:
        if stage.name == "prepare":
            table.add_row("prepare", "", f"{result.prepare_s:.2f} s", "", "", "[dim]once, before the first frame[/dim]")
        elif stage.total_ms:
            note = "[yellow]the slowest: it sets the pace[/yellow]" if stage is worst else ""
            table.add_row(
                stage.name,
                f"{stage.mean_ms:.2f} ms",
                f"{stage.total_ms / 1000:.2f} s",
                f"{stage.share:.0%}",
                f"{stage.waited_ms / 1000:.2f} s",
                note,
            )
    return table


def node_table(nodes: tuple[NodeTiming, ...]) -> Table:
    """Time per node, the longest first; with frames on a device also where its pictures are and what is moved."""
    has_places = any(node.place for node in nodes)
    table = _table("Node", "calls", "mean", "max", "total", "share", *(("pictures on", "moved") if has_places else ()))
    ordered = sorted(nodes, key=lambda node: (node.where == "static", -node.total_ms))
    for node in ordered[:SHOWN_NODES]:
        name = f'{node.node_id} "{node.class_type}"' + (f" ({node.title})" if _has_own_title(node) else "")
        share = "once" if node.where == "static" else f"{node_share(node, nodes):.0%}"
        mean = node.total_ms / max(node.calls, 1)
        table.add_row(
            name.replace("[", r"\["),
            str(node.calls),
            f"{mean:.2f} ms",
            f"{node.max_ms:.2f} ms",
            f"{node.total_ms / 1000:.2f} s",
            share,
            *((node.place, _moved(node)) if has_places else ()),
        )
    if has_places:
        table.caption = "on cuda: the time to give the GPU its work, not the time that it takes"
    if len(ordered) > SHOWN_NODES:
        rest = ordered[SHOWN_NODES:]
        total_s = sum(node.total_ms for node in rest) / 1000
        table.add_row(f"{len(rest)} more", "", "", "", f"{total_s:.2f} s", "")
    return table


def _moved(node: NodeTiming) -> str:
    """What is brought to or from the GPU per call, and how long that takes."""
    if not node.moved_bytes:
        return ""
    calls = max(node.calls, 1)
    return f"{node.moved_bytes / calls / 1e6:.1f} MB, {node.moved_ms / calls:.2f} ms"


def _has_own_title(node: NodeTiming) -> bool:
    return bool(node.title) and node.title != node.class_type


def _failed_line(result: FileResult) -> str:
    return f"[red]{result.failed} frames failed in a node[/red]" if result.failed else ""


def _dropped_line(result: FileResult) -> str:
    if not result.dropped:
        return ""
    words = {"newest_wins": "because the graph was busy", "blocked": "because a node blocked its output"}
    parts = [f"{count} {words.get(reason, reason)}" for reason, count in result.dropped.items()]
    return f"Dropped: {', '.join(parts)}"


def _result_lines(result: FileResult) -> list[str]:
    lines = []
    if result.target is not None:
        size = f"{result.width}x{result.height}, " if result.width else ""
        frames = f"{_counted(result.frames)} in {clock(result.run_s)}, {result.fps:.1f} fps, " if result.frames else ""
        sound = {"copied": "sound as it was, ", "encoded": "sound, "}.get(result.sound, "")
        lines.append(
            f"[bold]{_safe(result.target)}[/bold]: {size}{sound}{clock(result.duration_s)} long, {frames}"
            f"{size_in_words(result.size_bytes)}"
        )
    lines += [f"[bold]{_safe(text)}[/bold]: what the workflow said" for text in result.texts]
    return lines


def _safe(path: Path) -> str:
    return str(path).replace("[", r"\[")


def _counted(frames: int) -> str:
    return f"{frames} frame" if frames == 1 else f"{frames} frames"
