"""A folder that one process works in: tried, locked and swept before the work begins."""

import errno
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from mmutils.runs.files import sweep

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}  # of a file system without them
_claimed: dict[Path, FileLock] = {}  # the system frees them when the process ends, however it ends


class BusyError(ValueError):
    """Another process works in the folder; the message says which folder."""


def lock(folder: str | Path, wait: float = -1) -> FileLock:
    """Lock a folder against other processes, until `release()`; on a file system that cannot lock, do nothing.

    BusyError: another process has it for more than `wait` seconds; -1: wait as long as it takes.
    """
    file_lock = FileLock(Path(folder) / ".lock", timeout=wait)
    try:
        file_lock.acquire()
    except Timeout:
        raise BusyError(f"another process works in {folder}: wait for it, or give another folder") from None
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return file_lock


def claim(folder: str | Path, wait: float = 5.0) -> None:
    """Make a folder ready for this process alone, until it ends, and delete what killed processes left in it.

    A process may claim a folder again, and others too. ValueError: nothing can be written there. BusyError: another
    process has it for more than `wait` seconds, which one that was just killed may need.
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
        message = f"nothing can be written in the folder {folder} ({reason}): make room, or give another"
        raise ValueError(message) from None
    sweep(folder)
