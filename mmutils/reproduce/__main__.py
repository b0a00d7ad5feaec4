"""Runs the notebooks of a profile, those whose record is missing or stale, then renders the report.

    python -m mmutils.reproduce --profile demo [--out DIR] [--only NAME ...] [--list] [--force] [--jobs N]

report/experiments.yaml describes the profiles. When a run fails the others go on; a stopped one resumes unless changed.
Exit status 0: all is fresh; 1: a run or a part of the report failed; 2: wrong use; 130: interrupted.
"""

import argparse
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from mmutils.reproduce import execute
from mmutils.reproduce.experiments import Run, read, rooted
from mmutils.reproduce.notebooks import publish
from mmutils.reproduce.ray_engine import RayEngine, UnavailableError
from mmutils.reproduce.runner import Runner
from mmutils.runs.files import claim
from mmutils.runs.fingerprints import ROOT
from mmutils.runs.parameters import printable

EXPERIMENTS = ROOT / "report" / "experiments.yaml"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    options = _options(arguments)
    try:
        profile = read(Path(options.experiments), options.profile)
        usual = "report" if Path(options.experiments).resolve() == EXPERIMENTS else f"outputs/{options.profile}"
        out = (Path.cwd() / options.out if options.out else ROOT / (profile.out or usual)).resolve()
        all_runs, left_out = rooted(profile, dict(entry.split("=", 1) for entry in options.root))
        chosen = select(all_runs, options.only)
        if not options.list:
            claim(out / "runs", wait=0)
    except (ValueError, FileNotFoundError) as error:
        print(printable(error), file=sys.stderr)
        return 2
    for name, reason in left_out.items():
        print(f"left out: {name}, {reason}", file=sys.stderr)
    if options.list:
        runner = Runner(chosen, out / "runs")
        unreadable = runner.without_weights()
        for run in chosen:
            reasons = runner.reasons(run) or unreadable.get(run.name, [])
            failed = runner.record(run.name)["status"] == "failed"
            missing = reasons == ["no record"]
            state = "failed" if failed else "missing" if missing else "stale" if reasons else "fresh"
            line = f"{run.name:<28} {state:<8} {run.notebook:<36} {'' if missing else '; '.join(reasons)}"
            print(printable(line).rstrip())
        return 0
    sys.stdout.reconfigure(line_buffering=True)  # whoever reads through a pipe sees each line at once
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no kernel is left behind
    try:
        good = _run(options, chosen, out / "runs", profile.jobs)
        for reason in publish(all_runs, out) if profile.report else ():
            print(printable(f"not among the executed notebooks: {reason}"), file=sys.stderr)
        return 0 if (not profile.report or _render(out, options.profile)) and good else 1
    except UnavailableError as error:
        print(printable(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs are kept; start again to go on", file=sys.stderr)
        return 130


def select(all_runs: list[Run], only: list[str] | None) -> list[Run]:
    """The runs named and those they need, in order; ValueError for an unknown name."""
    names = [run.name for run in all_runs]
    if unknown := [name for name in only or () if name not in names]:
        raise ValueError(f"no run {', '.join(unknown)} in this profile; there are {', '.join(names)}")
    wanted = set(only or names)
    for run in reversed(all_runs):
        wanted.update(run.needs if run.name in wanted else ())
    return [run for run in all_runs if run.name in wanted]


def _run(options: argparse.Namespace, chosen: list[Run], folder: Path, default: int) -> bool:
    forced = set(options.only or [run.name for run in chosen]) if options.force else set()
    if options.engine == "ray" or options.address:
        engine = RayEngine(options.address, options.jobs, default)  # Ray shuts down when this process ends
        return Runner(chosen, folder, forced, engine.execute).run_all(options.timeout, engine.jobs)
    jobs = options.jobs or default
    if jobs > 1:  # else each of them would use all cores, and they would stand in each other's way
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    gpus = execute.gpus() if jobs > 1 else []
    return Runner(chosen, folder, forced, gpus=gpus or [None]).run_all(options.timeout, jobs)


def _render(out: Path, profile: str) -> bool:
    begun, problems = time.monotonic(), []
    try:
        from mmutils import report

        report.start_processes()
        from mmutils.report import rendering  # draws, so it takes a while to import

        rendering.render(out, profile, problems, alone=out != ROOT / "report")
    except Exception as error:  # of any kind: the runs are there, and the caller learns of it
        message = f"{traceback.format_exc()}\nthe runs are kept, but the report could not be rendered: {error!r}"
        print(printable(message), file=sys.stderr)
        return False
    print(printable(f"report rendered in {time.monotonic() - begun:.1f} s; open {out / 'report.html'}"))
    for problem in problems:
        print(printable(f"not in the report: {problem}"), file=sys.stderr)
    return not problems


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mmutils.reproduce", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--profile", default="demo", help="profile of the experiments file (default: demo)")
    note = "a grid of your own (default: report/experiments.yaml, which describes the format)"
    add("--experiments", metavar="FILE", default=EXPERIMENTS, help=note)
    add("--out", help="folder for runs and report (default: the profile's, else report)")
    add("--only", nargs="+", action="extend", metavar="NAME", help="only these runs and what they need")
    add("--list", action="store_true", help="say which runs are fresh, stale or missing, and why")
    add("--jobs", type=int, metavar="N", help="runs at the same time (default: the profile's)")
    add("--engine", choices=("local", "ray"), default="local", help="where notebooks run")
    add("--address", metavar="HOST:PORT", help="of a Ray cluster, which runs them (--engine ray alone: this machine)")
    add("--force", action="store_true", help="run even what is fresh")
    add("--timeout", type=float, metavar="SECONDS", help="without a sign of life, after which a notebook is ended")
    add("--root", action="append", default=[], metavar="DATA=DIR", help="folder or file of a data set; repeatable")
    options = parser.parse_args(arguments)
    for name, value in (("jobs", options.jobs), ("timeout", options.timeout)):
        if value is not None and not value > 0:
            parser.error(f"--{name} is more than 0, not {value}")
    if wrong := [entry for entry in options.root if "=" not in entry]:
        parser.error(f"--root {wrong[0]!r}: give DATA=DIR, as crisismmd=/data/CrisisMMD_v2.0")
    return options


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)
