"""Archives: a data set that is still packed (.zip, .tar.gz, .tgz), unpacked once, complete or not at all.

An archive from elsewhere is not trusted: paths that lead out of the folder, links and devices are refused, and so is
more content than an archive of its size can honestly hold.
"""

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tqdm.auto import tqdm

from mmutils.files import cache_dir

KINDS = (".zip", ".tar.gz", ".tgz")
RATIO, SPARE = 50, 100_000_000  # unpacked bytes allowed for a packed one (tables reach 10), and in any case


def folder(root):
    """The root of a data set as a folder: itself, or the folder in the cache that the archive was unpacked to.

    An archive that changed (path, size or time of change) is unpacked again. ValueError as of `unpack`.
    """
    if not root or not Path(root).is_file():
        return root
    path = Path(root).resolve()
    status = path.stat()
    key = hashlib.sha256(f"{path}\0{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    return unpack(path, cache_dir() / "archives" / key)


def beside(root) -> Path:
    """The folder where what belongs to the data set can be written: its own, or the one that the archive lies in."""
    return Path(root).parent if Path(root).is_file() else Path(root)


def unpack(path: Path, target: Path) -> Path:
    """Unpack an archive as the folder `target`, unless that is there; a sole folder in it becomes the target itself.

    ValueError for a file that is no archive, is damaged, locked or dangerous; OSError where it does not fit the disk.
    """
    if target.is_dir():
        return target
    if not path.name.endswith(KINDS):
        raise ValueError(f"{path} is not a folder, and no archive by its name: give {', '.join(KINDS)} or unpack it")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix="draft-"))
    draft.chmod(0o755)  # mkdtemp lets no other user read it
    try:
        _write(path, draft)
        inner = [entry for entry in draft.iterdir() if entry.name != "__MACOSX"]
        try:
            os.rename(inner[0] if len(inner) == 1 and inner[0].is_dir() else draft, target)
        except OSError:  # another process was first
            if not target.is_dir():
                raise
    except (gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged, or was not fetched to its end ({error}): fetch it again") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _write(path: Path, draft: Path) -> None:
    allowed, total = RATIO * path.stat().st_size + SPARE, 0
    members = _zipped(path) if path.name.endswith(".zip") else _tarred(path)
    for name, size, stream in tqdm(members, f"unpacking {path.name}", delay=2, unit=" files"):
        place = Path(os.path.normpath(draft / name))
        if not place.is_relative_to(draft) or stream is None:
            raise ValueError(f"{path} holds {name!r}, a link or a path that leads out of its folder: do not trust it")
        total += size
        if total > allowed:
            raise ValueError(f"{path} unpacks to more than {allowed / 1e6:,.0f} MB, too much for its size: refused")
        place.parent.mkdir(parents=True, exist_ok=True)
        with stream, place.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)


def _zipped(path: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Name, unpacked bytes and content of each file; content None for what is neither file nor folder."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.flag_bits & 1:
                raise ValueError(f"{path} is locked: unpack it with the password that came with it, give the folder")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if not member.is_dir():
                plain = kind in (0, stat.S_IFREG)
                yield member.filename, member.file_size, archive.open(member) if plain else None


def _tarred(path: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    with gzip.open(path) as packed, tarfile.open(fileobj=packed, mode="r:") as archive:
        for member in archive:
            if not member.isdir():
                yield member.name, member.size, archive.extractfile(member) if member.isreg() else None
        while packed.read(1 << 20):  # to the end, where the checksum is: tarfile stops before it
            pass
