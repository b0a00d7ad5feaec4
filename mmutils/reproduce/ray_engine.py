"""Notebooks as tasks of a Ray cluster: `python -m mmutils.reproduce --engine ray [--address HOST:PORT]`.

The runner stays where it was started: it decides what is stale and what waits for what, and Ray where a notebook runs.
Each gets a GPU, or where there are none an equal share of the CPUs. A worker that dies is replaced, and its notebook
goes on from its checkpoints. On several machines the repository and `--out` lie in a folder that all of them share.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path

from mmutils.reproduce import execute
from mmutils.runs.fingerprints import ROOT

RETRIES = 3  # of a notebook whose worker died; one that fails by itself is not tried again


class UnavailableError(Exception):
    """Ray is not installed, or no cluster answers; the message says what to do."""


class RayEngine:
    """A connection to a cluster; `jobs` is how many notebooks run at a time. Close it by `with`.

    address: of a running cluster; without one a Ray of this machine's cores is started. jobs: as asked, or None for one
    on each GPU; without GPUs `default`. Raises UnavailableError.
    """

    def __init__(self, address: str | None, jobs: int | None, default: int):
        try:
            import ray
        except ImportError:
            raise UnavailableError('--engine ray needs Ray, which is optional: pip install "ray>=2.40"') from None
        self.ray = ray
        _check_reachable(address)
        places = {"env_vars": {"PYTHONPATH": str(ROOT)}}  # where its workers find mmutils
        try:
            ray.init(address or "local", runtime_env=places, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UnavailableError(
                f"no Ray cluster at {address}: start one with `ray start --head` ({error})"
            ) from None
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.jobs = jobs or int(sum(machine.get("GPU", 0) for machine in machines)) or default
        self.task = ray.remote(**share(machines, self.jobs), max_retries=RETRIES)(execute.execute)

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, *_) -> None:
        self.ray.shutdown()

    def execute(
        self, notebook: Path, folder: Path, parameters: dict, timeout: float, root: Path, tick: Callable[[str], None]
    ) -> execute.Outcome:
        """As `execute.execute`, on a worker of the cluster."""
        begun = time.monotonic()
        task = self.task.remote(notebook, folder, parameters, timeout, root, _silent)
        try:
            while not self.ray.wait([task], timeout=0.5)[0]:
                tick("")
            return self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            return execute.Outcome(f"its Ray worker died {RETRIES + 1} times: {reason}", time.monotonic() - begun, 0)
        except BaseException:
            self.ray.cancel(task)  # raises KeyboardInterrupt in the worker, which ends the notebook
            self.ray.wait([task], timeout=10)
            raise


def _check_reachable(address: str | None) -> None:
    """UnavailableError where nothing listens at HOST:PORT, at once: Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or "//" in host:  # none, "auto", or a form that only Ray knows, as ray://HOST:PORT
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UnavailableError(
            f"no Ray cluster at {address}: start one with `ray start --head`, which prints its HOST:PORT ({error})"
        ) from None


def share(machines: list[dict[str, float]], jobs: int) -> dict[str, int]:
    """`num_cpus` and `num_gpus` of each of `jobs` notebooks: what one machine can give, or Ray would wait for ever.

    machines: of each its "CPU" and "GPU", where it has any. With GPUs a notebook gets one, and of the cores as many as
    lie beside each GPU on the machine that has the fewest; else an equal share, at most the smallest machine.
    """
    with_gpu = [machine for machine in machines if machine.get("GPU", 0) >= 1]
    if with_gpu:
        return {"num_cpus": int(min(m.get("CPU", 0) // m["GPU"] for m in with_gpu)), "num_gpus": 1}
    cores = [machine["CPU"] for machine in machines if machine.get("CPU", 0) >= 1]
    return {"num_cpus": int(max(1, min(sum(cores) // jobs, *cores))), "num_gpus": 0}


def _silent(where: str) -> None:
    pass
