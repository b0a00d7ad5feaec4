"""What a run depends on, as hashes: its parameters, the code of its notebook, and the package code that this reaches.

A run is repeated when one of these has changed. Comments, docstrings and blank lines do not count, nor do the rooms
that only draw, record or run. A process computes with the code as it was when it imported it, so a record takes its
hashes from `IMPORTED`, the texts of the files at that time; whether it is stale is decided by the `DISK`.
"""

import ast
import functools
import hashlib
import io
import json
import re
import tokenize
from pathlib import Path
from typing import Any

from mmutils.runs.parameters import all_typed

ROOT = Path(__file__).resolve().parents[2]  # repository root: notebooks and `mmutils` are found from here
PACKAGE = "mmutils"
LOCATIONS = ("out", "root", "translated")  # parameters that say where, not what; what lies there has its own hashes
DO_NOT_COUNT = {f"{PACKAGE}.{room}" for room in ("runs", "report", "reproduce")}  # they only record, draw or run
ALWAYS = (f"{PACKAGE}.statistics.scores",)  # computes the scores of every record
FOUND_BY_NAME = (f"{PACKAGE}.data", f"{PACKAGE}.methods")  # dataset("x") is an import of x that ast cannot see
MAGIC = re.compile(r"(?m)^([^\S\n]*)[%!].*")  # lines of IPython, not of Python


class Disk:
    """Texts of the files below a repository's root, as they are now."""

    def __init__(self, root: Path = ROOT):
        self.root = root

    def text(self, path: str | Path) -> str | None:
        """Text of a file, given by its path from the root; None where there is none."""
        path = self.root / path
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


class Snapshot(Disk):
    """Texts of the package and the notebooks as they were when this was made; of other files, when first read."""

    def __init__(self, root: Path = ROOT):
        super().__init__(root)
        paths = [*root.glob(f"{PACKAGE}/**/*.py"), *root.glob("*.ipynb"), *root.glob("*/*.ipynb")]
        self.texts = {path: super(Snapshot, self).text(path) for path in paths}

    def text(self, path: str | Path) -> str | None:
        path = self.root / path
        if path not in self.texts and not path.is_relative_to(self.root / PACKAGE):
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


def folder_digest(folder: str | Path | None) -> str | None:
    """`digest` of all files in a folder; None where there are none, or no folder is given."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file()) if folder else []
    return digest([file_digest(path) for path in paths]) if paths else None


def code_cells(notebook: str | Path, files: Disk = DISK) -> list[tuple[bool, str]]:
    """(is it tagged `parameters`, code) of each Python cell but papermill's; shell and magic lines become `pass`."""
    text = files.text(notebook)
    if text is None:
        raise FileNotFoundError(f"no notebook {files.root / notebook}: give its path from the root, {files.root}")
    code = []
    try:
        for cell in json.loads(text)["cells"]:
            source, tags = "".join(cell["source"]), cell.get("metadata", {}).get("tags", ())
            if cell["cell_type"] == "code" and not source.startswith("%%") and "injected-parameters" not in tags:
                code.append(("parameters" in tags, MAGIC.sub(r"\1pass", source)))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{notebook} is no notebook: {error!r}") from None
    return code


def not_run(notebook: str | Path, history: list[str], begun: int, files: Disk = DISK) -> list[str]:
    """The notebook's cells, without its parameters, that IPython's history lacks, up to the last one that ran.

    Those after the cell that began the run, `history[begun]`, have to be there after it.
    """
    history, missing, start = [MAGIC.sub(r"\1pass", cell).strip() for cell in history], [], 0
    for cell in (source.strip() for is_parameters, source in code_cells(notebook, files) if not is_parameters):
        start = begun if [cell] == history[begun : begun + 1] else start
        missing += [cell] if cell and cell not in history[start:] else []
        if [cell] == history[-1:]:
            break
    return missing


def defaults(notebook: str | Path, files: Disk = DISK) -> dict[str, tuple[Any, str | None]]:
    """Name -> (default, annotation or None) of each parameter; ValueError for defaults that are no plain literals."""
    cells = [source for tagged, source in code_cells(notebook, files) if tagged]
    if len(cells) != 1:
        raise ValueError(f"{notebook} needs exactly one cell tagged 'parameters', it has {len(cells)}")
    declared = {}
    for node in ast.parse(cells[0]).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name):
            annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else None
            try:
                declared[target.id] = ast.literal_eval(node.value), annotation
            except ValueError:  # papermill replaces one name at a time, so nothing may be derived there
                raise ValueError(f"{notebook}: parameter {target.id!r} must be a plain literal, as 3 or 'en'") from None
    return declared


