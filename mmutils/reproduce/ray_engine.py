"""Notebooks as tasks of a Ray cluster: `python -m mmutils.reproduce --engine ray [--address HOST:PORT]`.

The runner stays where it was started and decides what runs when; Ray decides where. Each notebook gets a GPU, or an
equal share of the CPUs where there are none. A worker that dies is replaced, and its notebook goes on from its
checkpoints. On several machines the repository and `--out` lie in a folder that all of them share.
"""

import socket
import time

from mmutils.reproduce import execute
from mmutils.runs.fingerprints import ROOT

RETRIES = 3  # of a notebook whose worker died; one that fails by itself is not tried again


class UnavailableError(Exception):
    """Ray is not installed, or no cluster answers; the message says what to do."""


class RayEngine:
    """A cluster, or a Ray of this machine, that runs `jobs` at a time: as asked, or one on each GPU, or `default`."""

    def __init__(self, address: str | None, jobs: int | None, default: int):
        try:
            import ray
        except ImportError:
            raise UnavailableError('--engine ray needs Ray, which is optional: pip install "ray>=2.40"') from None
        self.ray = ray
        problem = (
            f"no Ray cluster at {address}: `ray start --head` starts one" if address else "Ray does not start here"
        )
        for last in (True,) if address else (False, False, True):
            try:
                self._connect(address)
                break
            except Exception as error:  # Ray raises plain ones too, as where a busy machine is late
                ray.shutdown()
                if last:
                    raise UnavailableError(f"{problem} ({error})") from None
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.jobs = jobs or int(sum(machine.get("GPU", 0) for machine in machines)) or default
        self.task = ray.remote(**share(machines, self.jobs), max_retries=RETRIES)(execute.execute)

    def _connect(self, address: str | None) -> None:
        host, _, port = (address or "").rpartition(":")
        if host and "//" not in host:  # else none, "auto", or a form that only Ray knows, as ray://HOST:PORT
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()  # Ray would try for minutes
        workers = {"env_vars": {"PYTHONPATH": str(ROOT)}}  # where they find mmutils
        self.ray.init(address or "local", runtime_env=workers, log_to_driver=False, logging_level="error")

    def execute(self, notebook, folder, parameters, timeout, root, tick, gpu=None) -> execute.Outcome:
        """As `execute.execute`, on a worker of the cluster; Ray chooses its GPU."""
        begun = time.monotonic()
        task = self.task.remote(notebook, folder, parameters, timeout, root, bool)  # a tick that Ray can send
        try:
            while not self.ray.wait([task], timeout=0.5)[0]:
                tick("")
            return self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            return execute.Outcome(f"its Ray worker died {RETRIES + 1} times: {reason}", time.monotonic() - begun)
        except BaseException:
            self.ray.cancel(task)  # raises KeyboardInterrupt in the worker, which ends the notebook
            self.ray.wait([task], timeout=10)
            raise


def share(machines: list[dict[str, float]], jobs: int) -> dict[str, int]:
    """`num_cpus` and `num_gpus` of each of `jobs` notebooks: never more than one machine has, or Ray waits for ever.

    With GPUs a notebook gets one, and the cores per GPU of the machine with the fewest; without, an equal share of the
    cores, at most those of the smallest machine.
    """
    with_gpu = [machine for machine in machines if machine.get("GPU", 0) >= 1]
    if with_gpu:
        return {"num_cpus": int(min(m.get("CPU", 0) // m["GPU"] for m in with_gpu)), "num_gpus": 1}
    cores = [machine["CPU"] for machine in machines if machine.get("CPU", 0) >= 1]
    return {"num_cpus": int(max(1, min(sum(cores) // jobs, *cores))), "num_gpus": 0}
