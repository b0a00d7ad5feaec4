"""Records come back as they were written, refuse what breaks the contract, and know when they are stale."""

import errno
import json
import math
import subprocess
import sys
import warnings

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import torch

from mmutils import runs
from mmutils.reproduce.runner import stale
from mmutils.runs import fingerprints
from mmutils.runs.files import write
from mmutils.statistics.scores import scores

PARAMETERS = """
epochs: int = 3  # passes
rate: float = 1e-3
seeds: list[int] = [0, 1]
out: str = "outputs/toy"
"""


@pytest.fixture
def notebook(tmp_path):
    """Path of a notebook with the parameters above, which reads one package module."""
    cells = [
        nbformat.v4.new_code_cell(source)
        for source in (PARAMETERS, "from mmutils.training.loop import fit\nx = 1  # one")
    ]
    cells[0].metadata.tags = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "toy.ipynb")
    return str(tmp_path / "toy.ipynb")


def system(name, **entries):
    keys = ("inputs", "language", "method", "model", "weights", "trained")
    return {"system": name, **dict.fromkeys(keys, "x"), "chosen": True, **entries}


def table(systems=("a", "b"), seeds=(0, 1), count=6, classes=3):
    rng = np.random.default_rng(0)
    parts = []
    for name in systems:
        for seed in seeds:
            for split in ("val", "test"):
                ids = [f"{split}{i}" for i in range(count)]
                part = pd.DataFrame({"system": name, "seed": seed, "split": split, "id": ids, "group": ids})
                part["label"] = np.arange(count) % classes
                probabilities = rng.dirichlet(np.ones(classes), count).astype(np.float32)
                parts.append(part.assign(**{f"p_{k}": probabilities[:, k] for k in range(classes)}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def save(tmp_path, notebook):
    """runs.save_record with all it needs; entries replace."""

    def saved(**entries):
        data = {"name": "toy", "fingerprint": "f", "splits": {"val": 6, "test": 6}, "built_in": True}
        known = {
            "notebook": notebook,
            "parameters": {"epochs": 3, "rate": 1e-3, "seeds": (0, 1), "out": "elsewhere"},
            "study": "crisis",
            "data": data,
            "classes": ["x", "y", "z"],
            "systems": [system("a"), system("b")],
            "history": [{"system": "a", "seed": 0, "epoch": 1, "loss": np.float32(0.5), "auroc": math.nan}],
            "predictions": table(),
        }
        return runs.save_record(tmp_path / "runs" / "toy", **known | entries)

    return saved


def test_a_record_comes_back_as_it_was(save, tmp_path):
    record = save(extra={"rates": {0.5: np.arange(3)}})
    folder = tmp_path / "runs" / "toy"
    assert record == runs.load_record(folder) == runs.load_records(tmp_path / "runs")[0]
    assert list(record) == list(runs.KEYS)
    assert record["parameters"] == {"epochs": 3, "rate": 1e-3, "seeds": [0, 1]}  # `out` says where, not what
    assert record["history"][0] == {"system": "a", "seed": 0, "epoch": 1, "loss": 0.5, "auroc": None}
    assert record["extra"] == {"rates": {"0.5": [0, 1, 2]}}
    pd.testing.assert_frame_equal(
        runs.load_predictions(folder), table().astype({"label": "int16", "seed": "int32"}), check_exact=True
    )
    rows = table().query("system == 'b' and seed == 1 and split == 'test'")
    assert record["scores"][-1] == {"system": "b", "seed": 1, "split": "test", "examples": 6, **scores(rows)}
    assert len(record["scores"]) == 8


def test_the_same_content_gives_the_same_bytes(save, tmp_path):
    save()
    first = (tmp_path / "runs/toy/predictions.parquet").read_bytes()
    save()
    assert (tmp_path / "runs/toy/predictions.parquet").read_bytes() == first
    text = (tmp_path / "runs/toy/record.json").read_text()
    assert "NaN" not in text
    assert 20 < len(text.splitlines()) < 100  # readable: a row of the history is a line
    assert not [path for path in (tmp_path / "runs/toy").iterdir() if path.name.startswith(".")]


def broken(change):
    rows = table()
    change(rows)
    return rows


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"study": "tweets"}, "study: Input should be 'crisis', "),
        ({"systems": [system("a"), system("a")]}, "differ"),
        ({"systems": [system("a"), {"system": "b"}]}, r"systems\.1\.inputs: Field required"),
        ({"systems": [system("a"), system("b"), system("c")]}, r"'c'\]"),
        ({"systems": [system("a")]}, r"'b'\]"),
        ({"data": {"name": "toy"}}, r"data\.fingerprint: Field required"),
        ({"classes": ["x", "y"]}, "2 classes"),
        ({"predictions": table().drop(columns="group")}, "need the columns"),
        ({"predictions": broken(lambda t: t.__setitem__("split", t["split"].replace("val", "dev")))}, "'dev'"),
        (
            {"predictions": broken(lambda t: t.__setitem__("id", t["id"].replace("val1", "val0")))},
            "a, val, seed 0, has the id 'val0' more",
        ),
        ({"predictions": table().iloc[1:]}, "a, val, seed 1, has other ids than the first: 6 and 5"),
        ({"predictions": table().iloc[6:]}, "every system and seed"),
        (
            {"predictions": broken(lambda t: t.__setitem__("label", [1, *t["label"][1:]]))},
            "a, val, seed 1, has another label",
        ),
        ({"predictions": broken(lambda t: t.__setitem__("p_0", t["p_0"] + 1))}, "sum to 1"),
        ({"failed": [{"system": "c", "seed": 0, "reason": "nan"}]}, "failed needs"),
        ({"extra": {"model": {"a": object()}}}, "the record has a object: it holds numbers"),
    ],
)
def test_save_refuses_what_breaks_the_contract(save, tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        save(**entries)
    assert not (tmp_path / "runs/toy/record.json").exists()


def test_what_failed_is_in_no_score(save, tmp_path):
    collapsed = table()
    collapsed.loc[(collapsed["system"] == "b") & (collapsed["seed"] == 1), "p_0"] = math.nan
    record = save(predictions=collapsed, failed=[{"system": "b", "seed": 1, "reason": "collapsed"}])
    assert [(row["system"], row["seed"]) for row in record["scores"]] == [("a", 0)] * 2 + [("a", 1)] * 2 + [
        ("b", 0)
    ] * 2
    assert len(runs.load_predictions(tmp_path / "runs/toy")) == 36


def test_a_run_without_systems(save, tmp_path):
    save()
    record = save(systems=[], predictions=None, history=[], extra={"leaks": 0})
    assert record["scores"] == []
    assert runs.load_predictions(tmp_path / "runs/toy").empty
    assert not (tmp_path / "runs/toy/predictions.parquet").exists()


def test_a_failure_replaces_the_record(save, tmp_path, notebook):
    save()
    record = runs.save_failure(tmp_path / "runs/toy", "out of memory", notebook=notebook, parameters={}, study="crisis")
    assert record["status"] == "failed"
    assert record["scores"] == record["systems"] == []
    assert stale(record, notebook, {}) == ["failed before: out of memory"]
    assert not (tmp_path / "runs/toy/predictions.parquet").exists()


def test_broken_records_are_refused_and_named(save, tmp_path):
    save()
    folder = tmp_path / "runs" / "toy"
    (folder / "predictions.parquet").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"predictions\.parquet"):
        runs.load_record(folder)
    for text in ("{", "[]", json.dumps({"schema": 1})):
        (folder / "record.json").write_text(text)
        with pytest.raises(ValueError, match=r"broken record .*record\.json"):
            runs.load_record(folder)
    (tmp_path / "runs" / "empty").mkdir()
    with pytest.warns(UserWarning, match="run (empty|toy) is left out") as caught:
        assert runs.load_records(tmp_path / "runs") == []
    assert len(caught) == 2
    with pytest.raises(FileNotFoundError, match="reproduce"):
        runs.load_record(folder.parent / "nowhere")


