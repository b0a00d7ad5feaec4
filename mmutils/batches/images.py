"""Pictures: decoded once into a cache on disk, read from there as numbers ever after.

Decoding a 800x600 JPEG costs milliseconds and is the same work in every epoch of every run, so it is done once: each
picture is resized whole to a square (squashed, nothing is cut off, a meme keeps its printed text) and stored as bytes
in one .npy file that is read back as a memory map. Memory does not grow with the number of pictures. Augmentation is
in augment.py.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from tqdm.auto import tqdm

from mmutils.batches.augment import Augment, MultiCrop
from mmutils.data.tools import pictures
from mmutils.runs.files import cache_dir, cached_file

__all__ = ["Augment", "MultiCrop", "decode", "read_picture"]

VERSION = 1  # part of the cache key: raise it when read_picture gives other pixels


def decode(paths: Sequence[str | Path], size: int) -> np.ndarray:
    """The pictures as a read-only memory map, uint8 (N, size, size, 3), row i from paths[i].

    The first call decodes with threads and writes cache_dir()/images; later ones, in any process, only open the file.
    A picture whose file changed (name, size or a time of change) is decoded again, and all are with another Pillow. A
    path that occurs twice is decoded once. FileNotFoundError lists missing files; ValueError names a file that is no
    picture, is cut off, or is suspiciously large.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, not {size}")
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        rows.setdefault(os.path.abspath(path), []).append(row)
    if not rows:
        raise ValueError("no pictures: the list of paths is empty")
    shape = (sum(map(len, rows.values())), size, size, 3)
    file = cached_file(cache_dir() / "images" / _key(rows, size), ".npy", partial(_write, rows=rows, shape=shape))
    return np.load(file, mmap_mode="r")


def read_picture(path: str | Path, size: int) -> np.ndarray:
    """One picture file as uint8 RGB (size, size, 3): upright (EXIF), on white where transparent, first frame."""
    picture = pictures.on_white(pictures.open_picture(path, (size, size)))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def _key(paths: dict[str, list[int]], size: int) -> str:
    """Hash over versions, size and every file's path, length and times of change, with the rows it fills."""
    digest, missing = hashlib.sha256(f"{VERSION} {PIL.__version__} {size}".encode()), []
    for path, rows in paths.items():
        try:
            status = os.stat(path)
            digest.update(f"\0{path}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {rows}".encode())
        except FileNotFoundError:
            missing.append(path)
    if missing:
        listed = "\n  ".join(missing[:3])
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} picture files are missing, the first of them:\n  {listed}"
        )
    return digest.hexdigest()[:32]


def _write(draft: Path, rows: dict[str, list[int]], shape: tuple[int, int, int, int]) -> None:
    """Decode with threads into a new file."""
    needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(draft.parent).free
    if needed > free:
        raise OSError(
            f"{needed / 1e9:.1f} GB needed in {draft.parent}, {free / 1e9:.1f} GB free. Set MMUTILS_CACHE elsewhere."
        )
    pictures = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a disk that fills up is then an error, and not the end of the process
        with draft.open("rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, draft.stat().st_size)

    def work(path: str) -> None:
        pictures[rows[path]] = read_picture(path, shape[1])

    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:  # Pillow decodes and resizes outside Python's lock
        for _ in tqdm(pool.map(work, rows), "decoding pictures", len(rows), delay=2, unit="picture"):
            pass
    pictures.flush()
