"""Node classes for the engine's tests that build graphs.

Apart, because a module with a GraphBuilder gets the slow path.
"""

from comfy_execution.graph_utils import GraphBuilder


class V1:
    FUNCTION = "run"
    CATEGORY = "testing"
    RETURN_TYPES = ("*",)


class Expand(V1):
    """Expands to `times` Add nodes in a row."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "times": ("INT", {"default": 2})}}

    def run(self, value, times):
        graph = GraphBuilder()
        out = value
        for _ in range(times):
            out = graph.node("TestAdd", value=out, amount=1.0).out(0)
        return {"result": (out,), "expand": graph.finalize()}


class Countdown(V1):
    """A loop by recursive expansion."""

    RETURN_TYPES = ("FLOAT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "left": ("INT", {"default": 3})}}

    def run(self, value, left):
        if left <= 0:
            return (value,)
        graph = GraphBuilder()
        added = graph.node("TestAdd", value=value, amount=1.0)
        again = graph.node("TestCountdown", value=added.out(0), left=left - 1)
        return {"result": (again.out(0),), "expand": graph.finalize()}


NODE_CLASS_MAPPINGS = {f"Test{cls.__name__}": cls for cls in (Expand, Countdown)}
