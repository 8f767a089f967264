"""Where things are."""

import os
import tempfile

base_path = os.path.dirname(os.path.abspath(__file__))
_home = os.environ["STUB_HOME"]


def get_user_directory():
    return os.path.join(_home, "user")


def get_temp_directory():
    os.makedirs(os.path.join(_home, "temp"), exist_ok=True)
    return os.path.join(_home, "temp")


def get_save_image_path(prefix, folder, width=0, height=0):
    return folder, prefix, 1, "", prefix


tempfile.tempdir = None
