"""What a run depends on, as hashes: parameters, notebook code, the package code it reaches, and data.

A run is worth repeating when one of these changed, and only then. So comments, docstrings and blank lines do not count,
nor do modules that only draw, record or run (`DO_NOT_COUNT`). Code is found by reading imports with ast, not by
importing it: that takes milliseconds and needs no torch.
"""

import ast
import functools
import hashlib
import io
import json
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]  # repository root: notebooks and `mmutils` are found from here
PACKAGE = "mmutils"
LOCATIONS = ("out", "root")  # parameters that say where, not what: they differ between machines, the results do not
DO_NOT_COUNT = {
    f"{PACKAGE}.{name}" for name in ("plots", "report", "reproduce", "execute", "runs", "storage", "fingerprints")
}
ALWAYS = (f"{PACKAGE}.metrics",)  # the scores of a record are computed by it
FOUND_BY_NAME = (f"{PACKAGE}.data", f"{PACKAGE}.methods")  # load("x") is an import of x that ast cannot see


def digest(value: Any) -> str:
    """First 16 hex digits of the sha256 of bytes, of a text, or of anything JSON can hold."""
    if not isinstance(value, bytes):
        value = (value if isinstance(value, str) else json.dumps(value, sort_keys=True)).encode()
    return hashlib.sha256(value).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """`digest` of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def locate(notebook: str | Path, root: Path = ROOT) -> Path:
    """Path of a notebook given relative to the repository root; FileNotFoundError when it is not there."""
    path = root / notebook
    if not path.is_file():
        raise FileNotFoundError(f"no notebook {path}: give its path from the repository root, {root}")
    return path


def code_cells(notebook: str | Path, root: Path = ROOT) -> list[tuple[bool, str]]:
    """(is it the cell tagged `parameters`, its Python code) for each code cell; shell and magic lines become `pass`."""
    cells = json.loads(locate(notebook, root).read_text(encoding="utf-8"))["cells"]
    found = []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and not source.startswith("%%"):
            lines = [
                line[: len(line) - len(line.lstrip())] + "pass" if line.lstrip().startswith(("%", "!")) else line
                for line in source.split("\n")
            ]
            found.append(("parameters" in cell.get("metadata", {}).get("tags", ()), "\n".join(lines)))
    return found


def defaults(notebook: str | Path, root: Path = ROOT) -> dict[str, tuple[Any, str | None]]:
    """Name -> (default, annotation or None) of each parameter, from the one cell tagged `parameters`.

    As papermill.inspect_notebook lists them, but with values, and over several lines too. ValueError: no such cell or
    more than one, or a default that is not a plain literal (papermill replaces one name at a time: nothing may be
    derived there).
    """
    cells = [source for tagged, source in code_cells(notebook, root) if tagged]
    if len(cells) != 1:
        raise ValueError(f"{notebook} needs exactly one cell tagged 'parameters', it has {len(cells)}")
    found = {}
    for node in ast.parse(cells[0]).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name):
            continue
        try:
            value = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"{notebook}: parameter {target.id!r} must be a plain literal, as 3 or 'en'") from None
        found[target.id] = value, ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else None
    return found


def planned(notebook: str | Path, parameters: dict, root: Path = ROOT) -> dict[str, Any]:
    """Values of all parameters of a notebook that is run with these: the defaults, some replaced."""
    return {name: value for name, (value, _) in defaults(notebook, root).items()} | parameters


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


def notebook_code(notebook: str | Path, root: Path = ROOT) -> str:
    """What counts of a notebook's code: all but the defaults of its parameters, which a run may replace."""
    return significant("\n".join(source for tagged, source in code_cells(notebook, root) if not tagged))


def modules(notebook: str | Path, parameters: dict, root: Path = ROOT) -> dict[str, Path]:
    """Name -> file of each package module the notebook imports, directly or not, or names for `load` to find."""
    source = notebook_code(notebook, root)
    names = {*_imports(source, ""), *ALWAYS}
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    words = {*_texts(parameters), *_texts(constants)}
    found = {}
    while names:
        name = names.pop()
        path = _module_file(name, root)
        if name in found or path is None or any(name == m or name.startswith(m + ".") for m in DO_NOT_COUNT):
            continue
        found[name] = path
        parent = name.rpartition(".")[0]
        names |= {parent, *_imports(path.read_text(encoding="utf-8"), name if path.stem == "__init__" else parent)}
        if name in FOUND_BY_NAME:
            names |= {f"{name}.{word.lower()}" for word in words if word.isidentifier()}
    return dict(sorted(found.items()))


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


def _module_file(name: str, root: Path) -> Path | None:
    stem = root.joinpath(*name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def code_files(notebook: str | Path, parameters: dict, root: Path = ROOT) -> dict[str, str]:
    """Path from the root -> digest of what counts, for each module of `modules`."""
    found = modules(notebook, parameters, root)
    return {p.relative_to(root).as_posix(): digest(significant(p.read_text(encoding="utf-8"))) for p in found.values()}


def plain_parameters(parameters: dict) -> dict:
    """The parameters that say what, as JSON reads them back: without `LOCATIONS`, tuples as lists."""
    return json.loads(json.dumps({name: value for name, value in parameters.items() if name not in LOCATIONS}))
