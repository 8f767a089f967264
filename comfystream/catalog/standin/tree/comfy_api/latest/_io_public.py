"""The public name of `_io`."""

from ._io import *  # noqa: F403
