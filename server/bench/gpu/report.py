"""What was found, for people: a block of lines per case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["case_lines", "machine_lines"]


def machine_lines(machine: Mapping[str, Any]) -> Iterator[str]:
    """GPU, driver, versions, processor, revision."""
    yield f"{machine['gpu']}, driver {machine['driver'] or '?'}, CUDA {machine['cuda']}, torch {machine['torch']}"
    yield f"{machine['processor']}, {machine['cores']} cores, {machine['system']}"
    yield f"ComfyStream {machine['comfystream']}, revision {machine['revision'] or '?'}"
    for backend, told in machine["backends"].items():
        yield f"  {backend}: {told}"


def case_lines(case: Mapping[str, Any]) -> Iterator[str]:
    """One case; what was not reached is left out."""
    yield f"{case['title']}, {case['rows']} rows, {case['backend']} {case['version']}"
    facts = case.get("facts", {})
    yield "  " + ", ".join(f"{name} {value}" for name, value in facts.items())
    if "proof" in case:
        yield from _proof(case["proof"])
    if "cold_s" in case:
        cached = f", again {case['cached_s']:.1f} s" if case.get("cached_s") is not None else ""
        first = f", first picture after {case['first_ms']:.1f} ms" if "first_ms" in case else ""
        yield f"  ready after {case['cold_s']:.1f} s{cached}{first}"
    if "flat_out" in case:
        yield from _flat_out(case["flat_out"])
    if "parts_ms" in case:
        yield "  parts: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in case["parts_ms"].items())
    for one in case.get("paced", []):
        latency = ", ".join(f"{name} {ms:.1f}" for name, ms in one["latency_ms"].items())
        yield f"  at {one['pace']:g} fps: latency {latency} ms; {one['dropped']} of the pictures dropped"
    yield from _verdict(case)


def _proof(proof: Mapping[str, Any]) -> Iterator[str]:
    engines = ", ".join(f"{label} {digest}" for digest, label in proof["engines"].items()) or "none"
    yield f"  ran: {', '.join(proof['networks'])}; CUDA graph: {'yes' if proof['graph'] else 'no'}; engines: {engines}"
    if "tick_graph" in proof:
        counts = ", ".join(f"{count:g} {kind}" for kind, count in proof.get("launches", {}).items())
        yield f"  whole-tick graph: {proof['tick_graph']}" + (f"; launched per tick: {counts}" if counts else "")


def _flat_out(found: Mapping[str, Any]) -> Iterator[str]:
    tick = found["tick_ms"]
    yield (
        f"  {found['fps']:.1f} fps over {found['ticks']} ticks after {found['warm_up']}; tick "
        f"p50 {tick['p50']:.2f}, p95 {tick['p95']:.2f}, p99 {tick['p99']:.2f}, max {tick['max']:.2f} ms; "
        f"{found['skipped']} skipped"
    )
    share = f" ({found['tflops_share']:.0%} of the most)" if "tflops_share" in found else ""
    memory = f" ({found['weights_share']:.0%})" if "weights_share" in found else ""
    yield (
        f"  {found['tflop_per_picture']:.3f} TFLOP per picture, {found['tflops']:.1f} TFLOP/s{share}; "
        f"weights {found['weights_gb_per_s']:.0f} GB/s{memory}, unfused {found['unfused_gb_per_s']:.0f} GB/s"
    )
    vram = f"{found['peak_vram_mb']:.0f} MB of GPU memory, " if found["peak_vram_mb"] is not None else ""
    yield f"  {vram}{found['rss_mb']:.0f} MB resident"
    if gpu := found["gpu"]:
        start, end = gpu["start"], gpu["end"]
        yield (
            f"  GPU busy {gpu['busy']:.0%}, {gpu['power_w']:.0f} W, {gpu['j_per_picture']:.2f} J per picture; "
            f"clock {start['sm_mhz']:.0f} -> {end['sm_mhz']:.0f} MHz, {start['temperature_c']:.0f} -> "
            f"{end['temperature_c']:.0f} C"
        )


def _verdict(case: Mapping[str, Any]) -> Iterator[str]:
    target, found = case.get("target"), case.get("flat_out")
    if not target or not found:
        return
    counted = f" (counted here: {found['limit_fps']:.0f} a second)" if "limit_fps" in found else ""
    if most_ms := target.get("goal_p95_ms"):
        met = "met" if found["tick_ms"]["p95"] <= most_ms else "missed"
        yield f"  H200: limit {1000 / target['limit']:g} ms{counted}, goal p95 {most_ms:g} ms: {met}"
        return
    met = "met" if found["fps"] >= target["goal"] else "missed"
    yield f"  H200: limit {target['limit']:g} fps{counted}, goal {target['goal']:g} fps: {met}"
