"""Decoding against Pillow, operations on pixels against torchvision, views against what they promise."""

import colorsys
from pathlib import Path

import forks
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision.transforms.v2.functional as reference
from PIL import Image

from mmutils.batches import augment as augment_module
from mmutils.batches import images as images_module
from mmutils.batches.augment import Augment, MultiCrop
from mmutils.batches.images import decode, read_picture
from mmutils.report import plots


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path):
    """Four smooth pictures of random colours, JPEG and PNG, 80 x 60 augment_module."""
    paths = []
    for number, ending in enumerate(["jpg", "png", "jpg", "png"]):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC).save(
            tmp_path / f"{number}.{ending}", quality=95
        )
        paths.append(str(tmp_path / f"{number}.{ending}"))
    return paths


def batch(count=4, size=32, seed=0):
    """Smooth random pictures, uint8 (count, 3, size, size)."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (fine * 255).round().byte().contiguous(memory_format=torch.channels_last)


def test_decode_equals_pillow_and_is_done_once(pictures, monkeypatch):
    order = [pictures[2], pictures[0], pictures[1], pictures[3]]
    read = []
    monkeypatch.setattr(
        images_module, "read_picture", lambda path, size, pad: (read.append(path), read_picture(path, size))[1]
    )
    decoded = decode(order, 24)
    assert isinstance(decoded, np.memmap)
    assert decoded.shape == (4, 24, 24, 3) and decoded.dtype == np.uint8
    for row, path in zip(decoded, order, strict=True):
        whole = Image.open(path).convert("RGB").resize((24, 24), Image.Resampling.BILINEAR)
        assert np.abs(row.astype(int) - np.asarray(whole)).mean() < 2  # a JPEG may have been decoded at half its size
    assert len(read) == 4
    assert np.array_equal(decode(order, 24), decoded)
    assert len(read) == 4
    Image.new("RGB", (9, 9), "red").save(pictures[0])  # a changed file is read again
    assert (decode(order, 24)[1] == (254, 0, 0)).all() or len(read) == 8


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 255, 255), (0, 0, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("I;16", 90 * 257, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (254, 0, 0)),
    ],
)
def test_every_mode_ends_as_rgb_on_white(tmp_path, mode, colour, expected):
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    Image.new(mode, (20, 10), colour).save(path)
    assert np.abs(read_picture(path, 4).astype(int) - expected).max() <= 2


def test_palette_with_transparency_and_orientation(tmp_path):
    palette = Image.new("P", (10, 10), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.paste(1, (0, 0, 10, 5))
    palette.save(tmp_path / "palette.png", transparency=0)
    read = read_picture(tmp_path / "palette.png", 10)
    assert (read[0, 0] == (200, 100, 50)).all() and (read[9, 9] == 255).all()
    upright = Image.new("RGB", (16, 16), "black")
    upright.paste("white", (0, 0, 16, 8))  # the top half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # stored so that it must be turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    read = read_picture(tmp_path / "turned.jpg", 16)
    assert read[:6].mean() > 250 and read[10:].mean() < 5


def test_bad_files_are_named(tmp_path, pictures, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"2 of 6 .*(?s:.)*gone_1"):
        decode([*pictures, tmp_path / "gone_1.png", tmp_path / "gone_2.png"], 8)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(Path(pictures[0]).read_bytes()[:700])
    (tmp_path / "text.png").write_text("<html>not found</html>")
    for name in ("cut.jpg", "text.png"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture.*leave missing ones out"):
            decode([*pictures, tmp_path / name], 8)
    assert not list((tmp_path / "cache").rglob("*.*"))  # nothing half-written stays
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="too large"):
        read_picture(pictures[1], 8)
    with pytest.raises(ValueError, match="empty"):
        decode([], 8)


def decode_into(paths, file):
    file.write_bytes(decode(paths, 64).tobytes())


def test_two_processes_decode_at_once(pictures, tmp_path):
    files = [tmp_path / name for name in ("first", "second")]
    assert forks.ended(*[forks.started(decode_into, pictures * 50, file) for file in files]) == [0, 0]
    assert files[0].read_bytes() == files[1].read_bytes() != b""


@pytest.mark.parametrize("size", [20, 32, 50])
def test_resized_crop_equals_torchvision(size):
    images = batch(size=32)
    boxes = torch.tensor([[0, 0, 32, 32], [3, 5, 20, 9], [10, 0, 7, 32], [31, 31, 1, 1]])
    mirror = torch.tensor([False, True, True, False])
    ours = augment_module.resized_crop(images, boxes, mirror, size)
    rows = augment_module._resize_matrix(boxes[:, 0], boxes[:, 2], 32, size)
    columns = augment_module._resize_matrix(boxes[:, 1], boxes[:, 3], 32, size)
    columns[mirror] = columns[mirror].flip(1)
    on_gpu = augment_module._separable(images.float() / 255, rows, columns)  # the path that other devices take
    for row, (box, mirrored) in enumerate(zip(boxes.tolist(), mirror, strict=True)):
        expected = reference.resized_crop(images[row].float() / 255, *box, (size, size), antialias=True)
        expected = reference.horizontal_flip(expected) if mirrored else expected
        torch.testing.assert_close(ours[row], expected, atol=1.01 / 255, rtol=0)
        torch.testing.assert_close(on_gpu[row], expected, atol=1e-5, rtol=0)


NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "grey": 0.0}


def colour(images, **changes):
    values = {name: torch.full((len(images),), value) for name, value in {**NEUTRAL, **changes}.items()}
    return augment_module.apply_colour(images, **values)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
def test_colour_equals_torchvision(name, factor):
    images = batch() / 255.0
    expected = getattr(reference, f"adjust_{name}")(images, factor)
    torch.testing.assert_close(colour(images, **{name: factor}), expected, atol=2e-3, rtol=0)  # luma has 3 or 4 digits


def test_colour_composed_and_per_picture():
    images = batch() / 255.0 * 0.4 + 0.3  # in the middle, where nothing is cut off on the way
    expected = reference.adjust_brightness(images, 1.2)
    expected = reference.adjust_saturation(reference.adjust_contrast(expected, 0.7), 1.1)
    changed = colour(images, brightness=1.2, contrast=0.7, saturation=1.1)
    torch.testing.assert_close(changed, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(colour(images), images, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        colour(images, hue=0.2, grey=1.0), reference.rgb_to_grayscale(images, 3), atol=1e-3, rtol=0
    )
    factors = torch.tensor([0.5, 1.0, 1.0, 1.0])
    one = augment_module.apply_colour(images, factors, *torch.ones(2, 4), torch.zeros(4), torch.zeros(4))
    torch.testing.assert_close(one[0], images[0] / 2)
    torch.testing.assert_close(one[1:], images[1:])


def test_hue_turns_like_hsv_keeps_luma_and_grey():
    generator = torch.Generator().manual_seed(0)
    images = 0.5 + 0.1 * (torch.rand(2, 3, 4, 4, generator=generator) - 0.5)  # pale colours, no cut
    luma = torch.tensor(augment_module.YIQ[0])
    turned = colour(images, hue=0.1)
    torch.testing.assert_close(
        *(torch.einsum("bchw,c->bhw", picture, luma) for picture in (turned, images)), atol=1e-4, rtol=0
    )
    hues = [
        [colorsys.rgb_to_hsv(*pixel)[0] for pixel in p.permute(0, 2, 3, 1).reshape(-1, 3).tolist()]
        for p in (images, turned)
    ]
    shift = (np.subtract(hues[1], hues[0]) + 0.5) % 1 - 0.5
    assert abs(shift.mean() - 0.1) < 0.03 and (shift > 0).all()  # the same direction and size as torchvision's
    grey = torch.full((1, 3, 2, 2), 0.3)
    torch.testing.assert_close(colour(grey, hue=0.3), grey, atol=1e-4, rtol=0)


def test_blur_and_solarise_equal_torchvision():
    images = batch(size=40) / 255.0
    sigma = torch.tensor([0.5, 1.0, 1.5, 2.0])
    blurred = augment_module.gaussian_blur(images, sigma)
    for row, value in enumerate(sigma.tolist()):
        expected = reference.gaussian_blur(images[row], [19, 19], [value, value])
        torch.testing.assert_close(blurred[row, :, 9:-9, 9:-9], expected[:, 9:-9, 9:-9], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        augment_module.gaussian_blur(torch.ones(1, 3, 8, 8), torch.ones(1)), torch.ones(1, 3, 8, 8)
    )
    plain = {"scale": (1, 1), "ratio": (1, 1), "flip": False, "jitter": 0, "grey": 0}
    views = Augment(40, solarise=1.0, **plain)(batch(size=40), torch.Generator())
    torch.testing.assert_close(views, reference.solarize(images, 0.5), atol=1e-5, rtol=0)


def test_augment_draws_per_picture_and_only_from_its_generator():
    images = batch(1).expand(64, -1, -1, -1)
    augment = Augment(24, blur=0.5, solarise=0.5)
    torch.manual_seed(0)
    first = augment(images, torch.Generator().manual_seed(1))
    torch.manual_seed(1)
    assert torch.equal(first, augment(images, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, augment(images, torch.Generator().manual_seed(2)))
    assert first.shape == (64, 3, 24, 24) and first.dtype == torch.float32
    assert first.min() >= 0 and first.max() <= 1
    assert len(first.flatten(1).unique(dim=0)) == 64


def test_share_of_each_operation():
    images, count = batch(1, size=16).expand(2000, -1, -1, -1), 2000
    plain = {"scale": (1, 1), "ratio": (1, 1), "flip": False, "jitter": 0, "grey": 0}

    def changed(**changes):
        views = Augment(16, **{**plain, **changes})(images, torch.Generator().manual_seed(0))
        return float(((views - images / 255).abs().amax((1, 2, 3)) > 1e-3).float().mean())

    assert changed() == 0
    for changes, share in [({"flip": True}, 0.5), ({"jitter": 0.8}, 0.8), ({"grey": 0.2}, 0.2), ({"blur": 0.3}, 0.3)]:
        assert abs(changed(**changes) - share) < 5 * (share * (1 - share) / count) ** 0.5
    assert abs(changed(solarise=0.1) - 0.1) < 0.04


def test_boxes_have_the_promised_area_and_shape():
    draws = torch.rand(4, 5000, generator=torch.Generator().manual_seed(0))
    top, left, height, width = Augment(64, scale=(0.2, 0.5), ratio=(0.75, 4 / 3))._boxes(*draws, 200, 200).unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 200).all() and (left + width <= 200).all()
    assert top.min() == 0 and (top + height).max() == 200  # every place can be reached
    area, ratio = height * width / 200**2, width / height
    assert area.min() > 0.195 and area.max() < 0.505 and abs(area.mean() - 0.35) < 0.01
    assert ratio.min() > 0.74 and ratio.max() < 1.35


def test_multicrop_views():
    views = MultiCrop.dino(32, 12, local_views=3)(batch(size=48), torch.Generator().manual_seed(0))
    assert [tuple(view.shape) for view in views] == [(4, 3, 32, 32)] * 2 + [(4, 3, 12, 12)] * 3
    assert not torch.equal(views[0], views[1])
    first, second, *local = MultiCrop.dino().views
    assert (first.size, first.scale, first.blur, second.blur, second.solarise, len(local)) == (
        224,
        (0.4, 1),
        1,
        0.1,
        0.2,
        8,
    )
    assert (local[0].size, local[0].scale, local[0].blur, local[0].flip) == (96, (0.05, 0.4), 0.5, True)
    safe = MultiCrop.dino(text_safe=True, blur=0.0).views
    assert not any(view.flip for view in safe) and all(view.scale[0] >= 0.3 and view.blur == 0 for view in safe)
    assert not Augment.text_safe(32).flip and Augment.text_safe(32, scale=(0.9, 1)).scale == (0.9, 1)


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"scale": (0, 1)}, {"scale": (0.8, 0.2)}, {"flip": True, "grey": 1.5}, {"hue": 0.7}]
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match="given Augment"):
        Augment(**{"size": 32, **wrong})


def test_a_damaged_picture_does_not_stop_a_row_of_them(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "whole.png").read_bytes()[:40])
    paths = [str(tmp_path / "whole.png"), str(tmp_path / "damaged.png"), None]
    axes = plots.picture_grid(pd.DataFrame({"image": paths, "text": "a text"}), columns=3).axes
    assert [len(axis.images) for axis in axes] == [1, 0, 0]
    assert [text.get_text() for text in axes[1].texts] == ["cannot\nbe read"] and not axes[2].texts


def test_a_perfect_classifiers_errors_are_an_empty_row():
    (axis,) = plots.picture_grid(pd.DataFrame({"image": [], "text": []}), titles=[]).axes
    assert [text.get_text() for text in axis.texts] == ["none"]


def test_padding_keeps_the_proportions(tmp_path):
    Image.new("RGB", (40, 20), "red").save(tmp_path / "wide.png")
    squashed, padded = (decode([tmp_path / "wide.png"], 16, pad)[0] for pad in (False, True))
    assert (squashed == (255, 0, 0)).all()
    assert (padded[4:12] == (255, 0, 0)).all() and (padded[:4] == 255).all() and (padded[12:] == 255).all()
