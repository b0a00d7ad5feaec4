"""Executed notebooks for readers: one of each kind, without what only the machine that ran it knows."""

import base64
import io
import json
import os
import platform
import re
from pathlib import Path

from PIL import Image

from mmutils import runs as records
from mmutils.reproduce.experiments import Run
from mmutils.runs.files import write
from mmutils.runs.fingerprints import ROOT, digest, notebook_code

MOST_BYTES = 1_000_000
LINK = re.compile(r"(?<=\]\()(?!\w+:|[#/])[^)\s]+")  # a relative one in Markdown
_PATHS = re.compile(r"(?<![\w.:/<])/(?:[\w.@+-]+/)+(?=[\w.@+-])")  # absolute ones, up to their last part


def publish(runs: list[Run], out: Path) -> list[str]:
    """Copies the executed notebook of the first run of each notebook on built-in data from out/runs to out/notebooks.

    Runs on other data show its texts and pictures, which are not ours to publish. Returns what is left out, and why:
    copies of runs that failed or were stopped, too. A published copy stays where a run has left none, as in a clone.
    """
    left_out, first = [], {run.notebook: run for run in reversed(runs) if not run.parameters.get("root")}
    for notebook, run in sorted(first.items()):
        executed = out / "runs" / run.name / Path(notebook).name
        if executed.is_file():
            try:
                write(out / "notebooks" / executed.name, _published(executed))
            except Exception as error:  # of any kind: the copy may be damaged
                left_out.append(f"{executed.name}: {error}")
    return left_out


def _published(executed: Path) -> bytes:
    """The executed notebook in a run's folder as it is published; ValueError where it may not be."""
    record, content = records.load_record(executed.parent), json.loads(executed.read_text(encoding="utf-8"))
    whole = content["metadata"].get("papermill", {}).get("end_time") is not None
    if not whole or record["status"] != "ok" or record["fingerprints"]["notebook"] != digest(notebook_code(executed)):
        raise ValueError(f"{executed} is not what the record beside it is of, or did not come to its end: run it again")
    relink(content, (ROOT / record["notebook"]).parent, executed.parents[2] / "notebooks")
    content = cleaned(content).encode()
    if len(content) > MOST_BYTES:
        raise ValueError(f"{len(content):,} bytes, at most are {MOST_BYTES:,}")
    return content


def relink(notebook: dict, home: Path, place: Path) -> None:
    """Let the relative links in its prose, which lead from the folder `home`, lead from `place` to the same files."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = LINK.sub(
                lambda link: Path(os.path.relpath(home / link[0], place)).as_posix(), "".join(cell["source"])
            )
            cell["source"] = text.splitlines(keepends=True)


def cleaned(notebook: dict) -> str:
    """Its JSON without the state of widgets, times, absolute paths and the machine's name; pictures in 256 colours."""
    kept = {key: value for key, value in notebook["metadata"].items() if key in ("kernelspec", "language_info")}
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": tags} if tags else {}
        if "injected-parameters" in tags:
            cell["source"] = _plain(cell["source"])
        if "outputs" in cell:
            shown = [out for out in cell["outputs"] if not any("widget" in kind for kind in out.get("data", ()))]
            cell["outputs"] = _plain(shown)
    return json.dumps(notebook | {"metadata": kept}, indent=1, ensure_ascii=False) + "\n"


def _plain(value, kind: str = ""):
    """The same value with shorter texts and smaller pictures."""
    if isinstance(value, dict):
        return {key: _plain(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part, kind) for part in value]
    if not isinstance(value, str) or (kind.startswith("image/") and kind != "image/png"):
        return value
    if kind != "image/png":
        text = value.replace(f"{ROOT}/", "").replace(str(ROOT), ".").replace(platform.node() or "\0", "machine")
        return _PATHS.sub("", text)
    picture, small = Image.open(io.BytesIO(base64.b64decode(value))), io.BytesIO()
    picture.convert("RGBA").quantize(256, method=Image.Quantize.FASTOCTREE).save(small, "PNG", optimize=True)
    return min(value, base64.b64encode(small.getvalue()).decode(), key=len)
