"""Runs the notebooks of a profile, those whose record is missing or stale, then renders the report.

    python -m mmutils.reproduce --profile demo [--out DIR] [--only NAME ...] [--list] [--force] [--jobs N]
                                              [--timeout SECONDS]
    python -m mmutils.reproduce --profile paper --root crisismmd=DIR --root hateful_memes=DIR
    python -m mmutils.reproduce --engine ray [--address HOST:PORT]   # mmutils/ray_engine.py
    python -m mmutils.reproduce --profile paper --dry-run     # mmutils/dry_run.py

The profiles stand in report/experiments.yaml:

    profiles:
      demo:
        report: true                     # render the report at the end (default true)
        jobs: 2                          # runs at the same time (default 1): they share cores, each has its GPU
        out: report                      # folder for runs/ and the report, from the repository root (default report)
        roots: [crisismmd]               # data sets whose folder is given by --root NAME=DIR; no record holds it
        defaults:                        # for every run of the profile; a run's own entries go first
          study: crisis
          timeout: 600                   # seconds without a sign of life (default 1800): slow is not dead
          parameters: {epochs: 5}        # goes to those notebooks that have the parameter
        runs:
          - name: text-en                # folder of the run: DIR/runs/text-en
            notebook: notebooks/text_models.ipynb
            parameters: {language: en, seeds: [0, 1, 2, 3, 4]}
          - name: fusion-en
            notebook: notebooks/fusion.ipynb
            needs: [text-en]             # runs it reads: they go first, and it is stale when what they made changed

Every notebook has a parameter `out: str`, the folder of its run; a run that it needs lies beside it, in
`Path(out).parent / name`. Parameters are converted to their types before anything runs, or refused: papermill would
only warn of a wrong name.
A run that fails leaves a record that says so, and the others go on. A run that was stopped and is started again
unchanged finds its checkpoints (in `out`/checkpoints); they are deleted when it is done or anything has changed.
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
from mmutils.reproduce.ray_engine import RayEngine, UnavailableError
from mmutils.reproduce.runner import Runner
from mmutils.runs.claim import claim
from mmutils.runs.files import sweep
from mmutils.runs.fingerprints import ROOT
from mmutils.runs.parameters import printable


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    options = _options(arguments)
    try:
        profile = read(ROOT / options.experiments, options.profile)
        default = "outputs/dry-run" if options.dry_run else profile.out
        out = (Path.cwd() / options.out if options.out else ROOT / default).resolve()
        all_runs = profile.runs if options.dry_run else rooted(profile, dict(options.root))
        chosen = _chosen(all_runs, options.only)
    except (ValueError, FileNotFoundError) as error:
        return _wrong_use(error)
    names = {run.name for run in all_runs}
    if left := [run.name for run in profile.runs if run.name not in names]:
        print(f"left out, as no --root gives the folder of their data set: {', '.join(left)}", file=sys.stderr)
    if options.list:
        return _list(chosen, out, {run.name for run in profile.runs})
    sys.stdout.reconfigure(line_buffering=True)  # whoever reads through a pipe sees each line at once
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no kernel is left behind
    try:
        claim(out / "runs", wait=0)
    except ValueError as error:
        return _wrong_use(f"--out: {error}")
    try:
        sweep(out)
        if options.dry_run:
            return 0 if _dry_run(chosen, out, options.timeout) else 1
        names = set(options.only or [run.name for run in chosen])
        good = _run(options, chosen, out, names if options.force else set(), profile.jobs)
        return 0 if (not profile.report or _render(out, options.profile)) and good else 1
    except UnavailableError as error:
        return _wrong_use(error)
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs are kept; start again to go on", file=sys.stderr)
        return 130


def _wrong_use(error: object) -> int:
    print(printable(error), file=sys.stderr)
    return 2


def _run(options: argparse.Namespace, chosen: list[Run], out: Path, forced: set[str], default: int) -> bool:
    """Run what is not fresh, on this machine or on Ray; True when nothing failed."""
    if options.engine == "ray":
        with RayEngine(options.address, options.jobs, default) as engine:
            return Runner(chosen, out, forced, engine.execute).run_all(options.timeout, engine.jobs)
    jobs = options.jobs or default
    if jobs > 1:  # else each of them would use all cores, and they would stand in each other's way
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    gpus = execute.gpus() if jobs > 1 else []
    return Runner(chosen, out, forced, gpus=gpus).run_all(options.timeout, jobs)


def _dry_run(chosen: list[Run], out: Path, timeout: float | None) -> bool:
    from mmutils.reproduce import dry_run  # imports nothing heavy, but only this needs it

    try:
        with dry_run.prepared(chosen) as short:
            return Runner(short, out, {run.name for run in short}).run_all(timeout)
    finally:
        dry_run.finish(out / "runs")


def _chosen(all_runs: list[Run], only: list[str] | None) -> list[Run]:
    """The runs named and those they need, in order; ValueError for an unknown name."""
    names = [run.name for run in all_runs]
    unknown = [name for name in only or () if name not in names]
    if unknown:
        raise ValueError(f"no run {', '.join(unknown)} in this profile; there are {', '.join(names)}")
    wanted = set(only or names)
    for run in reversed(all_runs):
        wanted |= set(run.needs) if run.name in wanted else set()
    return [run for run in all_runs if run.name in wanted]


def _list(chosen: list[Run], out: Path, listed: set[str]) -> int:
    runner = Runner(chosen, out)
    for run in chosen:
        reasons, status = runner.reasons(run), runner.record(run.name)["status"]
        state = "fresh" if not reasons else "missing" if reasons == ["no record"] else "stale"
        state = "failed" if status == "failed" else state
        why = "" if state == "missing" else "; ".join(reasons)
        print(printable(f"{run.name:<28} {state:<8} {run.notebook:<36} {why}").rstrip())
    others = {path.name for path in (out / "runs").glob("*/") if not path.name.startswith(".")} - listed
    if others:
        print(printable(f"also in {out / 'runs'}: {', '.join(sorted(others))}"))
    return 0


def _render(out: Path, profile: str) -> bool:
    """Render the report; True when nothing is missing in it."""
    begun, problems = time.monotonic(), []
    try:
        from mmutils.report import rendering as report  # draws, so it takes a while to import

        report.render(out, profile, problems)
    except Exception as error:  # whatever it is, the runs are there and the caller learns of it
        print(printable(traceback.format_exc()), file=sys.stderr)
        print(printable(f"the runs are kept, but the report could not be rendered: {error!r}"), file=sys.stderr)
        return False
    print(printable(f"report rendered into {out} in {time.monotonic() - begun:.1f} s"))
    for problem in problems:
        print(printable(f"not in the report: {problem}"), file=sys.stderr)
    return not problems


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mmutils.reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="demo", help="profile of the experiments file (default: demo)")
    parser.add_argument("--out", help="folder for runs and report (default: the profile's, else report)")
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", help="only these runs and what they need")
    parser.add_argument("--list", action="store_true", help="say which runs are fresh, stale or missing, and why")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="runs at the same time (default: the profile's)")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="where notebooks run")
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="of a Ray cluster (default: one of this machine's cores)"
    )
    parser.add_argument("--force", action="store_true", help="run even what is fresh")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="without a sign of life, after which a notebook is ended"
    )
    parser.add_argument(
        "--root", action="append", default=[], type=_root, metavar="DATA=DIR", help="folder of a data set; repeatable"
    )
    parser.add_argument("--dry-run", action="store_true", help="all at full size, on made data, with random weights")
    parser.add_argument("--experiments", default="report/experiments.yaml", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.address and options.engine != "ray":
        parser.error("--address is that of a Ray cluster: add --engine ray")
    if options.dry_run and options.engine == "ray":
        parser.error("--dry-run makes its data on this machine and runs there: leave --engine out")
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number, at least 1, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        if float(text) > 0:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"seconds, more than 0, not {text!r}")


def _root(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: give DATA=DIR, as crisismmd=/data/CrisisMMD_v2.0")
    return name, str(Path(folder).expanduser())


if __name__ == "__main__":
    sys.exit(main())