ODD = {
    "no dict": lambda record: record | {"extra": ["modality_use"]},
    "nothing": lambda record: record | {"parameters": None},
    "a text for a list": lambda record: record | {"history": "none"},
    "a text for a number": lambda record: record | {"seconds": "9"},
    "a number for a text": lambda record: record | {"notebook": 3},
    "a list for a name": lambda record: record | {"classes": [["x"], "y", "z"]},
    "a seed": lambda record: record | {"failed": [{"system": "a", "seed": 10**30, "reason": ""}]},
    "a score": lambda record: record | {"scores": [record["scores"][0] | {"accuracy": "high"}]},
    "a system": lambda record: record | {"systems": [record["systems"][0] | {"share": 2.0}]},
    "a failure of none of its systems": lambda record: record | {"failed": [{"system": "c", "seed": 0, "reason": ""}]},
    "another status": lambda record: record | {"status": "done"},
    "another study": lambda record: record | {"study": "weather"},
    "no data": lambda record: record | {"data": {}},
    "another run": lambda record: record | {"run": "toy2"},
    "a path": lambda record: record | {"run": "../toy"},
    "half a letter": lambda record: record | {"reason": "\ud800", "status": "failed"},
    "no number": lambda record: record | {"extra": {"score": float("inf")}},
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_a_record_with_odd_insides_is_left_out_and_the_others_are_read(save, tmp_path, change):
    good = save()
    good["fingerprints"].pop("record", None)  # whoever makes such a record leaves its hash out
    other = tmp_path / "runs" / "good"
    other.mkdir()
    (other / "record.json").write_text(
        json.dumps(good | {"run": "good", "fingerprints": {"notebook": "", "files": {}}})
    )
    (tmp_path / "runs" / "toy" / "record.json").write_text(json.dumps(change(good)))
    with pytest.warns(UserWarning, match="run toy is left out"):
        assert [record["run"] for record in runs.load_records(tmp_path / "runs")] == ["good"]


def test_a_folder_that_is_no_run_is_left_out(save, tmp_path):
    save()
    folder = tmp_path / "runs"
    (folder / "deep").mkdir()
    (folder / "deep" / "record.json").write_text('{"extra": ' + "[" * 90_000 + "]" * 90_000 + "}")
    (folder / "link").symlink_to(folder / "toy")
    (folder / "\x1b[31mred").mkdir()
    with pytest.warns(UserWarning, match="is left out") as caught:
        assert [record["run"] for record in runs.load_records(folder)] == ["toy"]
    assert len(caught) == 3
    assert all(str(warning.message).isprintable() for warning in caught)


def test_parameters_come_from_the_notebook_and_its_namespace(notebook):
    namespace = {"epochs": 5, "rate": 0.1, "seeds": [2], "out": "here", "other": 1}
    assert runs.parameters(notebook, namespace) == {"epochs": 5, "rate": 0.1, "seeds": [2], "out": "here"}
    with pytest.raises(ValueError, match="parameters rate; give globals"):
        runs.parameters(notebook, {"epochs": 5, "seeds": [2], "out": "here"})
    known = papermill.inspect_notebook(notebook)
    assert {name: kind for name, (_, kind) in fingerprints.defaults(notebook).items()} == {
        name: entry["inferred_type_name"] for name, entry in known.items()
    }


@pytest.fixture
def begin(tmp_path):
    """runs.begin for a notebook with five parameters; entries replace values. Returns what became of them."""
    source = PARAMETERS + "frozen: bool = True\nprecision = 'auto'"
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "begun.ipynb")

    def begun(**entries):
        values = {"epochs": 3, "rate": 1e-3, "seeds": [0, 1], "out": str(tmp_path / "out"), "frozen": True}
        namespace = {**values, "precision": "auto", "other": "5"} | entries
        runs.begin(str(tmp_path / "begun.ipynb"), namespace)
        return namespace

    return begun


