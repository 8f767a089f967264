"""Node classes for the engine's tests, one per thing that an executor must be able to do. Loaded as a custom pack."""

import asyncio
import ctypes
import itertools
import os
import signal
import tempfile
import time
from pathlib import Path

import torch
from comfy_api.latest import ComfyExtension, io
from comfy_execution.graph_utils import ExecutionBlocker

CALLS: list[tuple[str, object]] = []


def image(value: float = 0.0) -> torch.Tensor:
    return torch.full((1, 8, 8, 3), value)


class V1:
    FUNCTION = "run"
    CATEGORY = "testing"
    RETURN_TYPES = ("*",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}}


class Pass(V1):
    """Gives what it gets."""

    def run(self, value):
        return (value,)


class Add(V1):
    """Adds a constant to a tensor or number; counts its calls by tag."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"value": ("*",), "amount": ("FLOAT", {"default": 0.0, "min": -10.0, "max": 10.0})},
            "optional": {"tag": ("STRING", {"default": ""})},
        }

    def run(self, value, amount, tag=""):
        CALLS.append(("Add", tag))
        return (value + amount,)


class Source(V1):
    """A static value; loading it may take a while."""

    RETURN_TYPES = ("FLOAT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"number": ("FLOAT", {"default": 1.0})},
            "optional": {"seconds": ("FLOAT", {"default": 0.0}), "tag": ("STRING", {"default": ""})},
        }

    def run(self, number, seconds=0.0, tag=""):
        CALLS.append(("Source", tag))
        time.sleep(seconds)
        return (number,)


class Counter(V1):
    """State on the instance: counts its calls."""

    RETURN_TYPES = ("*", "INT")

    def __init__(self):
        self.count = 0

    def run(self, value):
        self.count += 1
        return (value, self.count)


class MakeList(V1):
    """OUTPUT_IS_LIST: the numbers 0..count-1."""

    RETURN_TYPES = ("INT", "STRING")
    OUTPUT_IS_LIST = (True, False)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "count": ("INT", {"default": 3})}}

    def run(self, value, count):
        return (list(range(count)), "plain")


class SumList(V1):
    """INPUT_IS_LIST: sums what it gets."""

    INPUT_IS_LIST = True
    RETURN_TYPES = ("INT",)

    def run(self, value):
        CALLS.append(("SumList", len(value)))
        return (sum(value),)


class AddInts(V1):
    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": ("INT", {"default": 0}), "b": ("INT", {"default": 0})}}

    def run(self, a, b):
        CALLS.append(("AddInts", (a, b)))
        return (a + b,)


class LazySwitch(V1):
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "pick": ("INT", {"default": 0}),
                "a": ("*", {"lazy": True}),
                "b": ("*", {"lazy": True}),
            }
        }

    def check_lazy_status(self, pick, a, b):
        return ["b" if pick else "a"]

    def run(self, pick, a, b):
        return (b if pick else a,)


class LazyWithoutStatus(V1):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*", {"lazy": True})}}

    def run(self, value):
        return (-1.0 if value is None else 1.0,)


class Changing(V1):
    """IS_CHANGED follows a module-level number."""

    RETURN_TYPES = ("FLOAT",)
    now = 0.0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"scale": ("FLOAT", {"default": 1.0})}}

    @classmethod
    def IS_CHANGED(cls, scale):
        return Changing.now

    def run(self, scale):
        CALLS.append(("Changing", Changing.now))
        return (Changing.now * scale,)


class Hidden(V1):
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"value": ("*",)},
            "hidden": {
                "id": "UNIQUE_ID",
                "graph": "PROMPT",
                "png": "EXTRA_PNGINFO",
                "dyn": "DYNPROMPT",
                "key": "API_KEY_COMFY_ORG",
            },
        }

    def run(self, value, id, graph, png, dyn, key):
        return (
            f"{id}|{graph[id]['class_type']}|{(png or {}).get('workflow', {}).get('tag')}|{dyn.has_node(id)}|{key}",
        )


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


class AsyncAdd(V1):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}, "optional": {"amount": ("FLOAT", {"default": 1.0})}}

    async def run(self, value, amount=1.0):
        CALLS.append(("AsyncAdd", "begin"))
        await asyncio.sleep(0.01)
        CALLS.append(("AsyncAdd", "end"))
        return (value + amount,)


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


class NotIdempotent(V1):
    RETURN_TYPES = ("FLOAT",)
    NOT_IDEMPOTENT = True
    counter = itertools.count()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (float(next(self.counter)),)


class Fail(V1):
    """Raises on the calls whose number is in `on` ("all", or "3,4")."""

    def __init__(self):
        self.calls = 0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "on": ("STRING", {"default": "all"})}}

    def run(self, value, on):
        self.calls += 1
        if on == "all" or str(self.calls) in on.split(","):
            raise ValueError("the test asked for this")
        return (value,)


class Slow(V1):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "seconds": ("FLOAT", {"default": 0.1})}}

    def run(self, value, seconds):
        time.sleep(seconds)
        return (value,)


class Builds(V1):
    """Builds engines that take very long, by the builder's own code; one of the rude nodes that catch everything."""

    RETURN_TYPES = ("FLOAT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "engines": ("INT", {"default": 0}),
                "number": ("FLOAT", {"default": 1.0}),
                "steps": ("INT", {"default": 100_000, "max": 100_000}),
            }
        }

    def run(self, engines, number, steps):
        from comfystream.accel.backend import BuildOptions
        from comfystream.accel.build import EngineJob, build_all
        from comfystream.accel.cache import EngineCache
        from comfystream.accel.key import EngineKey
        from comfystream.accel.machine import Machine
        from comfystream.accel.spec import ModelSpec
        from comfystream.node_progress import report

        def make(folder, on_step):
            for step in range(steps):
                on_step("building", step / steps)
                time.sleep(0.01)
            (folder / "plan").write_bytes(b"an engine")
            return folder / "plan"

        def job(index):
            spec = ModelSpec(f"fake {index}", (), ("y",))
            return EngineJob("fake", EngineKey("fake", "1", Machine("", "", ""), spec, BuildOptions(), "", ""), make)

        try:
            with tempfile.TemporaryDirectory() as folder:
                cache = EngineCache(Path(folder))
                build_all([job(index) for index in range(engines)], cache, lambda told: report(str(told)))
        except Exception:  # noqa: BLE001 - what such nodes do
            return (0.0,)
        return (number,)


