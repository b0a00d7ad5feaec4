"""What a run depends on, as hashes: parameters, notebook code, the package code it reaches, and data.

A run is worth repeating when one of these changed, and only then. So comments, docstrings and blank lines do not count,
nor do modules that only draw, record or run (`DO_NOT_COUNT`). Code is found by reading imports with ast, not by
importing it: that takes milliseconds and needs no torch.

A process computes with the code as it was when it imported it. So a record takes its hashes from `IMPORTED`, the texts
of the files at that time; whether it is stale is asked of the `DISK`.
"""

import ast
import functools
import hashlib
import io
import json
import os
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmutils.runs.parameters import all_typed

ROOT = Path(__file__).resolve().parents[2]  # repository root: notebooks and `mmutils` are found from here
PACKAGE = "mmutils"
LOCATIONS = ("out", "root")  # parameters that say where, not what: they differ between machines, the results do not
DO_NOT_COUNT = {f"{PACKAGE}.{name}" for name in ("runs", "report", "reproduce")}
ALWAYS = (f"{PACKAGE}.evaluation.metrics",)  # the scores of a record are computed by it
FOUND_BY_NAME = (f"{PACKAGE}.data", f"{PACKAGE}.methods")  # load("x") is an import of x that ast cannot see


class Disk:
    """Texts of the files below a repository's root, as they are now."""

    def __init__(self, root: Path = ROOT):
        self.root = root

    def text(self, path: str | Path) -> str | None:
        """Text of a file, given by its path from the root; None where there is none."""
        path = self.root / path
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


class Snapshot(Disk):
    """Texts of the package and of the notebooks as they were when this was made.

    A file that was not there then, such as a notebook that lies elsewhere, is read once, when it is first asked for;
    one of the package stays absent.
    """

    def __init__(self, root: Path = ROOT):
        super().__init__(root)
        self.package = os.path.join(os.path.normpath(root), PACKAGE, "")
        paths = [path for pattern in (f"{PACKAGE}/**/*.py", "*.ipynb", "*/*.ipynb") for path in root.glob(pattern)]
        self.texts = {os.path.normpath(path): Disk.text(self, path) for path in paths}

    def text(self, path: str | Path) -> str | None:
        """Text of a file, given by its path from the root, as it was; None where there was none."""
        path = os.path.normpath(self.root / path)
        if path not in self.texts and not path.startswith(self.package):
            self.texts[path] = super().text(path)
        return self.texts.get(path)


DISK, IMPORTED = Disk(), Snapshot()


