"""The runner, on a small copy of the package and notebooks that train nothing: what runs, is skipped, or fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from unittest.mock import Mock

import nbformat
import psutil
import pytest
import yaml
from filelock import FileLock

from mmutils.reproduce import execute, experiments, runner
from mmutils.runs import fingerprints
from mmutils.runs.fingerprints import Disk

DATA = """
def fingerprint(name, root=None):
    return "unchanged"
"""
PARAMETERS = """
out: str = "outputs/toy"
word: str = "a"
rate: float = 0.1
seeds: list[int] = [0]
"""
RECORD = """
from pathlib import Path
from mmutils import runs, helper
described = {"name": "toy", "fingerprint": "unchanged", "splits": {}, "built_in": True}
Path(out).mkdir(parents=True, exist_ok=True)
(Path(out) / "encoder.safetensors").write_text(helper.answer(word))
runs.save_record(out, notebook="toy.ipynb", parameters=runs.parameters("toy.ipynb", globals()), study="crisis",
                 data=described, classes=[], systems=[], history=[], predictions=None, extra={"word": word})
"""
ACTS = """
import os, time
from tqdm.auto import tqdm
acts = {"b": lambda: list(tqdm(range(2)))}
acts |= {"raise": lambda: {}["no such key"], "kill": lambda: os.kill(os.getpid(), 9), "hang": lambda: time.sleep(99)}
acts.get(word, lambda: None)()
"""


def hear_interrupts() -> None:
    """A job that was started in the background of a shell ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Repository:
    """A folder with the runner's part of the package, one notebook, and whatever experiments a test gives it."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("data", "statistics"):
            (folder / "mmutils" / name).mkdir(parents=True)
        (folder / "mmutils" / "statistics" / "scores.py").write_text("scores = None  # nothing is predicted here\n")
        shutil.copy(fingerprints.ROOT / "mmutils" / "__init__.py", folder / "mmutils")
        for name in ("runs", "reproduce"):
            shutil.copytree(fingerprints.ROOT / "mmutils" / name, folder / "mmutils" / name)
        (folder / "mmutils" / "data" / "__init__.py").write_text(DATA)
        self.helper("def answer(word):\n    return word\n")
        self.notebook("toy.ipynb", PARAMETERS, ACTS, RECORD)
        wrong = folder / "jupyter" / "kernels" / "python3"  # a kernel of the user's that is not this interpreter
        wrong.mkdir(parents=True)
        (wrong / "kernel.json").write_text('{"argv": ["false"], "display_name": "x", "language": "python"}')

    def helper(self, source):
        (self.folder / "mmutils" / "helper.py").write_text(source)

    def notebook(self, name, *sources):
        cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
        cells[0].metadata.tags = ["parameters"]
        kernel = {"kernelspec": {"name": "of somebody else", "language": "python", "display_name": "x"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), self.folder / name)

    def experiments(self, *entries, **profile):
        (self.folder / "report").mkdir(exist_ok=True)
        entries = [{"notebook": "toy.ipynb", **entry} for entry in entries]
        content = {"profiles": {"demo": {"report": False, "runs": entries, **profile}}}
        (self.folder / "report" / "experiments.yaml").write_text(yaml.safe_dump(content))

    def start(self, *arguments):
        command = [sys.executable, "-m", "mmutils.reproduce", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = os.environ | {"JUPYTER_DATA_DIR": str(self.folder / "jupyter")}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, **pipes, preexec_fn=hear_interrupts
        )

    def run(self, *arguments):
        """Exit status and everything that was printed."""
        child = self.start(*arguments)
        output, errors = child.communicate()
        assert "Traceback" not in errors, errors
        return child.returncode, output + errors

    def record(self, name):
        return json.loads((self.folder / "report" / "runs" / name / "record.json").read_text())


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def state(output, name):
    """The state of a run, by the line that says how it ended."""
    return output.rpartition(f"] {name}: ")[2].split()[0]


def test_only_what_is_stale_runs(repository):
    repository.experiments({"name": "one", "parameters": {"word": "b"}}, {"name": "two", "needs": ["one"]})
    status, output = repository.run()
    assert status == 0, output
    assert (state(output, "one"), state(output, "two")) == ("ok", "ok")
    assert repository.record("one")["extra"] == {"word": "b"}
    assert repository.record("one")["parameters"] == {"word": "b", "rate": 0.1, "seeds": [0]}
    folder = repository.folder / "report" / "runs" / "one"
    assert {path.name for path in folder.iterdir()} == {
        "record.json",
        "toy.ipynb",
        "run.log",
        "encoder.safetensors",
        ".lock",
    }
    executed = (folder / "toy.ipynb").read_text()
    assert "widget-view" in executed and "widgets" not in json.loads(executed)["metadata"]

    status, output = repository.run()
    assert (status, state(output, "one"), state(output, "two")) == (0, "fresh", "fresh")

    entries = {"name": "one", "parameters": {"word": "c"}}, {"name": "two", "needs": ["one"]}
    repository.experiments(*entries)
    assert "parameters changed: word 'b' -> 'c'" in repository.run("--list")[1]
    output = repository.run()[1]
    assert (state(output, "one"), state(output, "two")) == ("ok", "ok")
    assert "[2 of 2] two: running (one changed)" in output

    (folder / "encoder.safetensors").unlink()  # as in a fresh clone: weights are not committed
    assert state(repository.run()[1], "one") == "fresh"
    repository.experiments(entries[0], entries[1] | {"parameters": {"word": "d"}})
    assert "two reads its encoder.safetensors, not here" in repository.run("--list")[1]
    repository.experiments(*entries)
    output = repository.run("--only", "two", "--force")[1]  # reads them, so they are made again
    assert "one: running (two reads its encoder.safetensors, not here)" in output
    assert (state(output, "one"), state(output, "two")) == ("ok", "ok")
    repository.helper("def answer(word):\n    return word * 2\n")
    assert repository.run("--list")[1].count("code changed: mmutils/helper.py") == 2


def test_a_failure_does_not_stop_the_others(repository):
    repository.experiments(
        {"name": "raises", "parameters": {"word": "raise"}, "study": "memes"},
        {"name": "needs", "needs": ["raises"]},
        {"name": "dies", "parameters": {"word": "kill"}},
        {"name": "good"},
    )
    status, output = repository.run()
    assert status == 1
    assert [state(output, n) for n in ("raises", "needs", "dies", "good")] == ["failed", "skipped", "failed", "ok"]
    raised, died = repository.record("raises"), repository.record("dies")
    assert (raised["status"], raised["study"], raised["scores"]) == ("failed", "memes", [])
    assert raised["reason"] == "KeyError in cell 3: 'no such key'"
    assert any("no such key" in line for line in raised["extra"]["log"])
    assert died["reason"].startswith("the kernel died in cell 3")
    assert "failed before: KeyError" in repository.run("--list")[1]


def kernels(folder):
    """Processes that run in a repository's folder."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        if process.info["cwd"] == str(folder) and "ipykernel_launcher" in " ".join(process.info["cmdline"] or ()):
            found.append(process)
    return found


