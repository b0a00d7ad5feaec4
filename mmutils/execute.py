"""One notebook in a process of its own, with a time limit: whatever happens in it, the caller goes on.

A kernel that is killed can hang its client for ever (nbclient issue 88), a notebook can loop, and memory is only surely
given back when a process ends. So papermill's command line is started as a child, watched from outside, and ended
together with all processes below it. The kernel is the running interpreter, whatever kernels the user has installed:
papermill gets a kernel specification of its own, first in Jupyter's search path.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

LOG = "run.log"
KERNEL_DIED = 138  # exit status of papermill's command line
CHILD = """
import ctypes, runpy, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: killed when whoever started it dies; kernels watch for that too
runpy.run_module("papermill", run_name="__main__")
"""


class Outcome(NamedTuple):
    """What became of a notebook: None or why it failed, seconds of wall time, most bytes of memory seen."""

    reason: str | None
    seconds: float
    memory: int


def execute(
    notebook: Path, folder: Path, parameters: dict, timeout: float, root: Path, tick: Callable[[str], None] = print
) -> Outcome:
    """Run the notebook with the parameters from `root`; its executed copy and run.log are left in the folder.

    timeout: seconds of wall time. tick is called about twice a second with the cell it is at. On KeyboardInterrupt
    the child and its kernel are ended and the exception goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy, log, started = folder / notebook.name, folder / LOG, time.monotonic()
    copy.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="mmutils-") as scratch, log.open("wb") as stream:
        command = _command(notebook, copy, parameters, root, Path(scratch))
        child = subprocess.Popen(
            command,
            cwd=root,
            env=_environment(root, Path(scratch)),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the runner alone, which then ends the child
        )
        cells = len(json.loads(notebook.read_text(encoding="utf-8"))["cells"]) + 1  # papermill adds one
        late, memory = _watch(child, log, started + timeout, lambda where: tick(where and f"{where} of {cells}"))
    if late:
        return Outcome(f"timed out after {timeout:g} s{_where(log)}", time.monotonic() - started, memory)
    reason = None if child.returncode == 0 else _reason(copy, log, child.returncode)
    return Outcome(reason, time.monotonic() - started, memory)


def last_lines(folder: Path, count: int = 15) -> list[str]:
    """The end of the log of the folder's last run, without colours."""
    log = folder / LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return [_uncoloured(line) for line in text.splitlines() if line.strip()][-count:]


def _command(notebook: Path, copy: Path, parameters: dict, root: Path, scratch: Path) -> list[str]:
    from ipykernel.kernelspec import write_kernel_spec  # takes a second

    write_kernel_spec(scratch / "kernels" / "python3")  # starts sys.executable
    values = scratch / "parameters.yaml"
    values.write_text(yaml.safe_dump(parameters, allow_unicode=True), encoding="utf-8")
    options = ["--kernel", "python3", "--cwd", root, "-f", values, "--log-output", "--no-progress-bar"]
    return [sys.executable, "-c", CHILD, *map(str, (notebook, copy, *options))]


def _environment(root: Path, scratch: Path) -> dict[str, str]:
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "JUPYTER_PATH": str(scratch),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "IPYTHONDIR": str(scratch / "ipython"),  # no start-up files of the user
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _watch(child: subprocess.Popen, log: Path, deadline: float, tick: Callable[[str], None]) -> tuple[bool, int]:
    """Wait for the child; True when it was too late, and the most bytes of memory that it and those below it had.

    Nothing that it started is left, whichever way this ends.
    """
    below: set[psutil.Process] = set()
    memory = 0
    try:
        while True:
            below |= _descendants(child.pid)  # kept: once the child is gone they cannot be found
            memory = max(memory, sum(map(_memory, below)))
            try:
                child.wait(0.5)
                return False, memory
            except subprocess.TimeoutExpired:
                tick(_where(log).removeprefix(" in "))
            if time.monotonic() > deadline:
                return True, memory
    finally:
        _end(child, below | _descendants(child.pid))


def _descendants(pid: int) -> set[psutil.Process]:
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def _memory(process: psutil.Process) -> int:
    """Resident bytes of a process, 0 of one that is gone."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _end(child: subprocess.Popen, below: set[psutil.Process]) -> None:
    """Kill the child and what it started. The kernel has a session of its own, so a process group is not enough."""
    child.kill()
    child.wait()
    for process in below:
        try:
            process.kill()  # psutil checks that the id still belongs to the same process
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(below, timeout=5)


def _where(log: Path) -> str:
    """The words " in cell n" (of the executed copy), from what papermill has logged; empty before the first."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    cells = re.findall(r"^Executing Cell (\d+)", text, flags=re.MULTILINE)
    return f" in cell {cells[-1]}" if cells else ""


def _reason(copy: Path, log: Path, status: int) -> str:
    """Why the notebook failed, in one line."""
    if status == KERNEL_DIED:
        return f"the kernel died{_where(log)}: killed, or out of memory"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}{_where(log)}"
    try:
        cells = json.loads(copy.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        cells = []
    errors = [out for cell in cells for out in cell.get("outputs", ()) if out["output_type"] == "error"]
    if errors:
        return f"{errors[0]['ename']}{_where(log)}: {_uncoloured(errors[0]['evalue'])}"[:1000]
    lines = last_lines(log.parent, 1)
    return lines[0] if lines else f"papermill ended with status {status}"


def _uncoloured(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
