"""Pictures: decoded once into a cache on disk, then read from a memory map.

Each picture is resized once, whole, to a square (a meme keeps its printed text) and stored as bytes in one .npy file.
Memory does not grow with the number of pictures.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from mmutils.data.tools import pictures
from mmutils.runs import identity
from mmutils.runs.files import cache_dir, cached_file


def decode(paths: Sequence[str | Path], size: int, pad: bool = False) -> np.ndarray:
    """The pictures as a read-only memory map, uint8 (N, size, size, 3) with row i from paths[i].

    The first call decodes them and writes cache_dir()/images; later calls, in any process, only open that file. They
    are decoded again when a file changed (its name, size or times of change), and with another version of Pillow or of
    this code.
    pad: keep their proportions, with white beside them, instead of squashing them into the square.
    FileNotFoundError lists missing files; ValueError names one that is no picture, is cut off, or is too large.
    """
    if size < 1 or not len(paths):
        raise ValueError(f"nothing to decode: size={size} is below 1 pixel, or the list of {len(paths)} paths is empty")
    if missing := [os.path.abspath(path) for path in paths if not os.path.exists(path)]:
        counts, first = f"{len(missing)} of {len(paths)} picture files", "\n  ".join(missing[:3])
        raise FileNotFoundError(f"{counts} are missing, the first of them:\n  {first}")
    digest = hashlib.sha256(
        f"{identity.of_code([__name__, pictures.__name__])} {PIL.__version__} {size}{' padded' if pad else ''}".encode()
    )
    for path in map(os.path.abspath, paths):
        status = os.stat(path)
        digest.update(f"\0{path}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
    stem = cache_dir() / "images" / digest.hexdigest()[:32]
    return np.load(cached_file(stem, ".npy", lambda draft: _write(draft, paths, size, pad)), mmap_mode="r")


def _write(draft: Path, paths: Sequence[str | Path], size: int, pad: bool) -> None:
    """Decode the pictures into a new .npy file."""
    decoded = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=(len(paths), size, size, 3))
    if hasattr(os, "posix_fallocate"):  # a full disk is then an error here, not a crash of the process while it writes
        with draft.open("rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, draft.stat().st_size)

    def work(row: int) -> None:
        decoded[row] = read_picture(paths[row], size, pad)

    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:  # Pillow decodes and resizes outside Python's lock
        list(tqdm(pool.map(work, range(len(paths))), "decoding pictures", len(paths), delay=2, unit="picture"))
    decoded.flush()


def read_picture(path: str | Path, size: int, pad: bool = False) -> np.ndarray:
    """A picture file as uint8 RGB (size, size, 3): upright, first frame, on white. Errors: as `open_picture`."""
    picture = pictures.on_white(pictures.open_picture(path, (size, size)))
    if pad:
        return np.asarray(ImageOps.pad(picture, (size, size), Image.Resampling.BILINEAR, color="white"))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
