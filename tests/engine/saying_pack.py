"""A node that takes long and says what it does."""

from __future__ import annotations

import threading

from comfystream.node_progress import report


class SayingBuilder:
    RETURN_TYPES, FUNCTION, CATEGORY = ("FLOAT",), "run", "testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("FLOAT", {"default": 1.0}), "parts": ("INT", {"default": 3})}}

    def run(self, number, parts):
        for part in range(parts):
            for _ in range(3):
                report(f"building engine {part + 1}/{parts} (unet)", part, parts)
        return (number,)


class EndlessBuilder(SayingBuilder):
    def run(self, number, parts):
        never = threading.Event()
        while True:
            report("building engine 1/1 (unet)", 0, 1)
            never.wait(0.01)


class SayingTick:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def __init__(self):
        self.ticks = 0

    def run(self, image):
        self.ticks += 1
        if self.ticks == 3:
            report("recording", 1, 2)
        if self.ticks == 6:
            report("")
        return (image,)


NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in (SayingBuilder, EndlessBuilder, SayingTick)}
