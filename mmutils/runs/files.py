"""Files and folders that are written whole or not at all, and a cache that notices damage.

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
def draft_of(path: Path) -> Iterator[Path]:
    """A new name beside `path`; what still has it at the end is deleted. Explains a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{HOST}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield draft
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        advice = "free some, or let MMUTILS_CACHE name a folder elsewhere"
        raise OSError(error.errno, f"no space left for {path}: {advice}") from None
    finally:
        _delete(draft)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
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
    for pattern in (".draft-*", "*/.draft-*", "*/*/.draft-*"):  # as deep as checkpoints/SYSTEM/ in the folder of a run
        for path in list(Path(folder).glob(pattern)):
            with suppress(OSError):  # another process deleted it
                owner, age = DRAFT.fullmatch(path.name), time.time() - path.stat().st_mtime
                if owner and (
                    not psutil.pid_exists(int(owner["process"])) if owner["host"] == HOST else age > ABANDONED
                ):
                    _delete(path)


def cache_dir() -> Path:
    """Folder for what can be made again: $MMUTILS_CACHE, else `mmutils` in the user's cache directory."""
    folder = os.environ.get("MMUTILS_CACHE") or platformdirs.user_cache_dir("mmutils", appauthor=False)
    folder = Path(folder).expanduser()
    _sweep_once(folder)
    return folder


_sweep_once = functools.cache(sweep)


def checksum(path: Path) -> str:
    """CRC-32 of a file's bytes as 8 hex digits: enough for accidents, and as fast as the disk."""
    value = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


@functools.cache
def _checksum_once(path: Path, *state: int) -> str:
    """The checksum of a file in this state, computed once per process."""
    return checksum(path)


def _intact(path: Path, expected: str) -> bool:
    try:
        status = path.stat()
        return _checksum_once(path, status.st_ino, status.st_size, status.st_mtime_ns) == expected
    except OSError:  # not there, or another process deleted it
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
    if path.is_dir() and not _intact_folder(path):
        shutil.rmtree(path)
    if not path.is_dir():
        with whole_folder(path) as draft:
            make(draft)
            files = sorted(file for file in draft.rglob("*") if file.is_file())
            sums = {file.relative_to(draft).as_posix(): checksum(file) for file in files}
            (draft / LIST).write_text(json.dumps(sums, indent=0), encoding="utf-8")
    return path


def _intact_folder(path: Path) -> bool:
    try:
        sums = json.loads((path / LIST).read_text(encoding="utf-8"))
        return all(_intact(path / name, value) for name, value in sums.items())
    except (OSError, ValueError, AttributeError):
        return False
