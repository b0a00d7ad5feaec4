"""Brings the runs of a profile up to date: each after those it needs, several at a time, only what is stale."""

import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from mmutils import data, runs
from mmutils.reproduce import execute
from mmutils.reproduce.execute import Outcome
from mmutils.reproduce.experiments import Run
from mmutils.runs import fingerprints
from mmutils.runs.files import BusyError, lock, write
from mmutils.runs.fingerprints import ROOT, digest, of_run, planned
from mmutils.runs.parameters import printable

STARTED = Path("checkpoints", "started")  # hash of what the run in this folder was started with


@dataclass
class Runner:
    """Brings runs up to date in a folder; `states` says what became of each."""

    runs: list[Run]  # each after those it needs
    folder: Path  # of all runs
    forced: Collection[str] = ()  # names of runs that run even when they are fresh
    execute: Callable = execute.execute
    gpus: Sequence[str | None] = (None,)  # each run at a time gets its own, or they share in turn; None: all GPUs
    states: dict[str, Outcome] = field(default_factory=dict)
    free_gpus: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run_all(self, timeout: float | None = None, jobs: int = 1) -> bool:
        """Run what is not fresh, `jobs` at a time; True when nothing failed. A timeout replaces those of the runs."""
        for job in range(jobs):
            self.free_gpus.put(self.gpus[job % len(self.gpus)])
        begun, unreadable, waiting, running = time.monotonic(), self.without_weights(), list(self.runs), {}
        layout = "{desc} |{bar:20}| {n_fmt} of {total_fmt} runs, {elapsed}, about {remaining} left"
        bar = tqdm(total=len(self.runs), bar_format=layout, disable=None, leave=False, file=sys.stdout)
        with bar, ThreadPoolExecutor(jobs) as pool:
            try:
                while waiting or running:
                    ready = [run for run in waiting if all(name in self.states for name in run.needs)]
                    if not (ready or running):
                        raise ValueError(f"{waiting[0].name} needs {', '.join(waiting[0].needs)}: not all are run here")
                    for run in ready[: jobs - len(running)]:
                        waiting.remove(run)
                        head = f"[{self.runs.index(run) + 1} of {len(self.runs)}] {run.name}"
                        job = pool.submit(self._bring_up_to_date, run, timeout or run.timeout, unreadable, bar, head)
                        running[job] = run.name, head
                    for job in wait(running, return_when=FIRST_COMPLETED).done:
                        name, head = running.pop(job)
                        reason, seconds, state = self.states[name] = job.result()
                        took = f" in {seconds:.0f} s" if seconds else ""
                        bar.write(printable(f"{head}: {state}{took}{f' ({reason})' if reason else ''}"))
                        bar.update()
            except BaseException:
                self.stopped.set()  # the pool is left only when its threads have ended what they had started
                raise
        states = [self.states[run.name].state for run in self.runs]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        print(f"{counts}; {time.monotonic() - begun:.0f} s in all")
        return {"ok", "fresh"} >= set(states)

    def reasons(self, run: Run) -> list[str]:
        """Why the record of a run is not fresh; empty when it is."""
        started, path = self.folder / run.name / STARTED, self.folder / run.name / runs.RECORD
        try:
            record = runs.load_record(path.parent)
        except FileNotFoundError:
            return ["no record"]
        except ValueError as error:
            return [str(error)]
        changed = [name for name, result in self._results(run.needs).items() if record["needs"].get(name) != result]
        reasons = stale(record, run.notebook, run.parameters)
        reasons += [f"{', '.join(changed)} changed"] if changed and record["status"] == "ok" else []
        stopped = started.is_file() and started.stat().st_mtime_ns > path.stat().st_mtime_ns
        return reasons or ["started again, but not finished"] * stopped

    def record(self, name: str) -> dict:
        """The record of a run, or an empty one where there is none that can be read."""
        with suppress(FileNotFoundError, ValueError):
            return runs.load_record(self.folder / name)
        return {"status": None, "reason": None, "files": {}}

    def _bring_up_to_date(self, run: Run, timeout: float, unreadable: dict, bar: tqdm, head: str) -> Outcome:
        """Run the notebook if it is not fresh, and see to it that there is a record that fits what happened."""
        if lacking := [name for name in run.needs if self.states[name].state in ("failed", "skipped")]:
            return Outcome(f"needs {', '.join(lacking)}", state="skipped")
        reasons = ["forced"] if run.name in self.forced else self.reasons(run) or unreadable.get(run.name)
        if not reasons:
            return Outcome(None, state="fresh")
        bar.write(printable(f"{head}: running ({'; '.join(reasons)})"))

        def tick(where: str) -> None:
            if self.stopped.is_set():
                raise KeyboardInterrupt
            bar.set_description_str(f"{head} {where}")

        folder, values = self.folder / run.name, planned(run.notebook, run.parameters)
        start = of_run(run.notebook, values)
        started, key = folder / STARTED, digest([start, self._results(run.needs)])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = lock(folder, wait=0)
        except BusyError as error:  # the folder is left as it is
            return Outcome(str(error), state="failed")
        earlier, anew = started.read_text() if started.is_file() else None, run.name in self.forced
        if anew or earlier not in (None, key):  # else it goes on, maybe from what was started by hand
            shutil.rmtree(started.parent, ignore_errors=True)
        write(started, key)  # from here on the record counts as not finished
        for weights in folder.glob("*.safetensors") if anew or earlier != key else ():
            weights.unlink()
        held.release()  # the notebook takes it
        before = [path.stat().st_mtime_ns for path in folder.glob(runs.RECORD)]
        parameters, gpu = run.parameters | {"out": folder.as_posix()}, self.free_gpus.get()
        try:
            outcome = self.execute(ROOT / run.notebook, folder, parameters, timeout, ROOT, tick, gpu)
        finally:
            self.free_gpus.put(gpu)
        written = before != [path.stat().st_mtime_ns for path in folder.glob(runs.RECORD)]
        reason = outcome.reason or self._misfit(run, written)
        if not reason:
            shutil.rmtree(started.parent, ignore_errors=True)
        elif not (written and self.record(run.name)["status"] == "failed"):
            entries = {"study": run.study, "extra": {"log": execute.last_lines(folder)}, "fingerprints": start}
            runs.save_failure(folder, reason, notebook=run.notebook, parameters=values, **entries)
        return outcome._replace(reason=reason, state="failed" if reason else "ok")

    def _misfit(self, run: Run, written: bool) -> str | None:
        """What is wrong with the record of a notebook that went through, if anything; completes the record."""
        if not written:
            return "the notebook wrote no record: its last cell must call runs.save_record(out, ...)"
        record, folder = self.record(run.name), self.folder / run.name
        if record["status"] == "ok":
            ran = digest(fingerprints.notebook_code(folder / Path(run.notebook).name))  # it was read before the package
            hashes = record["fingerprints"]
            hashes |= {"notebook": ran, "code": digest([ran, hashes["files"]])}
            runs.update_record(folder, needs=self._results(run.needs), fingerprints=hashes)
        edited = ("code changed", "notebook changed")  # while it ran: not its fault, and it counts as stale
        reasons = [reason for reason in self.reasons(run) if not reason.startswith(edited)]
        return record["reason"] or "; ".join(f"its record does not fit: {reason}" for reason in reasons) or None

    def _results(self, names: Sequence[str]) -> dict[str, str | None]:
        """Run -> hash of what others can read from it, its predictions and weights; None for one that failed."""
        results = dict.fromkeys(names)
        for name in names:
            if (record := self.record(name))["status"] == "ok":
                results[name] = digest([record["fingerprints"].get("predictions"), record["files"]])
        return results

    def without_weights(self) -> dict[str, list[str]]:
        """Runs whose weights (not committed) are missing but read by a run that runs, or may have to, and why."""
        reasons: dict[str, list[str]] = {}
        waiting, seen = [run for run in self.runs if run.name in self.forced or self.reasons(run)], []
        while waiting:
            seen.append(run := waiting.pop())
            for name in run.needs:
                gone = [file for file in self.record(name)["files"] if not (self.folder / name / file).is_file()]
                if gone:
                    reasons.setdefault(name, [f"{run.name} reads its {', '.join(gone)}, not here"])
            more = [other for other in self.runs if run.name in other.needs or other.name in reasons]
            waiting += [other for other in more if other not in seen + waiting]
        return reasons


