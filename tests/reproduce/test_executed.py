"""Executed notebooks for readers: nothing of the machine, no widgets, at most 1 MB."""

import base64
import io
import platform

import nbformat
import numpy as np
import pytest
from PIL import Image

from mmutils import runs as records
from mmutils.reproduce import notebooks
from mmutils.reproduce.experiments import Run
from mmutils.runs.fingerprints import ROOT


def _png(side: int) -> str:
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _write(folder, name, side=40):
    """An executed notebook as papermill leaves it, beside its record."""
    injected = nbformat.v4.new_code_cell(f"out = '{ROOT}/report/runs/a'\nroot = '/data/mine'  # see https://a.b/c/d")
    injected["metadata"] |= {"tags": ["injected-parameters"], "papermill": {"duration": 1}}
    cell = nbformat.v4.new_code_cell("draw()")
    text = f"/opt/kernels/2.py:1: on {platform.node()}, {ROOT}/mmutils/data and 3/4 of a/b"
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "0 %"}
    cell["outputs"] = [nbformat.v4.new_output("stream", text=text), nbformat.v4.new_output("display_data", view)]
    cell["outputs"].append(nbformat.v4.new_output("display_data", {"image/png": _png(side), "text/plain": "<Figure>"}))
    prose = nbformat.v4.new_markdown_cell("[a](../x.md#b), [c](https://d.e/f),\n[g](#h), [B](B.ipynb)")
    notebook = nbformat.v4.new_notebook(cells=[injected, cell, prose])
    notebook["metadata"] |= {"widgets": {"state": {}}, "papermill": {"output_path": str(folder), "end_time": "2026"}}
    copy = folder / "runs" / name / "A.ipynb"
    copy.parent.mkdir(parents=True)
    nbformat.write(notebook, copy)
    data = {"name": "toy", "fingerprint": "f", "splits": {}, "built_in": True}
    entries = {"study": "crisis", "data": data, "classes": [], "systems": [], "history": [], "predictions": None}
    records.save_record(copy.parent, notebook=str(copy), parameters={}, **entries)
    return copy


def test_the_first_run_of_a_notebook_is_published_without_the_machine(tmp_path):
    _write(tmp_path, "first")
    _write(tmp_path, "second", side=10)
    _write(tmp_path, "own")
    runs = [Run("own", "A/A.ipynb", parameters={"root": "memes"})]  # shows data that is not ours
    assert notebooks.publish(runs, tmp_path) == [] and not (tmp_path / "notebooks").exists()
    runs += [Run(name, "A/A.ipynb") for name in ("first", "second")]
    assert notebooks.publish(runs, tmp_path) == []
    text = (tmp_path / "notebooks" / "A.ipynb").read_text(encoding="utf-8")
    content = nbformat.reads(text, as_version=4)
    nbformat.validate(content)
    assert not {"widgets", "papermill"} & {*content["metadata"], *content.cells[0]["metadata"]}
    assert content.cells[0]["source"] == "out = 'report/runs/a'\nroot = 'mine'  # see https://a.b/c/d"
    stream, figure = content.cells[1]["outputs"]
    assert stream["text"] == "2.py:1: on machine, mmutils/data and 3/4 of a/b"
    assert Image.open(io.BytesIO(base64.b64decode(figure["data"]["image/png"]))).size == (40, 40)
    linked = "[a](../runs/x.md#b), [c](https://d.e/f),\n[g](#h), [B](../runs/first/B.ipynb)"
    assert content.cells[2]["source"] == linked and str(tmp_path) not in text


def test_what_is_too_large_is_left_out(tmp_path):
    _write(tmp_path, "first", side=1200)
    [reason] = notebooks.publish([Run("first", "A/A.ipynb")], tmp_path)
    assert reason.startswith("A.ipynb: ")
    assert not (tmp_path / "notebooks").exists()


@pytest.mark.parametrize("change", ["failed", "stopped", "other code", "cut", "empty"])
def test_what_is_not_the_run_of_the_record_is_left_out_and_named(tmp_path, change):
    copy = _write(tmp_path, "first")
    text = copy.read_text(encoding="utf-8")
    if change == "failed":
        records.save_failure(copy.parent, "out of memory", notebook=str(copy), parameters={})
    changes = {"stopped": text.replace('"2026"', "null"), "other code": text.replace("draw()", "paint()")}
    copy.write_text((changes | {"failed": text, "cut": text[:99], "empty": ""})[change], encoding="utf-8")
    [reason] = notebooks.publish([Run("first", "A/A.ipynb")], tmp_path)
    assert reason.startswith("A.ipynb: ")
    assert not (tmp_path / "notebooks").exists()


def test_relative_links_lead_to_files():
    dead, notebooks_of = (
        [],
        [path for path in ROOT.glob("**/*.ipynb") if not {".venv", "outputs", "runs"} & {*path.parts}],
    )
    pages = [ROOT / name for name in ("README.md", "notebooks/README.md", "report/report.md")]
    for path in notebooks_of + pages:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = "\n".join(cell.source for cell in nbformat.reads(text, 4).cells if cell.cell_type == "markdown")
        dead += [
            (path, link) for link in notebooks.LINK.findall(text) if not (path.parent / link.split("#")[0]).exists()
        ]
    assert not dead