def test_a_notebook_that_hangs_is_ended_with_its_kernel(repository, monkeypatch):
    """Hours go by, once it is in its cell and as often as the runner looks; however slow this machine is."""
    folder, now, hours = repository.folder / "run", time.monotonic, [0]
    hang = "from pathlib import Path\nimport time\nPath(out, 'here').touch()\ntime.sleep(999)"
    repository.notebook("hang.ipynb", PARAMETERS, hang)

    def tick(where):
        hours[0] += 2 * (folder / "here").exists()

    monkeypatch.setattr(execute.time, "monotonic", lambda: now() + 3600 * hours[0])
    parameters = {"out": str(folder)}
    outcome = execute.execute(repository.folder / "hang.ipynb", folder, parameters, 3600, repository.folder, tick)
    assert outcome.reason == "no sign of life for 3600 s in cell 3"
    assert not kernels(repository.folder)


def test_what_is_slow_is_not_dead(tmp_path, monkeypatch):
    """Its log has grown at 90 s; at 189 s it has computed, at a twentieth of a core; to wait takes a kernel little."""
    moments, cpu, now = iter([(90, 2), (180, 3), (189, 7), (280, 8), (290, 8)]), {Mock(): 0}, [0]
    (tmp_path / "log").write_text("ten letter")
    child = Mock()
    child.wait.side_effect = [subprocess.TimeoutExpired("", 0.5)] * 5 + [0]

    def tick(where):
        now[0], cpu[next(iter(cpu))] = next(moments)

    monkeypatch.setattr(execute.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(execute, "_cpu_seconds", lambda pid: cpu)
    monkeypatch.setattr(execute.psutil, "wait_procs", Mock())
    assert execute._watch(child, tmp_path / "log", 100, tick)
    assert not list(moments)
    child.kill.assert_called_once()


def test_a_limit_of_life_reaches_the_notebook(repository):
    repository.experiments({"name": "hangs", "parameters": {"word": "hang"}, "timeout": 5})
    status, output = repository.run()
    assert (status, "no sign of life for 5 s" in output) == (1, True)


def test_notebooks_at_a_time_have_gpus_of_their_own(tmp_path, monkeypatch):
    inside, lock, meeting = [], threading.Lock(), threading.Barrier(3)
    taken = []

    def run(notebook, folder, parameters, timeout, root, tick, gpu):
        with lock:
            inside.append(gpu)
            taken.append(sorted(inside))
        meeting.wait(60)  # all three are at work
        with lock:
            inside.remove(gpu)
        return execute.Outcome("done", 1.0)

    monkeypatch.setattr(runner.runs, "save_failure", lambda *arguments, **known: None)
    chosen = [experiments.Run(f"run{number}", "notebooks/data_audit.ipynb") for number in range(6)]
    runner.Runner(chosen, tmp_path, execute=run, gpus=["3", "GPU-x"]).run_all(jobs=3)
    assert len(taken) == 6 and ["3", "3", "GPU-x"] in taken
    assert all(gpus.count("3") <= 2 and gpus.count("GPU-x") <= 1 for gpus in taken)


LISTED = """GPU 0: NVIDIA A100 (UUID: GPU-5c89-aa)
GPU 1: NVIDIA A100 (UUID: GPU-77f1-bb)
"""


@pytest.mark.parametrize(
    ("variable", "listed", "expected"),
    [
        ("2, 5", LISTED, ["2", "5"]),
        ("", LISTED, []),
        ("1,-1,0", LISTED, ["1"]),  # CUDA reads no further
        (None, LISTED, ["GPU-5c89-aa", "GPU-77f1-bb"]),
        (None, None, []),
    ],
)
def test_gpus_are_counted_without_torch(tmp_path, monkeypatch, variable, listed, expected):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    if listed is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!{sys.executable}\nprint({listed!r})\n")
        tool.chmod(0o755)
    assert execute.gpus() == expected


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT for one process on Windows")
@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted_it_leaves_no_kernel_and_checkpoints_to_go_on_from(repository, jobs):
    repository.experiments(*[{"name": name, "parameters": {"word": "hang"}} for name in ("hangs", "too")[:jobs]])
    child = repository.start("--jobs", str(jobs))
    while len(kernels(repository.folder)) < jobs:
        assert child.poll() is None
        time.sleep(0.2)
    status, output = repository.run()  # a second runner is refused as long as the first works
    assert (status, "another process works in" in output) == (2, True)
    child.send_signal(signal.SIGINT)
    assert "go on" in child.communicate()[1]
    assert child.returncode == 130
    assert not kernels(repository.folder)
    assert not list(repository.folder.glob("report/runs/*/record.json"))
    folder = repository.folder / "report" / "runs" / "hangs"
    (folder / "checkpoints" / "epoch").write_text("1")
    status, output = repository.run("--timeout", "1")  # the lock is free again; unchanged: checkpoints stay
    assert (status, state(output, "hangs")) == (1, "failed")
    assert (folder / "checkpoints" / "epoch").exists()
    repository.helper("def answer(word):\n    return word * 2\n")
    repository.run("--timeout", "1")
    assert not (folder / "checkpoints" / "epoch").exists()


def test_jobs_overlap_keep_the_order_of_needs_and_end_together(repository):
    meet = "import time\nPath(out).mkdir(parents=True, exist_ok=True)\n"
    meet += "(Path(out) / 'here').touch()\nother = {'one': 'two', 'two': 'one'}[Path(out).name]\n"
    meet += "end = time.time() + 200\nwhile not (Path(out).parent / other / 'here').exists():\n"
    meet += "    assert time.time() < end\n    time.sleep(0.05)"  # neither goes on before the other has begun
    repository.notebook(
        "meet.ipynb", PARAMETERS, f"from pathlib import Path\n{meet}", RECORD.replace("toy.ip", "meet.ip")
    )
    needs = 'assert (Path(out).parent / "one" / "record.json").exists()'
    repository.notebook(
        "then.ipynb", PARAMETERS, f"from pathlib import Path\n{needs}", RECORD.replace("toy.ip", "then.ip")
    )
    repository.experiments(
        {"name": "then", "notebook": "then.ipynb", "needs": ["one", "two"]},
        {"name": "one", "notebook": "meet.ipynb"},
        {"name": "two", "notebook": "meet.ipynb"},
        jobs=2,
    )
    status, output = repository.run()
    assert status == 0 and [state(output, name) for name in ("one", "two", "then")] == ["ok"] * 3, output
    assert repository.run("--jobs", "0")[0] == 2


def test_a_run_does_not_wait_for_those_behind_it_in_the_file(repository):
    repository.experiments(
        {"name": "last", "needs": ["one"]}, {"name": "one"}, {"name": "then", "needs": ["one"]}, {"name": "two"}
    )
    _, output = repository.run("--list")
    assert [line.split()[0] for line in output.splitlines() if "toy.ipynb" in line] == ["one", "last", "then", "two"]


def test_a_part_that_is_missing_in_the_report_is_a_failure(repository):
    render = "def render(folder, profile, problems, alone):\n    problems += ['fusion-en: \\x1b[2J its table']\n"
    package = repository.folder / "mmutils" / "report"
    package.mkdir()
    shutil.copy(fingerprints.ROOT / "mmutils" / "report" / "__init__.py", package)
    (package / "rendering.py").write_text(render)
    repository.experiments({"name": "one"}, report=True)
    status, output = repository.run()
    assert (status, state(output, "one")) == (1, "ok")
    assert r"not in the report: fusion-en: \x1b[2J its table" in output
    (package / "rendering.py").write_text(render.replace("+=", "and"))
    assert repository.run()[0] == 0


def test_a_notebook_without_a_record_has_failed(repository):
    repository.notebook("bare.ipynb", PARAMETERS, "1 + 1")
    repository.experiments({"name": "bare", "notebook": "bare.ipynb"})
    assert repository.run()[0] == 1
    assert "wrote no record" in repository.record("bare")["reason"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"parameters": {"wrod": "b"}}, r"unknown 'wrod'; did you mean 'word'\? there are word, rate, seeds"),
        ({"parameters": {"word": 3}}, "word is str, given 3, a int"),
        (
            {"parameters": {"rate": "fast", "word": 3}},
            r"(?s)rate is float, given 'fast'.*run one, parameters: word is str",
        ),
        ({"parameters": {"seeds": [0, "b"]}}, r"seeds is list\[int\]"),
        ({"parameters": ["word"]}, "run one: parameters is dict"),
        ({"timeout": "long"}, "run one: timeout is float"),
        ({"timeout": 0}, "run one: timeout: seconds, more than 0"),
        ({"needs": "two"}, "run one: needs is tuple"),
        ({"parameters": {"seeds": [True]}}, r"seeds is list\[int\]"),
        ({"parameters": {"out": "x"}}, "unknown 'out'"),
        ({"needs": ["two"]}, "unknown 'two'"),
        ({"needs": ["one"]}, "circle: one"),
        ({"notebook": "tox.ipynb"}, "no notebook"),
        ({"notebook": "wrong.ipynb"}, r"run one: wrong.ipynb: keyword argument repeated.*\Z"),
        ({"timeuot": 3}, "did you mean 'timeout'"),
        ({"name": "a/b"}, "a name is a folder"),
    ],
)
def test_mistakes_in_the_experiments_are_found_before_anything_runs(repository, entry, message):
    repository.notebook("wrong.ipynb", PARAMETERS, "dict(a=1, a=2)")
    repository.experiments({"name": "one", **entry})
    with pytest.raises(ValueError, match=message):
        experiments.read(repository.folder / "report" / "experiments.yaml", "demo", Disk(repository.folder))


