"""Pictures: decoded once into a cache on disk, read from there as numbers ever after.

Decoding a 800x600 JPEG costs milliseconds and is the same work in every epoch of every run, so it is done once: each
picture is resized whole to a square (squashed, nothing is cut off, a meme keeps its printed text) and stored as bytes
in one .npy file that is read back as a memory map. Memory does not grow with the number of pictures. Augmentation is
in augment.py.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from mmutils.augment import Augment, MultiCrop
from mmutils.files import cache_dir

__all__ = ["Augment", "MultiCrop", "decode", "read_picture"]

VERSION = 1  # part of the cache key: raise it when read_picture gives other pixels


def decode(paths: Sequence[str | Path], size: int) -> np.ndarray:
    """The pictures as a read-only memory map, uint8 (N, size, size, 3), row i from paths[i].

    The first call decodes with threads and writes cache_dir()/images; later ones, in any process, only open the file.
    A picture whose file changed (name, size or time of change) is decoded again. A path that occurs twice is decoded
    once. FileNotFoundError lists missing files; ValueError names a file that is no picture, is cut off, or is
    suspiciously large.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, not {size}")
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        rows.setdefault(os.path.abspath(path), []).append(row)
    if not rows:
        raise ValueError("no pictures: the list of paths is empty")
    target = cache_dir() / "images" / f"{_key(rows, size)}.npy"
    if not target.exists():
        _write(target, rows, (sum(map(len, rows.values())), size, size, 3))
    return np.load(target, mmap_mode="r")


def read_picture(path: str | Path, size: int) -> np.ndarray:
    """One picture file as uint8 RGB (size, size, 3): upright (EXIF), on white where transparent, first frame."""
    try:
        with Image.open(path) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            image.draft(None, (size, size))  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that still is large enough
            return np.asarray(_rgb(ImageOps.exif_transpose(image)).resize((size, size), Image.Resampling.BILINEAR))
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} is too large to be a photo ({error}). Shrink it, or leave the example out."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises each of these for damaged files
        raise ValueError(
            f"{path} cannot be read as a picture ({error}). Replace it, or delete it and leave missing ones out."
        ) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey: Pillow's own conversion would cut everything above 255 to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _key(paths: dict[str, list[int]], size: int) -> str:
    """Hash over version, size and every file's path, length and time of change, with the rows it fills."""
    digest, missing = hashlib.sha256(f"{VERSION} {size}".encode()), []
    for path, rows in paths.items():
        try:
            status = os.stat(path)
            digest.update(f"\0{path}\0{status.st_size} {status.st_mtime_ns} {rows}".encode())
        except FileNotFoundError:
            missing.append(path)
    if missing:
        listed = "\n  ".join(missing[:3])
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} picture files are missing, the first of them:\n  {listed}"
        )
    return digest.hexdigest()[:32]


def _write(target: Path, rows: dict[str, list[int]], shape: tuple[int, int, int, int]) -> None:
    """Decode into a temporary file and rename it: readers see all or nothing, two writers do no harm."""
    target.parent.mkdir(parents=True, exist_ok=True)
    needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(target.parent).free
    if needed > free:
        raise OSError(
            f"{needed / 1e9:.1f} GB needed in {target.parent}, {free / 1e9:.1f} GB free. Set MMUTILS_CACHE elsewhere."
        )
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    os.close(handle)
    try:
        pictures = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)

        def work(path: str) -> None:
            pictures[rows[path]] = read_picture(path, shape[1])

        with ThreadPool(min(32, os.cpu_count() or 1)) as pool:  # Pillow decodes and resizes outside Python's lock
            for _ in tqdm(pool.imap_unordered(work, rows), "decoding pictures", len(rows), delay=2, unit="picture"):
                pass
        pictures.flush()
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
