"""An older name of `comfy_api.latest._input`."""

from .latest._input import *  # noqa: F403