def test_begin_makes_every_parameter_what_it_is_declared_as(begin):
    values = begin(epochs="7", rate="1e-2", seeds="[3]", frozen="false")
    assert {"epochs": 7, "rate": 0.01, "seeds": [3], "frozen": False, "other": "5"}.items() <= values.items()
    first = torch.rand(3)
    begin(seeds=[3])
    assert torch.equal(torch.rand(3), first)  # random weights that are built next are the same in every run
    begin(seeds=[4])
    assert not torch.equal(torch.rand(3), first)


ENTRIES = {"study": "crisis", "classes": [], "systems": [], "history": [], "predictions": None}
ENTRIES["data"] = {"name": "toy", "fingerprint": "f", "splits": {}, "built_in": True}


def test_what_has_begun_saves_its_parameters_in_its_folder(begin, tmp_path):
    values = begin(epochs="7")
    run = runs.begin(str(tmp_path / "begun.ipynb"), values)
    record = run.save(**ENTRIES)
    assert record == runs.load_record(tmp_path / "out")
    assert record["parameters"]["epochs"] == 7 and "out" not in record["parameters"]
    values["seeds"].append(5)  # the trainings were of the others
    with pytest.raises(ValueError, match=r"begun.ipynb: seeds \[0, 1\] -> \[0, 1, 5\] since it began: run it again"):
        run.save(**ENTRIES)


def test_weights_that_were_there_before_are_not_the_run_s(begin, tmp_path):
    values = begin()
    for name in ("old", "again"):
        (tmp_path / "out" / f"{name}.safetensors").write_text("weights")
    run = runs.begin(str(tmp_path / "begun.ipynb"), values)
    for name in ("again", "new"):
        write(tmp_path / "out" / f"{name}.safetensors", "weights")
    assert list(run.save(**ENTRIES)["files"]) == ["again.safetensors", "new.safetensors"]


