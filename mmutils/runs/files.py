"""Files and folders that are written whole or not at all; and the cache of what can be made again.

Everything is written as a draft beside its place and renamed, so that a process killed at any moment leaves either the
old content or the new one. A draft's name holds host and process, and `sweep` deletes those of processes that are gone.

Cache files are keyed by what went into them, and carry a checksum of what came out in their name (a folder: in a list
inside). A file that is cut, empty or has a flipped bit is noticed when it is opened, deleted and made again.
"""

import errno
import functools
import json
import os
import re
import shutil
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
import psutil

DRAFT = re.compile(r"\.draft-(?P<host>[\w-]+)\.(?P<process>\d+)\.[0-9a-f]{8}")
HOST = re.sub(r"\W", "-", socket.gethostname()) or "host"
ABANDONED = 86_400  # seconds after which a draft of another machine counts as left behind
LIST = ".checksums.json"  # in a cached folder: path -> checksum of each file


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A draft to write to; it becomes `path` when the block ends, and is deleted when the block fails."""
    path = Path(path)
    draft = _draft(path)
    try:
        yield draft
        with draft.open("rb+") as stream:  # the content is on the disk before the name is
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise _explained(error, path) from None
    finally:
        draft.unlink(missing_ok=True)


def _explained(error: OSError, path: Path) -> OSError:
    """The error, or for a full disk one that says where and what to do."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return OSError(error.errno, f"no space left for {path}: free some, or let MMUTILS_CACHE name a folder elsewhere")


def write(path: str | Path, content: bytes | str) -> None:
    """Write a file whole or not at all; text as UTF-8."""
    with whole_file(path) as draft:
        draft.write_bytes(content if isinstance(content, bytes) else content.encode())


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder to fill; it becomes `path` at the end. Of two processes at once, the first one's stays."""
    path = Path(path)
    draft = _draft(path)
    try:
        draft.mkdir()
        yield draft
        with suppress(OSError):  # another process was faster
            os.rename(draft, path)
        if not path.is_dir():
            raise OSError(f"{path} could not be made: is there a file of that name, or may nothing be written there?")
    except OSError as error:
        raise _explained(error, path) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".draft-{HOST}.{os.getpid()}.{uuid.uuid4().hex[:8]}")


def sweep(folder: str | Path) -> None:
    """Delete the drafts in a folder, and one level below, that processes which are gone have left behind."""
    for path in [*Path(folder).glob(".draft-*"), *Path(folder).glob("*/.draft-*")]:
        with suppress(OSError):  # someone else deleted it
            if _abandoned(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _abandoned(path: Path) -> bool:
    owner = DRAFT.fullmatch(path.name)
    if not owner:
        return False
    if owner["host"] != HOST:
        return time.time() - path.stat().st_mtime > ABANDONED
    return not psutil.pid_exists(int(owner["process"]))


def cache_dir() -> Path:
    """Folder for what can be made again: $MMUTILS_CACHE, else `mmutils` in the user's cache directory."""
    chosen = os.environ.get("MMUTILS_CACHE")
    folder = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("mmutils", appauthor=False))
    _swept(folder)
    return folder


@functools.cache  # once per process
def _swept(folder: Path) -> None:
    sweep(folder)


def checksum(path: Path) -> str:
    """CRC-32 of a file's bytes as 8 hex digits: enough for accidents, and as fast as the disk."""
    value = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def cached_file(stem: Path, suffix: str, make: Callable[[Path], None]) -> Path:
    """The file `<stem>-<checksum><suffix>`; if there is no undamaged one, it is made by `make(draft)`.

    make: writes the draft, which has no suffix yet.
    """
    for path in sorted(stem.parent.glob(f"{stem.name}-*{suffix}")):
        if _intact(path, suffix):
            return path
        path.unlink(missing_ok=True)
    draft = _draft(stem)
    try:
        make(draft)
        path = stem.with_name(f"{stem.name}-{checksum(draft)}{suffix}")
        os.replace(draft, path)
    except OSError as error:
        raise _explained(error, stem) from None
    finally:
        draft.unlink(missing_ok=True)
    return path


_seen: set[tuple] = (
    set()
)  # what this process has compared: a folder's path; a file's path, inode, bytes, time of change


def _intact(path: Path, suffix: str) -> bool:
    try:
        status = path.stat()
        state = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        if state not in _seen and checksum(path) != path.name.removesuffix(suffix)[-8:]:
            return False
    except FileNotFoundError:  # another process deleted it
        return False
    _seen.add(state)
    return True


def cached_folder(path: Path, make: Callable[[Path], None]) -> Path:
    """The folder; if it is not there undamaged, it is made by `make(draft folder)` with a list of checksums."""
    if path.is_dir() and not _intact_folder(path):
        shutil.rmtree(path)
    if not path.is_dir():
        with whole_folder(path) as draft:
            make(draft)
            sums = {file.relative_to(draft).as_posix(): checksum(file) for file in _files(draft)}
            (draft / LIST).write_text(json.dumps(sums, indent=0), encoding="utf-8")
    return path


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LIST)


def _intact_folder(path: Path) -> bool:
    """Whether its files are those of its list; looked at once per process."""
    if (path,) not in _seen:
        try:
            sums = json.loads((path / LIST).read_text(encoding="utf-8"))
            if any(checksum(path / name) != value for name, value in sums.items()):
                return False
        except (OSError, ValueError, AttributeError):
            return False
        _seen.add((path,))
    return True
