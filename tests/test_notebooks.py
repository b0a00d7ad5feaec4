"""Notebooks: their form, and each of them end to end through the smoke profile; a table of one's own."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mmutils import data, runs
from mmutils.training.languages import NAMES

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(path for path in ROOT.glob("*/*.ipynb") if path.parent.name != "outputs")
SECTIONS = ["Setup", "Parameters", "Data", "Method", "Training", "Evaluation", "Record"]


def cells(path: Path, kind: str) -> list[dict]:
    every = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in every if cell["cell_type"] == kind]


def lines(cell: dict) -> list[str]:
    return [line for line in cell["source"].splitlines() if line.strip()]


def forbidden(cell: ast.Module) -> list[str]:
    """Definitions, lambdas with a name, and comprehensions inside comprehensions of a cell."""
    comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    found = []
    for node in ast.walk(cell):
        named = isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
        nested = isinstance(node, comprehensions) and sum(isinstance(n, comprehensions) for n in ast.walk(node)) > 1
        if named or nested or isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form(path: Path) -> None:
    """Cleared, thin, one parameters cell, the same sections in the same order, badge and setup as everywhere."""
    code, prose = cells(path, "code"), cells(path, "markdown")
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "clear the outputs"
    tags = [cell["metadata"].get("tags") for cell in code]
    assert tags.count(["parameters"]) == 1
    begin = f'run = runs.begin("{path.relative_to(ROOT).as_posix()}", globals())'
    assert code[tags.index(["parameters"]) + 1]["source"].startswith(begin), "parameters are checked before all else"
    for cell in code:
        tagged = bool(cell["metadata"].get("tags"))  # of parameters there can be only one cell, a line for each
        assert tagged or len(lines(cell)) <= 15, "split the cell"
        source = re.sub(r"^(\s*)[!%].*", r"\1pass", cell["source"], flags=re.M)
        assert not forbidden(ast.parse(source)), f"belongs into mmutils: {forbidden(ast.parse(source))}"
    assert sum(len(lines(cell)) for cell in code) <= 90, "at most 90 lines of code"
    headings = [line[3:] for cell in prose for line in cell["source"].splitlines() if line.startswith("## ")]
    assert headings == SECTIONS
    assert f"blob/main/{path.relative_to(ROOT).as_posix()})" in prose[0]["source"], "badge of another notebook"
    assert code[0]["source"] == cells(NOTEBOOKS[0], "code")[0]["source"], "the setup cell is the same in all notebooks"


@pytest.mark.timeout(900)
def test_smoke_profile(tmp_path: Path) -> None:
    """Every notebook runs, leaves an honest record, and the report is rendered; a second call has nothing to do."""
    command = [sys.executable, "-m", "mmutils.reproduce", "--profile", "smoke", "--out", str(tmp_path)]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    records = runs.load_records(tmp_path / "runs")
    assert {record["notebook"] for record in records} == {path.relative_to(ROOT).as_posix() for path in NOTEBOOKS}
    assert all(record["status"] == "ok" for record in records)
    assert (tmp_path / "report.html").stat().st_size > 50_000
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    second = subprocess.run([*command, "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(line.split()[1] == "fresh" for line in second.stdout.splitlines()), second.stdout


@pytest.mark.timeout(900)
def test_a_table_of_ones_own(tmp_path: Path) -> None:
    """Three classes, two languages, no split: a grid runs on it, the report speaks of it, its classifier answers."""
    english, hindi = (data.subset(data.examples("emoji_topics", None, "train", language=code), 84) for code in NAMES)
    posts = english[["image", "label"]].assign(text_en=english["text"], text_hi=hindi["text"])
    posts = posts[posts["label"] < 3]
    (tmp_path / "img").mkdir()
    for path in posts["image"]:
        shutil.copy(path, tmp_path / "img")
    posts["image"], posts["label"] = (
        "img/" + posts["image"].map(os.path.basename),
        posts["label"].map("abc".__getitem__),
    )
    posts.to_csv(tmp_path / "posts.csv", index=False)
    shared = {"data": "table", "root": str(tmp_path / "posts.csv"), "seeds": [0, 1], "epochs": 1}
    starts = {"both": ["tf_efficientnet_lite0", "intfloat/multilingual-e5-small"]}
    finetuning = {"name": "posts", "notebook": "Finetuning/Finetuning.ipynb", "study": "memes"}
    entries = [finetuning | {"parameters": {"starts": starts}}, {"name": "gap", "notebook": "notebooks/the_gap.ipynb"}]
    grid = {"profiles": {"own": {"jobs": 2, "defaults": {"parameters": shared}, "runs": entries}}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    command = [sys.executable, "-m", "mmutils.reproduce", "--profile", "own", "--experiments", tmp_path / "grid.yaml"]
    done = subprocess.run([*command, "--out", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for record in runs.load_records(tmp_path / "runs"):
        split = pd.read_csv(tmp_path / "runs" / record["run"] / "split.csv")
        assert record["classes"] == ["a", "b", "c"] and len(split) == len(posts)
        assert split["split"].value_counts().to_dict() == record["data"]["splits"]
    report = (tmp_path / "report.md").read_text()
    assert (
        "On your own table (posts)** (" in report
        and "trained to tell a, b and c apart" in report
        and "On your own table (gap)**" in report
    )
    posts.rename(columns={"text_en": "text"}).drop(columns="text_hi").head(9).to_csv(tmp_path / "new.csv", index=False)
    command = [sys.executable, "-m", "mmutils.predict", tmp_path / "runs" / "posts", "--table", tmp_path / "new.csv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "9 posts with a label and an answer" in done.stdout, done.stdout + done.stderr
