"""Where files are: input, output, temp and model folders."""

from __future__ import annotations

import mimetypes
import os
import time
from collections.abc import Collection, Iterable

from comfystream.catalog.standin.state import FOLDERS, Folders

supported_pt_extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}
base_path = models_dir = input_directory = output_directory = temp_directory = user_directory = ""

_MODEL_FOLDERS = {
    "checkpoints": ("checkpoints",),
    "loras": ("loras",),
    "vae": ("vae",),
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("unet", "diffusion_models"),
    "clip_vision": ("clip_vision",),
    "style_models": ("style_models",),
    "embeddings": ("embeddings",),
    "vae_approx": ("vae_approx",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "gligen": ("gligen",),
    "upscale_models": ("upscale_models",),
    "latent_upscale_models": ("latent_upscale_models",),
    "hypernetworks": ("hypernetworks",),
    "photomaker": ("photomaker",),
    "model_patches": ("model_patches",),
    "audio_encoders": ("audio_encoders",),
}
_OLD_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}


def use_folders(folders: Folders) -> None:
    """Put other folders in force; model folders that packs added stay."""
    global base_path, models_dir, input_directory, output_directory, temp_directory, user_directory
    base_path, models_dir = folders.base, folders.models
    input_directory, output_directory, temp_directory = folders.input, folders.output, folders.temp
    user_directory = os.path.join(base_path, "user")
    for name, subfolders in _MODEL_FOLDERS.items():
        paths = [os.path.join(models_dir, subfolder) for subfolder in subfolders]
        folder_names_and_paths[name] = (paths, set(supported_pt_extensions))
    folder_names_and_paths["configs"] = ([os.path.join(models_dir, "configs")], {".yaml"})
    folder_names_and_paths["diffusers"] = ([os.path.join(models_dir, "diffusers")], {"folder"})
    folder_names_and_paths["classifiers"] = ([os.path.join(models_dir, "classifiers")], {""})
    folder_names_and_paths["custom_nodes"] = ([os.path.join(base_path, "custom_nodes")], set())


def map_legacy(folder_name: str) -> str:
    """The present name of a model folder."""
    return _OLD_NAMES.get(folder_name, folder_name)


def get_output_directory() -> str:
    """Where results are written."""
    return output_directory


def get_temp_directory() -> str:
    """Where previews are written."""
    return temp_directory


def get_input_directory() -> str:
    """Where files that workflows name are looked for."""
    return input_directory


def get_user_directory() -> str:
    """Where packs keep settings."""
    return user_directory


def set_output_directory(output_dir: str) -> None:
    """Write results elsewhere."""
    global output_directory
    output_directory = output_dir


def set_temp_directory(temp_dir: str) -> None:
    """Write previews elsewhere."""
    global temp_directory
    temp_directory = temp_dir


def set_input_directory(input_dir: str) -> None:
    """Look for input files elsewhere."""
    global input_directory
    input_directory = input_dir


def get_directory_by_type(type_name: str) -> str | None:
    """The folder of "input", "output" or "temp"; None for another name."""
    return {"input": input_directory, "output": output_directory, "temp": temp_directory}.get(type_name)


def annotated_filepath(name: str) -> tuple[str, str | None]:
    """Name and folder of "name [output]"; the folder is None where none is annotated."""
    for kind in ("input", "output", "temp"):
        mark = f"[{kind}]"
        if name.endswith(mark):
            return name[: -len(mark)].rstrip(" "), get_directory_by_type(kind)
    return name, None


def is_within_directory(directory: str, target: str) -> bool:
    """Whether `target` lies in `directory`, links followed."""
    folder, path = os.path.realpath(directory), os.path.realpath(target)
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
    """Full path of an annotated name, below its folder.

    Raises:
        ValueError: the name leads out of its folder.
    """
    file, folder = annotated_filepath(name)
    folder = folder or default_dir or input_directory
    path = os.path.join(folder, file)
    if not is_within_directory(folder, path):
        raise ValueError(f"file {name!r} lies outside of {folder}")
    return path


def exists_annotated_filepath(name: str) -> bool:
    """Whether that file is there and lies within its folder."""
    file, folder = annotated_filepath(name)
    folder = folder or input_directory
    path = os.path.join(folder, file)
    return is_within_directory(folder, path) and os.path.exists(path)


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    """Look for models of a kind in one more folder; first, if it is the default."""
    paths, _ = folder_names_and_paths.setdefault(map_legacy(folder_name), ([], set()))
    if full_folder_path in paths:
        if not is_default or paths[0] == full_folder_path:
            return
        paths.remove(full_folder_path)
    paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    """Folders of a kind of model; a copy."""
    return list(folder_names_and_paths[map_legacy(folder_name)][0])