def test_values_of_the_experiments_and_of_the_record_are_of_one_type(repository):
    """YAML reads 1e-3 as a text and `'no'` is one; the notebook gets, and the record has, what was declared."""
    begin = "from mmutils import runs\nrun = runs.begin('toy.ipynb', globals())"
    by_hand = 'runs.save_record(out, notebook="toy.ipynb", parameters=runs.parameters("toy.ipynb", globals()),'
    save = RECORD.replace(by_hand, "run.save(")
    repository.notebook("toy.ipynb", PARAMETERS + "\nfrozen: bool = True\nwidth: float = 2", begin, "%pwd\n1", save)
    repository.experiments({"name": "one", "parameters": {"rate": "1e-3", "frozen": "no", "seeds": "[4]"}})
    status, output = repository.run()
    assert (status, state(output, "one")) == (0, "ok"), output
    parameters = repository.record("one")["parameters"]
    assert parameters == {"word": "a", "rate": 0.001, "seeds": [4], "frozen": False, "width": 2.0}
    log = repository.folder / "report" / "runs" / "one" / "run.log"
    assert "did not run" not in log.read_text()  # all cells are those of the notebook
    assert state(repository.run()[1], "one") == "fresh"
    path = repository.folder / "report" / "experiments.yaml"
    profile = experiments.read(path, "demo", Disk(repository.folder))
    assert profile.runs[0].parameters == {"rate": 0.001, "frozen": False, "seeds": [4]}


