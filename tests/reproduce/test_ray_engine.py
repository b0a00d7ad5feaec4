"""The Ray engine on a local Ray, with the small repository of test_reproduce."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
from test_reproduce import PARAMETERS, RECORD, Repository, kernels, state

from mmutils.reproduce.ray_engine import RayEngine, UnavailableError, share

SLOW = """
import os, time
from pathlib import Path
steps = Path(out) / "checkpoints" / "steps"
for step in range(len(steps.read_text()) if steps.exists() else 0, 8):  # goes on where it was
    time.sleep(0.5)
    with steps.open("a") as file:
        file.write(str(step))
"""


@pytest.fixture
def repository(tmp_path):
    pytest.importorskip("ray")
    made = Repository(tmp_path)
    record = RECORD.replace("toy.ipynb", "slow.ipynb").replace('{"word": word}', '{"word": steps.read_text()}')
    made.notebook("slow.ipynb", PARAMETERS, SLOW, record)
    return made


def test_a_killed_worker_loses_nothing_and_needs_are_kept(repository):
    repository.experiments(
        {"name": "after", "needs": ["slow", "fails"]},
        {"name": "then", "needs": ["slow"]},
        {"name": "slow", "notebook": "slow.ipynb"},
        {"name": "fails", "parameters": {"word": "raise"}},
        jobs=2,
    )
    child = repository.start("--engine", "ray")
    steps = repository.folder / "report" / "runs" / "slow" / "checkpoints" / "steps"
    while not steps.is_file() or len(steps.read_text()) < 2:
        still_runs(child)
        time.sleep(0.1)
    kernel = next(process for process in kernels(repository.folder) if "slow" in command_above(process))
    worker = kernel.parent().parent()  # kernel, papermill, worker
    worker.send_signal(signal.SIGKILL)
    psutil.wait_procs([kernel], timeout=100)
    assert not kernel.is_running()
    output, errors = child.communicate()
    assert child.returncode == 1, errors
    assert [state(output, name) for name in ("slow", "then", "fails", "after")] == ["ok", "ok", "failed", "skipped"]
    assert repository.record("slow")["extra"]["word"] == "01234567"  # no step twice, none left out


def still_runs(child) -> None:
    """Else the test fails, or is skipped where Ray gave up starting, as it does where the machine is busy."""
    if child.poll() is not None:
        _, errors = child.communicate()
        if "Ray does not start here" in errors:
            pytest.skip(errors)
        pytest.fail(errors)


def command_above(process) -> str:
    """Which run a kernel belongs to, by the command of the papermill above it."""
    return " ".join(process.parent().cmdline())


def test_interrupted_it_leaves_no_kernel(repository):
    repository.experiments({"name": "hangs", "parameters": {"word": "hang"}})
    child = repository.start("--engine", "ray")
    while not kernels(repository.folder):
        still_runs(child)
        time.sleep(0.2)
    os.kill(child.pid, signal.SIGINT)
    assert "go on" in child.communicate()[1] and child.returncode == 130
    psutil.wait_procs(left := kernels(repository.folder), timeout=100)
    assert not any(process.is_running() for process in left)


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match=r'pip install "ray>=2.40"'):
        RayEngine(None, None, 1)


@pytest.mark.parametrize("late", [2, 3])
def test_a_ray_of_this_machine_that_is_late_is_started_again(monkeypatch, late):
    starts = iter([Exception("The current node timed out during startup.")] * late)
    ray = SimpleNamespace(shutdown=lambda: None, nodes=lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    ray.remote = lambda **_: lambda function: function

    def init(*_, **__):
        for error in starts:
            raise error

    ray.init = init
    monkeypatch.setitem(sys.modules, "ray", ray)
    if late < 3:
        assert RayEngine(None, None, 2).jobs == 2
    else:
        with pytest.raises(UnavailableError, match=r"does not start here .*timed out"):
            RayEngine(None, None, 2)


@pytest.mark.parametrize(
    ("machines", "jobs", "expected"),
    [
        ([{"CPU": 8.0}], 2, (4, 0)),
        ([{"CPU": 2.0}], 5, (1, 0)),
        ([{"CPU": 2.0}, {"CPU": 2.0}], 1, (2, 0)),  # 4 cores are on no machine
        ([{"CPU": 8.0}, {"CPU": 2.0}], 2, (2, 0)),
        ([{"CPU": 4.0}, {"CPU": 1.0, "GPU": 1.0}], 1, (1, 1)),
        ([{"CPU": 64.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 8.0}], 9, (1, 1)),  # else one of eight GPUs would work
        ([{"memory": 1.0}, {"CPU": 4.0}], 1, (4, 0)),  # a head without cores
    ],
)
def test_a_notebook_asks_for_what_a_machine_has(machines, jobs, expected):
    assert tuple(share(machines, jobs).values()) == expected
