"""Nodes that make one value of another: what a test needs to see what a graph has done."""

import time

import torch

from .base import CALLS, V1


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


class AddInts(V1):
    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": ("INT", {"default": 0}), "b": ("INT", {"default": 0})}}

    def run(self, a, b):
        CALLS.append(("AddInts", (a, b)))
        return (a + b,)


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


class Slow(V1):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "seconds": ("FLOAT", {"default": 0.1})}}

    def run(self, value, seconds):
        time.sleep(seconds)
        return (value,)


NODES = (Pass, Add, Source, Counter, AddInts, InferenceMode, Brightness, Loudness, Fill, Card, ToText, Gain, Slow)