def stale(record: dict, notebook: str, parameters: dict, files: fingerprints.Disk = fingerprints.DISK) -> list[str]:
    """Why a record is not what a run of the notebook with these parameters would give; empty when it is fresh."""
    if record["status"] != "ok":
        return [f"failed before: {record['reason']}"]
    if record["notebook"] != notebook:
        return [f"its notebook was {record['notebook']}"]
    values = planned(notebook, parameters, files)
    before, now = record["parameters"], fingerprints.plain_parameters(values)
    names = sorted(name for name in {*before, *now} if before.get(name, "none") != now.get(name, "none"))
    changes = [f"{name} {before.get(name, 'none')!r} -> {now.get(name, 'none')!r}" for name in names]
    changed = fingerprints.changed_files(record["fingerprints"], notebook, now, files)
    code = [file for file in changed if file != notebook]
    reasons = [f"parameters changed: {', '.join(changes)}"] if changes else []
    reasons += ["notebook changed"] if notebook in changed else []
    more = f" and {len(code) - 3} more" if len(code) > 3 else ""
    reasons += [f"code changed: {', '.join(code[:3])}{more}"] if code else []
    translated = fingerprints.folder_digest(values.get("translated"))
    try:
        fingerprint = data.fingerprint(record["data"]["name"], values.get("root") or None)  # "" in notebooks: built in
        recorded = record["data"]["fingerprint"], record["fingerprints"].get("translated", translated)
        return reasons + ["data changed"] * ((fingerprint, translated) != recorded)
    except (ValueError, FileNotFoundError) as error:
        return [*reasons, f"data cannot be read: {error}"]
