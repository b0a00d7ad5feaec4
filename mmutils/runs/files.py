"""Files and folders that are written whole or not at all, a cache that notices damage, and locks between processes.

Everything is written as a draft beside its place and renamed, so a process killed at any moment leaves the old content
or the new one. `sweep` deletes the drafts of processes that are gone. Cache files are keyed by what went into them and
carry a checksum of their content in the name (a folder: in a list inside); a damaged one is deleted and made again.
"""

import errno
import functools
import json
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
import psutil
from filelock import FileLock, Timeout

DRAFT = re.compile(r"\.draft-(?P<host>[\w-]+)\.(?P<process>\d+)\.[0-9a-f]{8}")
HOST = re.sub(r"\W", "-", socket.gethostname()) or "host"
ABANDONED = 86_400  # seconds after which a draft of another machine counts as left behind
LIST = ".checksums.json"  # in a cached folder: path -> checksum of each file
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}  # of a file system without them
_claimed: dict[Path, FileLock] = {}  # the system frees them when the process ends, however it ends


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A new name beside `path`; what still has it at the end is deleted. Explains a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{HOST}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield draft
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"no space left for {path}: free some, or let MMUTILS_CACHE name a folder elsewhere"
        raise OSError(error.errno, message) from None
    finally:
        _delete(draft)


def _delete(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)  # nothing where it is a file
    if not path.is_dir():
        path.unlink(missing_ok=True)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A draft to write to; it becomes `path` when the block ends, and is deleted when the block fails."""
    with draft_of(Path(path)) as draft:
        yield draft
        with draft.open("rb+") as stream:  # the content is on the disk before the name is
            os.fsync(stream.fileno())
        os.replace(draft, path)


def write(path: str | Path, content: bytes | str) -> None:
    """Write a file whole or not at all; text as UTF-8."""
    with whole_file(path) as draft:
        draft.write_bytes(content if isinstance(content, bytes) else content.encode())


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder to fill; it becomes `path` at the end. Of two processes at once, the first one's stays."""
    with draft_of(Path(path)) as draft:
        draft.mkdir()
        yield draft
        with suppress(OSError):  # another process was faster
            os.rename(draft, path)
        if not Path(path).is_dir():
            raise OSError(f"{path} could not be made: is there a file of that name, or may nothing be written there?")


def sweep(folder: str | Path) -> None:
    """Delete the drafts in a folder, and up to two levels below, of processes that are gone."""
    above = ("", "*/", "*/*/")  # as deep as checkpoints/SYSTEM/ in the folder of a run
    for path in [path for start in above for path in Path(folder).glob(f"{start}.draft-*")]:
        with suppress(OSError):  # another process deleted it
            owner, age = DRAFT.fullmatch(path.name), time.time() - path.stat().st_mtime
            here = owner and owner["host"] == HOST
            if owner and (not psutil.pid_exists(int(owner["process"])) if here else age > ABANDONED):
                _delete(path)


def cache_dir() -> Path:
    """Folder for what can be made again: $MMUTILS_CACHE, else `mmutils` in the user's cache directory."""
    folder = os.environ.get("MMUTILS_CACHE") or platformdirs.user_cache_dir("mmutils", appauthor=False)
    _sweep_once(folder := Path(folder).expanduser())
    return folder


_sweep_once = functools.cache(sweep)


def checksum(path: Path) -> str:
    """CRC-32 of a file's bytes as 8 hex digits: enough for accidents, and as fast as the disk."""
    value = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


_checksum_once = functools.cache(lambda path, *state: checksum(path))  # of a file in this state


def _intact(path: Path, expected: str) -> bool:
    with suppress(OSError):  # not there, or another process deleted it
        status = path.stat()
        return _checksum_once(path, status.st_ino, status.st_size, status.st_mtime_ns) == expected
    return False


def cached_file(stem: Path, suffix: str, make: Callable[[Path], None]) -> Path:
    """The file `<stem>-<checksum><suffix>`; if there is no undamaged one, `make(draft)` writes it."""
    for path in sorted(stem.parent.glob(f"{stem.name}-*{suffix}")):
        if _intact(path, path.name.removesuffix(suffix)[-8:]):
            return path
        path.unlink(missing_ok=True)
    with draft_of(stem) as draft:
        make(draft)
        path = stem.with_name(f"{stem.name}-{checksum(draft)}{suffix}")
        os.replace(draft, path)
    return path


def cached_folder(path: Path, make: Callable[[Path], None]) -> Path:
    """The folder; if it is not there undamaged, `make(draft folder)` fills it, and a list of checksums is added."""
    if path.is_dir():
        with suppress(OSError, ValueError, AttributeError):  # no list, or a damaged one
            sums = json.loads((path / LIST).read_text(encoding="utf-8"))
            if all(_intact(path / name, value) for name, value in sums.items()):
                return path
        shutil.rmtree(path)
    with whole_folder(path) as draft:
        make(draft)
        files = sorted(file for file in draft.rglob("*") if file.is_file())
        sums = {file.relative_to(draft).as_posix(): checksum(file) for file in files}
        (draft / LIST).write_text(json.dumps(sums, indent=0), encoding="utf-8")
    return path


class BusyError(ValueError):
    """Another process works in the folder; the message says which folder."""


def lock(folder: str | Path, wait: float = -1) -> FileLock:
    """Lock a folder until `release()`, if its file system can; BusyError after `wait` seconds, -1: wait for ever."""
    file_lock = FileLock(Path(folder) / ".lock", timeout=wait)
    try:
        file_lock.acquire()
    except Timeout:
        raise BusyError(f"another process works in {folder}: wait for it, or give another folder") from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
    return file_lock


def claim(folder: str | Path, wait: float = 5.0) -> None:
    """Make a folder ready for this process alone, until it ends, and delete what killed processes left in it.

    ValueError: nothing can be written there. BusyError: another process has it for more than `wait` seconds.
    """
    folder = Path(folder).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:  # has no name, so a killed process leaves none
            probe.write(bytes(4096))
        if folder not in _claimed:
            _claimed[folder] = lock(folder, wait)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"nothing can be written in {folder} ({reason}): make room, or give another folder") from None
    sweep(folder)