def test_what_is_edited_while_it_runs_is_no_part_of_its_record(repository):
    """The notebook edits the package and itself after the import: its numbers are of the old code."""
    edit = "from mmutils import runs\nfrom pathlib import Path\n"
    edit += "Path('mmutils/helper.py').write_text('def answer(word):\\n    return word * 3\\n')"
    repository.notebook("toy.ipynb", PARAMETERS, "import mmutils.helper", edit, RECORD)
    repository.experiments({"name": "one"})
    status, output = repository.run()
    assert (status, state(output, "one")) == (0, "ok"), output
    log = repository.folder / "report" / "runs" / "one" / "run.log"
    assert "edited while this ran: mmutils/helper.py" in log.read_text()
    assert "stale    toy.ipynb" in (output := repository.run("--list")[1])
    assert "code changed: mmutils/helper.py" in output


def test_two_processes_do_not_work_in_one_folder(repository):
    begin = "from mmutils import runs\nruns.begin('toy.ipynb', globals())"
    repository.notebook("toy.ipynb", PARAMETERS, begin, "import time; time.sleep(999)")
    folder = repository.folder / "report" / "runs" / "one"
    folder.mkdir(parents=True)
    repository.experiments({"name": "one"})
    with FileLock(folder / ".lock"):
        status, output = repository.run()
    assert status == 1
    assert f"another process works in {folder}" in output


