"""Processes for the tests, forked from one that has imported the package: its imports take eight seconds."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess

_CONTEXT = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
_CONTEXT.set_forkserver_preload(["mmutils.translate", "mmutils.methods.cass", "mmutils.training.loop"])


def started(function: Callable, *arguments, **environment: str) -> BaseProcess:
    """A process in which `function(*arguments)` runs, in the environment of this one and with more of it."""
    process = _CONTEXT.Process(target=_run, args=(os.environ | environment, function, arguments))
    process.start()
    return process


def ended(*processes: BaseProcess) -> list[int]:
    """The exit statuses of processes, once they have ended; 1 after an exception."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _run(environment: dict[str, str], function: Callable, arguments: tuple) -> None:
    os.environ |= environment
    function(*arguments)
