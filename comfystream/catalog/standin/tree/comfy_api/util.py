"""An older name of `comfy_api.latest._util`."""

from .latest._util import *  # noqa: F403