class Shell:
    """IPython with what it has run."""

    def __init__(self, *cells):
        self.history_manager = self
        self.input_hist_raw = ["", *cells]


SAVE = "run.save()"


@pytest.mark.parametrize(
    ("before", "after", "other"),
    [
        (["import x", "values"], ["y = 1\n", SAVE], []),
        (["import x"], ["more", "y = 1", "!ls", SAVE], []),
        (["import x"], ["y = 2", SAVE], ["y = 1"]),
        (["import x", "y = 1"], ["y = 2", SAVE], ["y = 1"]),  # of an earlier run in the same kernel
        (["import z"], ["y = 1", SAVE], ["import x"]),
    ],
)
def test_cells_that_ran_otherwise_than_they_stand_in_the_notebook_are_named(
    begin, tmp_path, monkeypatch, before, after, other
):
    values, start, path = begin(), "run = begin()", str(tmp_path / "ran.ipynb")
    content = nbformat.read(tmp_path / "begun.ipynb", 4)
    cells = ["import x", start, "y = 1", "%%bash\nls", SAVE, "after"]
    content.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(content, path)
    monkeypatch.setattr("IPython.get_ipython", lambda: Shell(*before, start))
    run = runs.begin(path, values)
    monkeypatch.setattr("IPython.get_ipython", lambda: Shell(*before, start, *after))
    with warnings.catch_warnings(record=True) as caught:
        record = run.save(**ENTRIES)
    assert [repr(other[0]) in str(warning.message) for warning in caught] == [True] * len(other)
    changed = fingerprints.changed_files(record["fingerprints"], path, record["parameters"])
    assert changed == [path] * len(other)


def test_begin_refuses_before_any_work_and_says_all(begin, tmp_path):
    with pytest.raises(ValueError, match=r"(?s)begun.ipynb: parameter epochs is int.*parameter precision is str"):
        begin(epochs="many", precision=16)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    for out in ("file", "file/run"):
        with pytest.raises(ValueError, match=r"nothing can be written in .*file"):
            begin(out=str(tmp_path / out))
    for out in ("", str(tmp_path / ".hidden"), str(tmp_path / "my run")):  # a record there could not be read
        with pytest.raises(ValueError, match="parameter out is"):
            begin(out=out)


WORK = """
import sys
from pathlib import Path
from mmutils.runs.files import claim, whole_file
folder = Path(sys.argv[1])
try:
    claim(folder, wait=0)
    with whole_file(folder / "checkpoints" / "file") as draft:
        draft.write_text("half of it")
        print("works", flush=True)
        sys.stdin.read()
except ValueError as error:
    print(error)
"""


def worker(folder):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": fingerprints.ROOT}
    return subprocess.Popen([sys.executable, "-c", WORK, str(folder)], **pipes)


def test_a_folder_is_one_process_s_until_it_ends(begin, tmp_path):
    out = tmp_path / "out"
    with worker(out) as first:
        assert first.stdout.readline() == "works\n"
        with worker(out) as second:
            assert f"another process works in {out}" in second.communicate()[0]
        assert len(list(out.glob("checkpoints/.draft-*"))) == 1
        first.kill()
    begin()  # the lock is free, and what was left is swept
    begin(out=str(tmp_path / "other"))
    begin()  # as often as it likes
    assert not list(out.glob("checkpoints/*"))
    for folder in (out, tmp_path / "other"):
        with worker(folder) as late:
            assert "another process works in" in late.communicate()[0]


def test_where_nothing_can_be_locked_work_goes_on(begin, tmp_path, monkeypatch):
    def refuse(lock):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    begin()
    assert (tmp_path / "out").is_dir()


def test_a_record_has_the_versions_and_the_precision(save):
    rows = [{"system": "a", "epoch": epoch, "precision": kind} for epoch, kind in ((1, "bf16"), (2, "no"), (3, "no"))]
    assert save(history=rows)["environment"]["precision"] == ["bf16", "no"]
    environment = save()["environment"]
    assert environment["precision"] is None
    assert environment["pillow"] and environment["tokenizers"] and environment["scipy"]


def test_derived_parameters_are_refused(tmp_path):
    cell = nbformat.v4.new_code_cell("a = 1\ntwice = a * 2", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "n.ipynb")
    with pytest.raises(ValueError, match=r"'twice' must be a plain literal"):
        fingerprints.defaults(tmp_path / "n.ipynb")


