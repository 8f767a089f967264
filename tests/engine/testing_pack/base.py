"""What the testing nodes share."""

CALLS: list[tuple[str, object]] = []
"""What was called, with what tells one call from another."""


class V1:
    FUNCTION = "run"
    CATEGORY = "testing"
    RETURN_TYPES = ("*",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}}
