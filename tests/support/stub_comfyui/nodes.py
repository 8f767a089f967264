"""ComfyUI's own name, which a custom node folder must leave alone."""

WHOSE = "ComfyUI"


class LoadImage:
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ([], {"image_upload": True})}}


class TestShade:
    """A built-in class of this ComfyUI: the bundled set of our engine has it as well."""

    RETURN_TYPES = ("IMAGE",)


NODE_CLASS_MAPPINGS = {"LoadImage": LoadImage, "ImageInvert": TestShade}
NODE_DISPLAY_NAME_MAPPINGS = {}
EXTENSION_WEB_DIRS = {}