def test_defaults_of_a_profile_go_where_they_fit(repository):
    repository.notebook("other.ipynb", 'out: str = "x"\nepochs: int = 1')
    shared = {"timeout": 7, "study": "memes", "parameters": {"word": "b", "epochs": 3}}
    entries = {"name": "two", "needs": ["one"], "parameters": {"word": "c"}}, {"name": "one", "notebook": "other.ipynb"}
    repository.experiments(*entries, defaults=shared, out="outputs/demo")
    path = repository.folder / "report" / "experiments.yaml"
    profile = experiments.read(path, "demo", Disk(repository.folder))
    one, two = profile.runs
    assert (one.name, one.parameters, one.timeout) == ("one", {"epochs": 3}, 7)
    assert (two.name, two.parameters, two.study) == ("two", {"word": "c"}, "memes")
    assert (profile.out, profile.report) == ("outputs/demo", False)
    repository.experiments(*entries, defaults={"parameters": {"wodr": 1}})
    with pytest.raises(ValueError, match="did you mean 'word'"):
        experiments.read(path, "demo", Disk(repository.folder))
    with pytest.raises(ValueError, match=r"no profile 'paper'.* there are demo"):
        experiments.read(path, "paper", Disk(repository.folder))


def test_the_folder_of_a_data_set_is_given_and_not_recorded(repository):
    check = "assert root.endswith('first') == (data == 'toy'), root"
    repository.notebook("toy.ipynb", PARAMETERS + 'data: str = "toy"\nroot: str = ""', check, RECORD)
    repository.experiments({"name": "one"}, {"name": "two", "parameters": {"data": "other"}}, roots=["toy"])
    assert "no folder of toy: give --root toy=DIR" in repository.run()[1]
    assert "unknown 'tyo'; did you mean 'toy'?" in repository.run("--root", "tyo=.")[1]
    assert "'nowhere' is not there" in repository.run("--root", "toy=nowhere")[1]
    first, second = repository.folder / "first", repository.folder / "second"
    first.mkdir()
    status, output = repository.run("--root", f"toy={first}")
    assert (status, state(output, "one")) == (0, "ok"), output
    assert "root" not in repository.record("one")["parameters"]
    first.rename(second)
    assert state(repository.run("--root", f"toy={second}")[1], "one") == "fresh"
    repository.experiments({"name": "one"}, {"name": "two", "parameters": {"data": "other"}}, roots=["toy", "other"])
    status, output = repository.run("--root", f"other={first.parent}", "--list")
    assert status == 0 and "left out: one, no --root toy\n" in output, output
    assert "two   " in output and "one   " not in output
    two = {"name": "two", "parameters": {"data": "other"}, "needs": ["one"]}
    repository.experiments({"name": "one"}, two, {"name": "three", "needs": ["two"]}, roots=["toy", "other"])
    status, output = repository.run("--root", f"other={first.parent}", "--list")  # none is left
    assert status == 2 and output == "one: no --root toy\ntwo: needs one\nthree: no --root toy\n", output
    repository.experiments({"name": "one", "root": "mine"}, {"name": "two"}, roots=["toy", "mine"])
    status, output = repository.run("--root", f"mine={second}", "--list")
    assert status == 0 and "left out: two, no --root toy" in output and "one   " in output, output
    repository.experiments({"name": "one", "root": "mien"}, roots=["mine"])
    status, output = repository.run("--root", f"mine={second}", "--list")
    assert status == 2 and "run one, root: unknown 'mien'; did you mean 'mine'?" in output, output


