"""Nodes that ask to be called in a way of their own: with lists, lazily, with hidden inputs, asynchronously."""

import asyncio
import itertools

from .base import CALLS, V1


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


class NotIdempotent(V1):
    RETURN_TYPES = ("FLOAT",)
    NOT_IDEMPOTENT = True
    counter = itertools.count()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (float(next(self.counter)),)


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


class AsyncAdd(V1):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}, "optional": {"amount": ("FLOAT", {"default": 1.0})}}

    async def run(self, value, amount=1.0):
        CALLS.append(("AsyncAdd", "begin"))
        await asyncio.sleep(0.01)
        CALLS.append(("AsyncAdd", "end"))
        return (value + amount,)


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


NODES = (
    MakeList,
    SumList,
    LazySwitch,
    LazyWithoutStatus,
    Changing,
    NotIdempotent,
    Hidden,
    AsyncAdd,
    RawLink,
    Undeclared,
)
