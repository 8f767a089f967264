from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def test_a_saved_picture_is_loaded_again_with_its_workflow(core, folders: Path) -> None:
    picture = torch.randint(0, 256, (2, 5, 7, 3), generator=torch.Generator().manual_seed(1)) / 255.0
    saved = core.NODE_CLASS_MAPPINGS["SaveImage"]().save_images(
        picture, "sub/p_%batch_num%", prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}}
    )
    names = [(item["subfolder"], item["type"]) for item in saved["ui"]["images"]]
    assert names == [("sub", "output")] * 2
    files = [folders / "output" / "sub" / item["filename"] for item in saved["ui"]["images"]]
    with Image.open(files[0]) as file:
        assert json.loads(file.text["prompt"]) == {"1": {}}
        assert json.loads(file.text["workflow"]) == {"nodes": []}
    loaded = core.NODE_CLASS_MAPPINGS["LoadImage"]().load_image(f"sub/{files[1].name} [output]")
    assert torch.allclose(loaded[0], picture[1:], atol=1e-6)
    assert loaded[1].shape == (1, 64, 64)
    assert loaded[1].sum() == 0


def test_alpha_becomes_a_mask(run, folders: Path) -> None:
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., 3] = [[0, 51, 255], [255, 255, 255]]
    Image.fromarray(pixels).save(folders / "input" / "alpha.png")
    mask = run("LoadImage", image="alpha.png")[1]
    assert torch.allclose(mask[0, 0], torch.tensor([1.0, 0.8, 0.0]))
    assert torch.equal(run("LoadImageMask", image="alpha.png", channel="alpha")[0], mask)
    assert run("LoadImageMask", image="alpha.png", channel="red")[0].shape == (1, 2, 3)


def test_deep_grey_palette_rotated_and_animated_pictures(run, folders: Path) -> None:
    place = folders / "input"
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(place / "deep.png")
    assert torch.allclose(run("LoadImage", image="deep.png")[0][0, 0, :, 1], torch.tensor([0, 32768 / 65535, 1.0]))
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    palette.save(place / "palette.png", transparency=1)
    picture, mask = run("LoadImage", image="palette.png")
    assert picture[0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert mask[0, 0].tolist() == [0, 1]
    turned = Image.new("RGB", (3, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(place / "turned.jpg", exif=exif)
    assert run("LoadImage", image="turned.jpg")[0].shape == (1, 3, 2, 3)
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "green", "blue")]
    frames[0].save(place / "moving.gif", save_all=True, append_images=frames[1:])
    assert run("LoadImage", image="moving.gif")[0].shape == (3, 4, 4, 3)


def test_the_choices_are_the_pictures_in_the_input_folder(core, folders: Path) -> None:
    Image.new("RGB", (1, 1)).save(folders / "input" / "b.png")
    Image.new("RGB", (1, 1)).save(folders / "input" / "a.webp")
    (folders / "input" / "notes.txt").write_text("")
    load = core.NODE_CLASS_MAPPINGS["LoadImage"]
    assert load.INPUT_TYPES()["required"]["image"][0] == ["a.webp", "b.png"]
    assert load.VALIDATE_INPUTS("b.png") is True
    assert load.VALIDATE_INPUTS("c.png") == 'no picture "c.png" in the input folder'


def test_a_changed_file_is_noticed(core, folders: Path) -> None:
    load, file = core.NODE_CLASS_MAPPINGS["LoadImage"], folders / "input" / "x.png"
    Image.new("RGB", (1, 1), "red").save(file)
    before = load.IS_CHANGED("x.png")
    assert load.IS_CHANGED("x.png") == before
    Image.new("RGB", (1, 1), "blue").save(file)
    os.utime(file, ns=(1, 1))
    assert load.IS_CHANGED("x.png") != before


def test_previews_go_to_the_temporary_folder(core, folders: Path) -> None:
    preview = core.NODE_CLASS_MAPPINGS["PreviewImage"]().save_images(torch.zeros(1, 2, 2, 3))
    shown = core.NODE_CLASS_MAPPINGS["MaskPreview"].execute(mask=torch.ones(2, 2)).ui
    for item in [*preview["ui"]["images"], *shown["images"]]:
        assert item["type"] == "temp"
        assert (folders / "temp" / item["filename"]).is_file()
