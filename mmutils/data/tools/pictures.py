"""Picture files: the one place that opens them, for training, audit, figures, report and prediction alike.

Files come from strangers. So formats are named one by one (a PostScript file called .jpg starts no Ghostscript), sizes
are bounded, of EXIF only the orientation is read, and whatever a library raises becomes a ValueError with the file's
name. Of an animation the first frame counts.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "MPO")
ORIENTATION = 0x0112  # the EXIF tag
TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
UPRIGHT = {value: Image.Transpose[name] for value, name in enumerate(TURNS, 2)}  # the tag's value -> what undoes it


def open_picture(path: str | Path, draft: tuple[int, int] | None = None) -> Image.Image:
    """Read a picture file, upright, in mode RGB, or RGBA where it is transparent.

    draft: width and height that are enough; a JPEG is then decoded at 1/2, 1/4 or 1/8 where that is still as large.
    FileNotFoundError where there is none; ValueError for one that is damaged or too large.
    """
    if not os.path.isfile(path):  # a folder, a device and a pipe are no files either
        raise FileNotFoundError(f"there is no picture {path}: put it there, or leave the example out")
    try:
        Image.init()
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:  # as Pillow was built
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            if draft:
                image.draft(None, draft)
            image.load()
            try:
                method = UPRIGHT.get(image.getexif().get(ORIENTATION))
            except Exception:  # other entries may be anything; every viewer shows such a picture
                method = None
            return _plain(image if method is None else image.transpose(method))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to be a photo ({error}). Shrink it, or leave it out.") from error
    except Exception as error:  # libraries raise many kinds for a damaged file
        problem = f"{path} cannot be read as a picture ({type(error).__name__}: {error})"
        raise ValueError(f"{problem}. Replace it, or delete it and leave missing ones out.") from error


def on_white(image: Image.Image) -> Image.Image:
    """The picture in mode RGB, on white where it is transparent."""
    image = _plain(image)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image


def _plain(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey: Pillow's own conversion would cut everything above 255 to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")
