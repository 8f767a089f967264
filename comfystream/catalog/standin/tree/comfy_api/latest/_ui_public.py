"""The public name of `_ui`."""

from ._ui import *  # noqa: F403