def test_only_what_a_program_does_counts():
    plain = 'def f(x):\n    y = "# no comment"\n    return x'
    noted = (
        '"""Page."""\n\n# why\n' + plain.replace(":\n", ':  # shape\n    """Doc\n    string."""\n\n', 1) + "  # (B,)\n"
    )
    assert fingerprints.significant(noted) == fingerprints.significant(plain)
    assert fingerprints.significant(plain.replace("no", "a")) != fingerprints.significant(plain)


@pytest.fixture
def package(tmp_path):
    """A repository with a package of a few modules and a notebook that uses some of them."""
    sources = {
        "__init__": "",
        "statistics/__init__": "",
        "statistics/scores": "",
        "training/__init__": "",
        "training/loop": "from .. import batches\nfrom mmutils.report.plots import draw",
        "batches/__init__": "def late():\n    import mmutils.batches.images",
        "batches/images": "",
        "report/plots": "from mmutils import unused",
        "unused": "",
        "data/__init__": "",
        "data/toy": "from .shared import table",
        "data/shared": "",
        "data/other": "",
        "methods/__init__": "",
        "methods/dino": "",
        "methods/clip": "",
    }
    for name, source in sources.items():
        path = tmp_path / "mmutils" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    cells = [
        "!pip install x\n%matplotlib inline\nfrom mmutils import data, methods\nfrom mmutils.training import loop",
        'data.dataset("toy")',
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    return tmp_path


def test_the_code_of_a_run_is_what_its_notebook_reaches(package):
    hashes = fingerprints.code_files("n.ipynb", {"method": "DINO", "words": ["x y"]}, fingerprints.Disk(package))
    reached = "__init__ batches/__init__ batches/images data/__init__ data/shared data/toy methods/__init__ "
    reached += "methods/dino statistics/__init__ statistics/scores training/__init__ training/loop"
    assert sorted(hashes) == sorted(f"mmutils/{name}.py" for name in reached.split())
    (package / "mmutils" / "batches" / "__init__.py").write_text("def late(:\n")  # half written
    edited = fingerprints.code_files("n.ipynb", {}, fingerprints.Disk(package))
    assert edited["mmutils/batches/__init__.py"] != hashes["mmutils/batches/__init__.py"]


def test_a_snapshot_stays_as_it_was(package):
    disk, snapshot = fingerprints.Disk(package), fingerprints.Snapshot(package)
    before = fingerprints.code_files("n.ipynb", {}, snapshot), fingerprints.notebook_code("n.ipynb", snapshot)
    assert before == (fingerprints.code_files("n.ipynb", {}, disk), fingerprints.notebook_code("n.ipynb", disk))
    (package / "mmutils" / "batches" / "__init__.py").write_text("x = 1")
    (package / "mmutils" / "data" / "__init__.py").unlink()
    (package / "mmutils" / "batches" / "images.py").write_text("from mmutils import new")
    (package / "mmutils" / "new.py").write_text("")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), package / "n.ipynb")
    assert before == (fingerprints.code_files("n.ipynb", {}, snapshot), fingerprints.notebook_code("n.ipynb", snapshot))
    assert snapshot.text("mmutils/new.py") is None and disk.text("mmutils/new.py") == ""


def test_stale_says_what_changed(save, notebook, package, monkeypatch):
    monkeypatch.setattr("mmutils.data.fingerprint", lambda name, root=None: "f")
    record = save()
    assert stale(record, notebook, {"out": "there"}) == []
    assert stale(record, notebook, {"epochs": 5}) == ["parameters changed: epochs 3 -> 5"]
    disk = fingerprints.Disk(package)
    [reason] = stale(record, notebook, {}, disk)
    changed = fingerprints.changed_files(record["fingerprints"], notebook, record["parameters"], disk)
    assert "mmutils/training/loop.py" in changed
    assert reason == f"code changed: {', '.join(changed[:3])} and {len(changed) - 3} more"
    monkeypatch.setattr("mmutils.data.fingerprint", lambda name, root=None: "g")
    assert stale(record, notebook, {}) == ["data changed"]
    content = nbformat.read(notebook, 4)  # as this process ran it
    content.cells[1].source += "  # a remark"
    nbformat.write(content, notebook)
    assert stale(record, notebook, {}) == ["data changed"]
    content.cells[1].source = content.cells[1].source.replace("x = 1", "x = 2")
    nbformat.write(content, notebook)
    assert stale(record, notebook, {}) == ["notebook changed", "data changed"]


def test_reading_records_needs_no_torch():
    heavy = "('torch', 'sklearn', 'papermill')"
    code = "import sys; from mmutils import runs; import mmutils.reproduce.__main__; "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=fingerprints.ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