def test_a_run_may_need_several_folders(repository):
    check = "assert root.endswith('posts') and words.endswith('texts'), (root, words)"
    repository.notebook("toy.ipynb", PARAMETERS + 'data: str = "toy"\nroot: str = ""\nwords: str = ""', check, RECORD)
    repository.experiments({"name": "one", "root": {"root": "toy", "words": "texts"}}, roots=["toy", "texts"])
    for name in ("posts", "texts"):
        (repository.folder / name).mkdir()
    status, output = repository.run("--root", f"toy={repository.folder / 'posts'}", "--list")
    assert status == 2 and output == "one: no --root texts\n", output
    folders = [f"toy={repository.folder / 'posts'}", f"texts={repository.folder / 'texts'}"]
    status, output = repository.run("--root", folders[0], "--root", folders[1])
    assert (status, state(output, "one")) == (0, "ok"), output


def test_a_grid_of_ones_own_leaves_the_committed_report_alone(repository):
    repository.experiments({"name": "one"})
    (repository.folder / "report" / "experiments.yaml").rename(repository.folder / "mine.yaml")
    status, output = repository.run("--experiments", "mine.yaml")
    assert (status, state(output, "one")) == (0, "ok"), output
    assert (repository.folder / "outputs" / "demo" / "runs" / "one" / "record.json").is_file()
    assert not (repository.folder / "report" / "runs").exists()


def test_a_reader_that_has_enough_ends_the_list_quietly(repository):
    repository.experiments({"name": "one"})
    child = repository.start("--list")
    child.stdout.close()  # as `head` does
    assert (child.wait(), child.stderr.read()) == (1, "")


def test_wrong_use_is_said_and_a_dead_lock_is_no_lock(repository):
    repository.experiments({"name": "one"})
    status, output = repository.run("--only", "tow")
    assert (status, "no run tow in this profile; there are one" in output) == (2, True)
    assert repository.run("--profile", "paper")[0] == 2
    for option, value in (("--timeout", "nan"), ("--jobs", "two"), ("--out", "report/experiments.yaml/x")):
        status, output = repository.run(option, value)
        assert (status, value in output, "Traceback" in output) == (2, True, False)
    assert repository.run("--list") == (0, "one                          missing  toy.ipynb\n")
    (repository.folder / "report" / "runs").mkdir(parents=True)
    lock = repository.folder / "report" / "runs" / ".lock"
    lock.write_text("12345")  # of a runner that was killed
    with FileLock(lock, timeout=0):
        pass


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_an_environment_that_could_not_be_made_is_not_taken_for_one(tmp_path):
    """As where Debian's python3-venv is missing: there is a python in it, but no pip."""
    python, make = tmp_path / "python", ["make", "-f", str(fingerprints.ROOT / "Makefile"), ".venv/bin/python"]
    python.write_text("#!/bin/sh\ntest $1 = -c || { mkdir -p .venv/bin; touch .venv/bin/python; exit 1; }\n")
    python.chmod(0o755)
    done = subprocess.run([*make, f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode and "-m venv" in done.stdout and not (tmp_path / ".venv").exists()
