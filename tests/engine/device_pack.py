"""Node classes that differ in where they can take pictures. Loaded as a custom pack."""

import numpy as np
import torch

CALLS: list[tuple[str, list[str]]] = []


class Taking:
    FUNCTION = "run"
    CATEGORY = "testing"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}, "optional": {"other": ("IMAGE",), "dark": ("FLOAT", {"default": 0})}}

    def note(self, *tensors):
        CALLS.append((type(self).__name__, [one.device.type for one in tensors if one is not None]))


class DevFine(Taking):
    """Takes what comes."""

    def run(self, image, other=None, dark=0):
        self.note(image, other)
        return (image * (1 - dark),)


class DevNumpy(Taking):
    """Works with numpy, as many packs do."""

    def run(self, image, other=None, dark=0):
        self.note(image, other)
        return (torch.from_numpy(np.array(image.numpy()) * (1 - dark)),)


class DevMixes(Taking):
    """Multiplies by a tensor of its own."""

    def run(self, image, other=None, dark=0):
        self.note(image, other)
        return (image * torch.full((3,), 1.0 - dark),)


class DevBoth(Taking):
    """Needs both pictures in one place."""

    def run(self, image, other=None, dark=0):
        self.note(image, other)
        return ((image + other) / 2,)


class DevStatic(Taking):
    """A static picture, on the host as loaders give it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("FLOAT", {"default": 0.0})}}

    def run(self, value):
        return (torch.full((1, 16, 32, 3), value),)


class DevAsync(DevNumpy):
    """The same, as a coroutine."""

    async def run(self, image, other=None, dark=0):
        return super().run(image, other, dark)


class DevBroken(Taking):
    """Raises wherever its picture is."""

    def run(self, image, other=None, dark=0):
        self.note(image)
        raise ValueError("no such thing")


class DevFull(Taking):
    """The GPU is full."""

    def run(self, image, other=None, dark=0):
        self.note(image)
        raise torch.OutOfMemoryError("CUDA out of memory")


class DevLatent(Taking):
    """A dictionary with a tensor in it."""

    RETURN_TYPES = ("LATENT",)

    def run(self, image, other=None, dark=0):
        return ({"samples": image},)


class DevDecode(Taking):
    """Takes the dictionary with numpy."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}}

    def run(self, latent):
        self.note(latent["samples"])
        return (torch.from_numpy(np.array(latent["samples"].numpy())),)


class DevSink(Taking):
    """An output node of a pack that saves with numpy."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, image, other=None, dark=0):
        self.note(image)
        image.numpy()
        return ()


class DevFlaky(Taking):
    """Fails on every third call."""

    def __init__(self):
        self.count = 0

    def run(self, image, other=None, dark=0):
        self.count += 1
        if self.count % 3 == 0:
            raise ValueError("every third")
        return (image * 1.0,)


class DevSecond(Taking):
    """Works with the frame before, of which it keeps a copy on the host."""

    def __init__(self):
        self.before = None

    def run(self, image, other=None, dark=0):
        self.note(image)
        before, self.before = self.before, image.cpu()
        return (image if before is None else (image + before) / 2,)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (DevFine, DevNumpy, DevMixes, DevBoth, DevStatic, DevAsync, DevBroken, DevFull, DevLatent, DevDecode)
    + (DevSink, DevFlaky, DevSecond)
}