class Die(V1):
    """Ends its process: by SIGKILL, or as a broken extension module would."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "how": (["never", "kill", "segfault"],), "on": ("INT", {"default": 1})}}

    def __init__(self):
        self.calls = 0

    def run(self, value, how, on):
        self.calls += 1
        if how != "never" and self.calls >= on:
            if how == "segfault":
                ctypes.string_at(0)
            os.kill(os.getpid(), signal.SIGKILL)
        return (value,)


class InferenceMode(V1):
    RETURN_TYPES = ("FLOAT",)

    def run(self, value):
        return (1.0 if torch.is_inference_mode_enabled() else 0.0,)


class Brightness(V1):
    """[image] -> its mean as a number."""

    RETURN_TYPES = ("FLOAT",)

    def run(self, value):
        return (float(value.mean()),)


class Loudness(V1):
    RETURN_TYPES = ("FLOAT",)

    def run(self, value):
        return (float(value["waveform"].abs().mean()),)


class Fill(V1):
    """A picture filled with a number."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"like": ("*",), "number": ("FLOAT", {"default": 0.5})}}

    def run(self, like, number):
        return (torch.full_like(like, number),)


class Card(V1):
    """A static picture."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("FLOAT", {"default": 0.5}), "size": ("INT", {"default": 16})}}

    def run(self, number, size):
        return (torch.full((1, size, size, 3), number),)


class ToText(V1):
    RETURN_TYPES = ("STRING",)

    def run(self, value):
        return (f"{value}",)


class Gain(V1):
    RETURN_TYPES = ("AUDIO",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("AUDIO",), "gain": ("FLOAT", {"default": 0.5})}}

    def run(self, value, gain):
        return ({"waveform": value["waveform"] * gain, "sample_rate": value["sample_rate"]},)


class TooMany(V1):
    """Returns more values than it declares."""

    def run(self, value):
        return (value, 7)


class TooFew(V1):
    RETURN_TYPES = ("*", "*")

    def run(self, value):
        return (value,)


class RawLink(V1):
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*", {"rawLink": True})}}

    def run(self, value):
        CALLS.append(("RawLink", repr(value)))
        return (repr(value),)


class Undeclared(V1):
    """Takes whatever it gets."""

    RETURN_TYPES = ("STRING",)

    def run(self, value, **more):
        return (",".join(sorted(more)),)


class SilentExpand(V1):
    """Expands without a builder: nobody can know before it does."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}}

    def run(self, value):
        inputs = {"value": value, "amount": 1.0}
        return {"result": (["x.0.0.1", 0],), "expand": {"x.0.0.1": {"class_type": "TestAdd", "inputs": inputs}}}


