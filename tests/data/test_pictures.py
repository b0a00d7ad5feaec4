"""The one decoder: odd pictures are read, damaged ones named; names that lead out of their folder are refused."""

import os
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from mmutils.batches.images import read_picture
from mmutils.data import inside
from mmutils.data.tools import pictures
from mmutils.data.tools.audit import audit_tables
from mmutils.report.explorer import thumbnail

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((80, 60))


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF with entries of tag, type, count and four bytes of value."""
    content = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + content + bytes(4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(tmp_path, orientation) -> None:
    PHOTO.save(tmp_path / "photo.jpg", exif=exif((0x112, 3, 1, struct.pack("<HH", orientation, 0))))
    with Image.open(tmp_path / "photo.jpg") as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(np.asarray(pictures.open_picture(tmp_path / "photo.jpg")), np.asarray(expected))


@pytest.mark.parametrize(
    "entry",
    [
        (0x101, 2, 3, b"ab\0\0"),  # the height as a text
        (0x131, 12, 1, b"\xff\xff\xff\xff"),  # the software's name as a number that lies elsewhere
        (0x11B, 5, 1, b"\xff\xff\xff\xff"),  # a resolution that lies outside of the file
        (0x128, 7, 4, b"\0\0\0\0"),
        (0x8769, 4, 1, b"\xff\xff\xff\xff"),  # an inner directory that lies nowhere
    ],
)
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_odd_entries_do_not_keep_a_picture_from_being_read_upright(tmp_path, entry, ending) -> None:
    turned = exif((0x112, 3, 1, struct.pack("<HH", 6, 0)), entry)
    PHOTO.save(tmp_path / f"odd.{ending}", exif=turned)
    assert pictures.open_picture(tmp_path / f"odd.{ending}").size == (60, 80)


def test_damaged_files_of_every_format_are_named(tmp_path) -> None:
    Image.init()
    formats = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"}
    formats |= {ending: kind for ending, kind in (("jp2", "JPEG2000"), ("avif", "AVIF")) if kind in Image.OPEN}
    for ending, kind in formats.items():
        PHOTO.save(tmp_path / f"whole.{ending}", kind)
        assert pictures.open_picture(tmp_path / f"whole.{ending}").size == PHOTO.size
        content = (tmp_path / f"whole.{ending}").read_bytes()
        for length in (0, 10, 40, len(content) // 2):
            (tmp_path / f"cut.{ending}").write_bytes(content[:length])
            with pytest.raises(ValueError, match=rf"cut.{ending} cannot be read as a picture \(\w+: .*Replace it"):
                read_picture(tmp_path / f"cut.{ending}", 8)
        random = np.random.default_rng(0)
        for _ in range(40):  # anything may come out, but not an error without a name
            noisy = bytearray(content)
            for place in random.integers(0, len(content), 8):
                noisy[place] ^= int(random.integers(1, 256))
            (tmp_path / f"noisy.{ending}").write_bytes(noisy)
            try:
                thumbnail(str(tmp_path / f"noisy.{ending}"))
            except ValueError as error:
                assert f"noisy.{ending}" in str(error)


def test_formats_that_are_not_named_are_not_opened(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    (tmp_path / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    PHOTO.save(tmp_path / "other.jpg", "PPM")
    for name in ("script.jpg", "other.jpg"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture"):
            pictures.open_picture(tmp_path / name)


def test_what_is_no_file_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("pipe.jpg", "nowhere.jpg", "", "a" * 300):
        with pytest.raises(FileNotFoundError, match="there is no picture"):
            pictures.open_picture(tmp_path / name)


def test_a_thumbnail_keeps_its_transparency_and_others_are_put_on_white(tmp_path) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    (tmp_path / "small.png").write_bytes(thumbnail(str(tmp_path / "clear.png")))
    assert pictures.open_picture(tmp_path / "small.png").getpixel((0, 0))[3] == 0
    assert pictures.on_white(pictures.open_picture(tmp_path / "clear.png")).getpixel((0, 0)) == (255, 255, 255)


def test_the_audit_lists_pictures_that_are_damaged_and_goes_on(tmp_path) -> None:
    PHOTO.save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    rows = {"id": ["a", "b"], "group": ["a", "b"], "text": ["x", "y"], "label": [0, 1]}
    table = pd.DataFrame(rows | {"image": [str(tmp_path / "bad.png"), str(tmp_path / "good.png")]})
    unreadable = audit_tables({"train": table}, ("no", "yes"))["unreadable"]
    assert unreadable["id"].tolist() == ["a"] and "bad.png cannot be read" in unreadable["error"][0]


@pytest.mark.parametrize("name", ["img/1.png", "img\\1.png", "./img//1.png", "img/../img/1.png", "C.png", "..dots.png"])
def test_names_below_a_folder(tmp_path, name) -> None:
    assert Path(inside(tmp_path, name)).resolve().is_relative_to(tmp_path)
    assert inside(tmp_path, "img\\a.png") == str(tmp_path / "img" / "a.png")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "\\share\\x.png",
        "C:\\x.png",
        "c:x.png",
        "../x.png",
        "img/../../x.png",
        "..\\x.png",
        "a\0b",
        "\ud800",
    ],
)
def test_names_that_lead_out_are_refused(tmp_path, name) -> None:
    with pytest.raises(ValueError, match=r"^rows.tsv, line 3: the path .*must lie in"):
        inside(tmp_path, name, "rows.tsv, line 3")


def test_links_that_lead_out_are_refused_and_the_root_may_be_a_link(tmp_path) -> None:
    (tmp_path / "set" / "img").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    (tmp_path / "set" / "img" / "private").symlink_to(tmp_path / "private")
    (tmp_path / "set" / "same").symlink_to("img")
    (tmp_path / "link").symlink_to("set")
    with pytest.raises(ValueError, match="leads out by a link"):
        inside(tmp_path / "set", "img/private/passport.png")
    assert inside(tmp_path / "link", "same/1.png") == str(tmp_path / "link" / "same" / "1.png")