def recursive_search(
    directory: str, excluded_dir_names: Iterable[str] | None = None
) -> tuple[list[str], dict[str, float]]:
    """Files below a folder by relative path, and the change times of the folders."""
    skip = set(excluded_dir_names or ())
    files: list[str] = []
    times: dict[str, float] = {}
    for folder, subfolders, names in os.walk(directory, followlinks=True):
        subfolders[:] = [name for name in subfolders if name not in skip]
        times[folder] = os.path.getmtime(folder)
        files.extend(os.path.relpath(os.path.join(folder, name), directory) for name in names)
    return files, times


def filter_files_extensions(files: Collection[str], extensions: Collection[str]) -> list[str]:
    """Sorted files with one of these extensions; with none given, all."""
    return sorted(file for file in files if not extensions or os.path.splitext(file)[1].lower() in extensions)


def filter_files_content_types(files: Iterable[str], content_types: Collection[str]) -> list[str]:
    """Files that are images, videos, audio or models, by their extension."""
    return [file for file in files if _content_type(file) in content_types]


def _content_type(file: str) -> str:
    extension = os.path.splitext(file)[1].lower()
    if extension in {".gltf", ".glb", ".obj", ".fbx", ".stl", ".usdz"}:
        return "model"
    if extension == ".webp":
        return "image"
    return (mimetypes.guess_type(file, strict=False)[0] or "").partition("/")[0]


def get_full_path(folder_name: str, filename: str) -> str | None:
    """Where that model file is; None when it is in none of the folders."""
    entry = folder_names_and_paths.get(map_legacy(folder_name))
    relative = os.path.relpath(os.path.join(os.sep, filename), os.sep)
    for folder in entry[0] if entry is not None else ():
        path = os.path.join(folder, relative)
        if os.path.isfile(path):
            return path
    return None


def get_full_path_or_raise(folder_name: str, filename: str) -> str:
    """As `get_full_path`.

    Raises:
        FileNotFoundError: it is in none of the folders.
    """
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(f"no {filename!r} in the {folder_name} folders {get_folder_paths(folder_name)}")
    return path


def get_filename_list(folder_name: str) -> list[str]:
    """Model files of a kind, sorted, read from disk at each call."""
    paths, extensions = folder_names_and_paths[map_legacy(folder_name)]
    found: set[str] = set()
    for folder in paths:
        if os.path.isdir(folder):
            found.update(filter_files_extensions(recursive_search(folder, [".git"])[0], extensions))
    return sorted(found)


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """Where the next file of a prefix goes; the folder is made.

    Returns:
        Folder, file name without number, next number, subfolder, prefix with its placeholders filled in.

    Raises:
        ValueError: the prefix leads out of the folder.
    """
    prefix = _filled_in(filename_prefix, image_width, image_height)
    subfolder, name = os.path.split(os.path.normpath(prefix))
    folder = os.path.join(output_dir, subfolder)
    if not is_within_directory(output_dir, folder):
        raise ValueError(f"files cannot be written outside of {output_dir}: {filename_prefix!r}")
    os.makedirs(folder, exist_ok=True)
    numbers = [_number_of(file, name) for file in os.listdir(folder)]
    return folder, name, max(numbers, default=0) + 1, subfolder, prefix


def _filled_in(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    values = {
        "%width%": str(width),
        "%height%": str(height),
        "%year%": str(now.tm_year),
        "%month%": f"{now.tm_mon:02}",
        "%day%": f"{now.tm_mday:02}",
        "%hour%": f"{now.tm_hour:02}",
        "%minute%": f"{now.tm_min:02}",
        "%second%": f"{now.tm_sec:02}",
    }
    for mark, value in values.items():
        prefix = prefix.replace(mark, value)
    return prefix


def _number_of(file: str, name: str) -> int:
    # "<name>_<digits>_.png"; anything else counts as 0
    if os.path.normcase(file[: len(name) + 1]) != os.path.normcase(name + "_"):
        return 0
    digits = file[len(name) + 1 :].split("_")[0]
    return int(digits) if digits.isdecimal() else 0


def get_input_subfolders() -> list[str]:
    """Folders below the input folder, by relative path."""
    if not os.path.isdir(input_directory):
        return []
    found = [os.path.relpath(folder, input_directory) for folder, _, _ in os.walk(input_directory)]
    return sorted(folder for folder in found if folder != ".")


use_folders(FOLDERS.now)
