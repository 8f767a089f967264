"""Nodes that give back something else than one value per output."""

from comfy_execution.graph_utils import ExecutionBlocker

from .base import CALLS, V1


class Block(V1):
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "value": ("*",),
                "block": ("BOOLEAN", {"default": True}),
                "message": ("STRING", {"default": ""}),
            }
        }

    def run(self, value, block, message):
        return (ExecutionBlocker(message or None) if block else value,)


class BlockEveryOther(V1):
    def __init__(self):
        self.n = 0

    def run(self, value):
        self.n += 1
        return (ExecutionBlocker(None) if self.n % 2 == 0 else value,)


class Ui(V1):
    """A dictionary as result."""

    def run(self, value):
        return {"ui": {"text": ["shown"]}, "result": (value,)}


class Sink(V1):
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    def run(self, value):
        CALLS.append(("Sink", value if isinstance(value, int | float | str) else None))
        return {"ui": {"value": [1]}}


class TooMany(V1):
    """Returns more values than it declares."""

    def run(self, value):
        return (value, 7)


class TooFew(V1):
    RETURN_TYPES = ("*", "*")

    def run(self, value):
        return (value,)


class SilentExpand(V1):
    """Expands without a builder: nobody can know before it does."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}}

    def run(self, value):
        inputs = {"value": value, "amount": 1.0}
        return {"result": (["x.0.0.1", 0],), "expand": {"x.0.0.1": {"class_type": "TestAdd", "inputs": inputs}}}


NODES = (Block, BlockEveryOther, Ui, Sink, TooMany, TooFew, SilentExpand)
