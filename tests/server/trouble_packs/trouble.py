"""Nodes that fail and nodes that are slow."""

import time


class FailAfter:
    FUNCTION, RETURN_TYPES, CATEGORY = "run", ("IMAGE",), "testing"

    def __init__(self):
        self.count = 0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "good": ("INT", {"default": 10})}}

    def run(self, image, good):
        self.count += 1
        if self.count > good:
            raise ValueError(f"only {good} are good")
        return (image,)


class Slow:
    FUNCTION, RETURN_TYPES, CATEGORY = "run", ("IMAGE",), "testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "seconds": ("FLOAT", {"default": 0.1})}}

    def run(self, image, seconds):
        time.sleep(seconds)
        return (image,)


class Hear:
    """Text from sound."""

    FUNCTION, RETURN_TYPES, CATEGORY = "run", ("STRING",), "testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"audio": ("AUDIO",)}}

    def run(self, audio):
        return (f"{audio['waveform'].shape[-1]} samples",)


NODE_CLASS_MAPPINGS = {"FailAfter": FailAfter, "Slow": Slow, "Hear": Hear}
