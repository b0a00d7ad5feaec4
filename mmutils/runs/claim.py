"""A folder that one process works in: tried, locked and swept before the work begins."""

import errno
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from mmutils.runs.files import sweep

LOCK = ".lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}  # of a file system without them
_held: dict[Path, FileLock] = {}  # the system frees them when the process ends, however it ends


class BusyError(ValueError):
    """Another process works in the folder; the message says which folder."""


def claim(folder: str | Path, wait: float = 5.0) -> None:
    """Make a folder ready for this process alone, until it ends, and delete what killed processes have left in it.

    A process may claim a folder again, and others too. On a file system that cannot lock there is no exclusion.

    Args:
        wait: seconds for which another process, such as one that was just killed, may still have it.

    Raises:
        BusyError: another process has it.
        ValueError: nothing can be written there.
    """
    folder = Path(folder).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:  # has no name, so a killed process leaves none
            probe.write(bytes(4096))
        _lock(folder, wait)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"nothing can be written in the folder {folder} ({reason}): make room, or give another"
        ) from None
    for place in (folder, *folder.glob("*/")):  # as deep as checkpoints/SYSTEM/
        sweep(place)


def _lock(folder: Path, wait: float) -> None:
    if folder in _held:
        return
    lock = FileLock(folder / LOCK, timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(f"another process works in {folder}: wait for it, or give another folder") from None
    except NotImplementedError:
        return
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return
    _held[folder] = lock