def digest(value: Any) -> str:
    """First 16 hex digits of the sha256 of bytes, of a text, or of anything JSON can hold."""
    if not isinstance(value, bytes):
        value = (value if isinstance(value, str) else json.dumps(value, sort_keys=True)).encode()
    return hashlib.sha256(value).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """`digest` of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def code_cells(notebook: str | Path, files: Disk = DISK) -> list[tuple[bool, str]]:
    """(is it the cell tagged `parameters`, its Python code) for each code cell; shell and magic lines become `pass`.

    The values that papermill has put into an executed copy are left out. FileNotFoundError: no such notebook.
    """
    text = files.text(notebook)
    if text is None:
        raise FileNotFoundError(f"no notebook {files.root / notebook}: give its path from the root, {files.root}")
    try:
        cells = json.loads(text)["cells"]
        every = [("".join(c["source"]), c.get("metadata", {}).get("tags", ())) for c in cells if _is_python(c)]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{notebook} is no notebook: {error!r}") from None
    return [("parameters" in tags, _plain(code)) for code, tags in every if "injected-parameters" not in tags]


def _is_python(cell: dict) -> bool:
    return cell["cell_type"] == "code" and not "".join(cell["source"]).startswith("%%")


def _plain(source: str) -> str:
    lines = source.split("\n")
    return "\n".join(
        line[: len(line) - len(line.lstrip())] + "pass" if line.lstrip().startswith(("%", "!")) else line
        for line in lines
    )


def defaults(notebook: str | Path, files: Disk = DISK) -> dict[str, tuple[Any, str | None]]:
    """Name -> (default, annotation or None) of each parameter, from the one cell tagged `parameters`.

    As papermill.inspect_notebook lists them, but with values, and over several lines too. ValueError: no such cell or
    more than one, or a default that is not a plain literal (papermill replaces one name at a time: nothing may be
    derived there).
    """
    cells = [source for tagged, source in code_cells(notebook, files) if tagged]
    if len(cells) != 1:
        raise ValueError(f"{notebook} needs exactly one cell tagged 'parameters', it has {len(cells)}")
    declared = {}
    for node in ast.parse(cells[0]).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name):
            continue
        try:
            value = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"{notebook}: parameter {target.id!r} must be a plain literal, as 3 or 'en'") from None
        declared[target.id] = value, ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else None
    return declared


def planned(notebook: str | Path, parameters: dict, files: Disk = DISK) -> dict[str, Any]:
    """Values of all parameters of a notebook that is run with these: the defaults, some replaced, in their types."""
    declared = defaults(notebook, files)
    values = {name: value for name, (value, _) in declared.items()} | parameters
    unknown = {name: value for name, value in parameters.items() if name not in declared}  # an older notebook's
    return all_typed({name: value for name, value in values.items() if name in declared}, declared) | unknown


@functools.cache  # a profile's runs share most of the package
def significant(source: str) -> str:
    """The source without comments, docstrings and blank lines: equal for two files that do the same line by line."""
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            is_text = isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str)
            if is_text and not lines[first.lineno - 1][: first.col_offset].strip():
                lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def notebook_code(notebook: str | Path, files: Disk = DISK) -> str:
    """What counts of a notebook's code: all but the defaults of its parameters, which a run may replace."""
    return significant("\n".join(source for tagged, source in code_cells(notebook, files) if not tagged))


def code_files(notebook: str | Path, parameters: dict, files: Disk = DISK) -> dict[str, str]:
    """Path from the root -> digest of what counts, for each package module that a run of the notebook reaches.

    These are the modules it imports, directly or not, and those that the parameters and texts in the notebook name.
    """
    code = notebook_code(notebook, files)
    names = {*_imports(code, ""), *ALWAYS}
    constants = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    words = {*_texts(parameters), *_texts(constants)}
    seen, digests = set(), {}
    while names:
        name = names.pop()
        path, source = _module(name, files)
        if name in seen or source is None or any(name == m or name.startswith(m + ".") for m in DO_NOT_COUNT):
            continue
        seen.add(name)
        parent = name.rpartition(".")[0]
        names.add(parent)
        try:
            names |= _imports(source, name if path.endswith("__init__.py") else parent)
            digests[path] = digest(significant(source))
        except (SyntaxError, tokenize.TokenError):  # being edited: it counts as it stands, and Python will name it
            digests[path] = digest(source)
        if name in FOUND_BY_NAME:
            names |= {f"{name}.{word.lower()}" for word in words if word.isidentifier()}
    return dict(sorted(digests.items()))


def _module(name: str, files: Disk) -> tuple[str, str | None]:
    """Path and source of a module; the source is None where there is no such file in the repository."""
    stem = name.replace(".", "/")
    for path in (f"{stem}.py", f"{stem}/__init__.py"):
        if (source := files.text(path)) is not None:
            return path, source
    return stem, None


@functools.cache
def _imports(source: str, package: str) -> frozenset[str]:
    """Dotted names that may be package modules in the imports of a source that lies in `package`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name == PACKAGE or name.startswith(PACKAGE + "."))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def plain_parameters(parameters: dict) -> dict:
    """The parameters that say what, as JSON reads them back: without `LOCATIONS`, tuples as lists."""
    return json.loads(json.dumps({name: value for name, value in parameters.items() if name not in LOCATIONS}))
