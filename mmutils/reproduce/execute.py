"""One notebook in a process of its own, ended when it shows no sign of life, so that the caller always goes on.

A sign of life is a log that grows or CPU time that is used: what is slow goes on. Papermill's command line is a child
that is ended with all processes below it, since a killed kernel can hang its client for ever (nbclient issue 88).
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
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

from mmutils.runs.files import write

LOG = "run.log"
BUSY = 0.04  # share of a core, on average, that counts as a sign of life
KERNEL_DIED = 138  # exit status of papermill's command line
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CHILD = """
import ctypes, runpy, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: killed when its parent dies; kernels watch for that too
sys.modules["rfc3987_syntax"] = None  # jsonschema would read a grammar of IRIs for over a second; no notebook has any
runpy.run_module("papermill", run_name="__main__")
"""


class Outcome(NamedTuple):
    """What became of a notebook."""

    reason: str | None  # why it failed
    seconds: float = 0.0
    state: str = ""  # "ok", "fresh", "failed" or "skipped", as the runner says


def execute(
    notebook: Path, folder: Path, parameters: dict, timeout: float, root: Path, tick: Callable, gpu: str | None = None
) -> Outcome:
    """Run the notebook with the parameters from `root`; its executed copy and run.log are left in the folder.

    It is ended after `timeout` seconds without a sign of life. `tick` gets the cell it is at about twice a second. It
    sees one `gpu` (CUDA_VISIBLE_DEVICES), or all.
    """
    from ipykernel.kernelspec import write_kernel_spec  # takes a second

    folder.mkdir(parents=True, exist_ok=True)
    copy, log, started = folder / notebook.name, folder / LOG, time.monotonic()
    copy.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="mmutils-") as scratch, log.open("wb") as stream:
        write_kernel_spec(Path(scratch, "kernels", "python3"))  # starts sys.executable, whatever kernels the user has
        values = Path(scratch, "parameters.yaml")
        values.write_text(yaml.safe_dump(parameters, allow_unicode=True), encoding="utf-8")
        options = ["--kernel", "python3", "--cwd", root, "-f", values, "--log-output", "--no-progress-bar"]
        environment = {"JUPYTER_PATH": scratch, "JUPYTER_RUNTIME_DIR": os.path.join(scratch, "runtime")}
        environment["IPYTHONDIR"] = os.path.join(scratch, "ipython")  # no start-up files of the user
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        environment |= {"PYTHONUNBUFFERED": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        environment |= {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
        command = [sys.executable, "-c", CHILD, *map(str, (notebook, copy, *options))]
        streams = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": subprocess.STDOUT}
        # in a new session, so that Ctrl-C reaches the runner alone, which then ends the child
        child = subprocess.Popen(command, cwd=root, env=os.environ | environment, start_new_session=True, **streams)
        cells = len(json.loads(notebook.read_text(encoding="utf-8"))["cells"]) + 1  # papermill adds one
        timed_out = _watch(child, log, timeout, lambda where: tick(where and f"{where} of {cells}"))
    reason = f"no sign of life for {timeout:g} s{_where(log)}" if timed_out else _reason(copy, log, child.returncode)
    if reason is None:  # without the state of progress bars, which can be most of the file
        content = json.loads(copy.read_text(encoding="utf-8"))
        content["metadata"].pop("widgets", None)
        write(copy, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return Outcome(reason, time.monotonic() - started)


def _watch(child: subprocess.Popen, log: Path, timeout: float, tick: Callable) -> bool:
    """Wait for the child, or end it when it shows no sign of life for `timeout` seconds; whether that was so."""
    cpu = {}  # process -> seconds, also of those that have ended
    last_life, cpu_then, size_then = time.monotonic(), 0.0, 0
    try:
        while True:
            try:
                child.wait(0.5)
                return False
            except subprocess.TimeoutExpired:
                tick(_where(log).removeprefix(" in "))
            cpu |= _cpu_seconds(child.pid)
            now, used, size = time.monotonic(), sum(cpu.values()), log.stat().st_size
            if size != size_then or used - cpu_then >= BUSY * timeout:
                last_life, cpu_then, size_then = now, used, size
            if now - last_life > timeout:
                return True
    finally:  # the kernel has a session of its own, so to end the process group is not enough
        processes = {*cpu, *_cpu_seconds(child.pid)}
        child.kill()
        child.wait()
        for process in processes:
            with suppress(psutil.Error):
                process.kill()  # psutil checks that the id still belongs to the same process
        psutil.wait_procs(processes, timeout=5)


def _cpu_seconds(pid: int) -> dict[psutil.Process, float]:
    """CPU time of a process and of each of those below it."""
    seconds = {}
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.Error):  # it has ended
                seconds[process] = sum(process.cpu_times()[:2])  # user, system
    return seconds


def _reason(copy: Path, log: Path, status: int) -> str | None:
    """Why the notebook failed, in one line; None if it did not."""
    if status == 0:
        return None
    if status == KERNEL_DIED:
        return f"the kernel died{_where(log)}: killed, or out of memory"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}{_where(log)}"
    with suppress(OSError, ValueError, StopIteration):  # there may be no copy, or no error in it
        cells = json.loads(copy.read_text(encoding="utf-8"))["cells"]
        outputs = (output for cell in cells for output in cell.get("outputs", ()))
        error = next(output for output in outputs if output["output_type"] == "error")
        return f"{error['ename']}{_where(log)}: {COLOUR.sub('', error['evalue'])}"[:1000]
    return next(iter(last_lines(log.parent, 1)), f"papermill ended with status {status}")


def _where(log: Path) -> str:
    """The words " in cell n" (of the executed copy), from what papermill has logged; empty before the first."""
    cells = re.findall(r"^Executing Cell (\d+)", _text(log), flags=re.MULTILINE)
    return f" in cell {cells[-1]}" if cells else ""


def last_lines(folder: Path, count: int = 15) -> list[str]:
    """The end of the log of the folder's last run."""
    return [line for line in _text(folder / LOG).splitlines() if line.strip()][-count:]


def _text(log: Path) -> str:
    return COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else ""


def gpus() -> list[str]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES takes them; where that is set, of those in it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # read as CUDA does
        return [*takewhile(lambda name: name and name != "-1", (name.strip() for name in visible.split(",")))]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"UUID: (GPU-[^)\s]+)", listed)