class V3Pass(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Pass", category="testing", inputs=[io.AnyType.Input("value")], outputs=[io.AnyType.Output()]
        )

    @classmethod
    def execute(cls, value) -> io.NodeOutput:
        return io.NodeOutput(value)


class V3Who(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Who",
            category="testing",
            inputs=[io.AnyType.Input("value")],
            outputs=[io.String.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, value) -> io.NodeOutput:
        try:
            cls.leak = 1
            locked = False
        except AttributeError:
            locked = True
        return io.NodeOutput(f"{cls.hidden.unique_id}|{cls.hidden.prompt}|{locked}")


class V3Block(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Block", category="testing", inputs=[io.AnyType.Input("value")], outputs=[io.AnyType.Output()]
        )

    @classmethod
    def execute(cls, value) -> io.NodeOutput:
        return io.NodeOutput(block_execution="blocked on purpose")


class V3Lazy(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Lazy",
            category="testing",
            inputs=[io.Boolean.Input("pick"), io.AnyType.Input("a", lazy=True), io.AnyType.Input("b", lazy=True)],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def check_lazy_status(cls, pick, a=None, b=None):
        return ["b"] if pick else ["a"]

    @classmethod
    def execute(cls, pick, a=None, b=None) -> io.NodeOutput:
        return io.NodeOutput(b if pick else a)


class V3Grow(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        grow = io.Autogrow.TemplatePrefix(io.Float.Input("n"), prefix="n", min=1, max=8)
        return io.Schema(
            node_id="TestV3Grow",
            category="testing",
            inputs=[io.Autogrow.Input("numbers", template=grow)],
            outputs=[io.Float.Output()],
        )

    @classmethod
    def execute(cls, numbers) -> io.NodeOutput:
        return io.NodeOutput(float(sum(numbers.values())))


class V3Async(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Async", category="testing", inputs=[io.AnyType.Input("value")], outputs=[io.AnyType.Output()]
        )

    @classmethod
    async def execute(cls, value) -> io.NodeOutput:
        await asyncio.sleep(0)
        return io.NodeOutput(value)


_V1 = [
    Pass, Add, Source, Counter, MakeList, SumList, AddInts, LazySwitch, LazyWithoutStatus, Changing, Hidden, Block,
    BlockEveryOther, AsyncAdd, Ui, Sink, NotIdempotent, Fail, Slow, Builds, Die, InferenceMode, Brightness,
    Loudness, Fill, Card, ToText, Gain, TooMany, TooFew, RawLink, Undeclared,
    SilentExpand,
]  # fmt: skip
_V3 = [V3Pass, V3Who, V3Block, V3Lazy, V3Grow, V3Async]

NODE_CLASS_MAPPINGS = {f"Test{cls.__name__}": cls for cls in _V1 + _V3}
EXTENSION = ComfyExtension
