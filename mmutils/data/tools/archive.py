"""Archives: a data set that is still packed (.zip, .tar.gz, .tgz), unpacked once, complete or not at all.

An archive from elsewhere is not trusted: paths that lead out of the folder, links and devices are refused (not renamed
or followed, as tarfile's and zipfile's own checks do), and so is more content than an archive of its size can honestly
hold, be it in files, in their number or in headers.
"""

import errno
import gzip
import hashlib
import shutil
import stat
import tarfile
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tqdm.auto import tqdm

from mmutils.data.tools.reading import UnsafeError, inside
from mmutils.runs.files import cache_dir, cached_folder, whole_folder

KINDS = (".zip", ".tar.gz", ".tgz")
RATIO, SPARE = 50, 100_000_000  # unpacked bytes allowed for a packed one (tables reach 10), and in any case
MEMBER = 1024  # bytes that an entry counts for beside its content
CLASHES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)  # of names inside an archive
BLOCK = 16_000_000  # bytes read at once: headers and lists of files are read whole, and they say how long they are


def folder(root):
    """The root of a data set as a folder: itself, or that in the cache which the archive, as it is now, unpacks to."""
    if not root or not Path(root).is_file():
        return root
    path = Path(root).resolve()
    status = path.stat()
    key = hashlib.sha256(f"{path}\0{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    return cached_folder(cache_dir() / "archives" / key, lambda draft: _fill(path, draft))


def beside(root) -> Path:
    """The folder where what belongs to the data set can be written: its own, or the one that the archive lies in."""
    return Path(root).parent if Path(root).is_file() else Path(root)


def unpack(path: Path, target: Path) -> None:
    """Unpack an archive as the folder `target`, unless that is there; ValueError for a damaged or dangerous one."""
    if not target.is_dir():
        with whole_folder(target) as draft:
            _fill(path, draft)


def _fill(path: Path, draft: Path) -> None:
    """Unpack into an empty folder. A sole folder in it is moved up; what macOS adds is deleted."""
    if not path.name.endswith(KINDS):
        raise ValueError(f"{path} is not a folder, and no archive by its name: give {', '.join(KINDS)} or unpack it")
    total = 0
    try:
        for name, size, stream in tqdm(_members(path), f"unpacking {path.name}", delay=2, unit=" files"):
            if stream is None:
                raise UnsafeError(f"{path} holds {name!r}, a link or a device: do not trust it")
            place = Path(inside(draft, name, f"{path}, not to be trusted"))
            total += size + MEMBER
            _check_total(path, total)
            place.parent.mkdir(parents=True, exist_ok=True)
            with stream, place.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
    except UnsafeError:
        raise
    except Exception as error:  # libraries raise many kinds for a damaged archive
        if isinstance(error, OSError) and error.errno not in (None, *CLASHES):
            raise OSError(error.errno, f"{path} cannot be unpacked into {draft.parent}: {error.strerror}") from error
        raise ValueError(f"{path} is damaged, or was not fetched to its end ({error}): fetch it again") from error
    shutil.rmtree(draft / "__MACOSX", ignore_errors=True)
    entries = list(draft.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        inner = entries[0].rename(draft / uuid.uuid4().hex)  # it may hold an entry with its own name
        for entry in inner.iterdir():
            entry.rename(draft / entry.name)
        inner.rmdir()


def _members(path: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Name, size and content of each file; None for the content of what is no plain file."""
    if path.name.endswith(".zip"):
        with path.open("rb") as packed, zipfile.ZipFile(_Bounded(packed, path)) as archive:
            for member in archive.infolist():
                if member.flag_bits & 1:
                    raise UnsafeError(f"{path} is locked: unpack it with the password that came with it")
                if not member.filename.endswith(("/", "\\")):  # a folder; Windows separates by backslashes
                    plain = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
                    yield member.filename, member.file_size, archive.open(member) if plain else None
        return
    with gzip.open(path) as unzipped:
        packed = _Bounded(unzipped, path)
        with tarfile.open(fileobj=packed, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # else it keeps them all
                if not member.isdir():
                    yield member.name, member.size, archive.extractfile(member) if member.isreg() else None
        while packed.read(1 << 20):  # to the end, where the checksum is: tarfile stops before it
            pass


def _check_total(path: Path, total: int) -> None:
    allowed = RATIO * path.stat().st_size + SPARE
    if total > allowed:
        raise UnsafeError(f"{path} unpacks to more than {allowed / 1e6:,.0f} MB, too much for its size: refused")


class _Bounded:
    """A file of which at most BLOCK bytes are read at once, and not too many in all."""

    def __init__(self, file: IO[bytes], path: Path):
        self.file, self.path, self.total = file, path, 0

    def read(self, size: int = -1) -> bytes:
        if size > BLOCK:
            raise UnsafeError(f"{self.path} has a header of {size / 1e6:,.0f} MB, too much for an honest one: refused")
        block = self.file.read(size if size >= 0 else BLOCK)
        self.total += len(block)
        _check_total(self.path, self.total)
        return block

    def __getattr__(self, name: str):
        return getattr(self.file, name)