def planned(notebook: str | Path, parameters: dict, files: Disk = DISK) -> dict[str, Any]:
    """Values of all parameters of a notebook that is run with these: the defaults, some replaced, in their types."""
    declared = defaults(notebook, files)
    return all_typed({name: parameters.get(name, default) for name, (default, _) in declared.items()}, declared)


def plain_parameters(parameters: dict) -> dict:
    """The parameters that say what, as JSON reads them back: without `LOCATIONS`, tuples as lists."""
    return json.loads(json.dumps({name: value for name, value in parameters.items() if name not in LOCATIONS}))


@functools.cache  # a profile's runs share most of the package
def significant(source: str) -> str:
    """The source without comments, docstrings and blank lines: equal for two files that do the same line by line."""
    lines = source.split("\n")
    for kind, _, (row, column), _, _ in tokenize.generate_tokens(io.StringIO(source).readline):
        if kind == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            if not lines[text.lineno - 1][: text.col_offset].strip():
                lines[text.lineno - 1 : text.end_lineno] = [""] * (text.end_lineno - text.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def notebook_code(notebook: str | Path, files: Disk = DISK) -> str:
    """What counts of a notebook's code: all but the defaults of its parameters, which a run may replace."""
    return significant("\n".join(source for tagged, source in code_cells(notebook, files) if not tagged))


def code_files(notebook: str | Path, parameters: dict, files: Disk = DISK) -> dict[str, str]:
    """Path from the root -> digest of what counts, for each package module that a run of the notebook reaches.

    These are the modules it imports, directly or not, and those that the parameters and texts in the notebook name.
    """
    code = notebook_code(notebook, files)
    constants = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    words = {word.lower() for word in _texts([constants, parameters]) if word.isidentifier()}
    names, digests = {*_imports(code, ""), *ALWAYS}, {}
    while names:
        name = names.pop()
        paths = (f"{name.replace('.', '/')}{end}" for end in (".py", "/__init__.py"))
        path = next((path for path in paths if files.text(path) is not None), None)
        if path is None or path in digests or ".".join(name.split(".")[:2]) in DO_NOT_COUNT:
            continue
        source, parent = files.text(path), name.rpartition(".")[0]
        names.add(parent)
        try:
            names |= _imports(source, name if path.endswith("__init__.py") else parent)
            digests[path] = digest(significant(source))
        except (SyntaxError, tokenize.TokenError):  # being edited: it counts as it stands, and Python will name it
            digests[path] = digest(source)
        if name in FOUND_BY_NAME:
            names |= {f"{name}.{word}" for word in words}
    return dict(sorted(digests.items()))


@functools.cache
def _imports(source: str, package: str) -> frozenset[str]:
    """Dotted names that may be package modules in the imports of a source that lies in `package`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.split(".")[0] == PACKAGE)


def _texts(value: Any) -> list[str]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [value] if isinstance(value, str) else [text for part in parts for text in _texts(part)]


def of_run(notebook: str, parameters: dict, files: Disk = DISK) -> dict:
    """Hashes of what a run is made of: parameters, translations, notebook, code, and files that count one by one."""
    values, code = plain_parameters(parameters), digest(notebook_code(notebook, files))
    modules, made = code_files(notebook, values, files), {"parameters": digest(values), "notebook": code}
    made["translated"] = folder_digest(parameters.get("translated"))
    return made | {"code": digest([code, modules]), "files": modules}


def changed_files(recorded: dict, notebook: str, parameters: dict, files: Disk = DISK) -> list[str]:
    """The notebook and package files that are not those of recorded fingerprints."""
    try:
        now = of_run(notebook, parameters, files)
    except (FileNotFoundError, ValueError):
        return [notebook]
    changed = {name for name, _ in recorded["files"].items() ^ now["files"].items()}
    return [notebook] * (recorded["notebook"] != now["notebook"]) + sorted(changed)
