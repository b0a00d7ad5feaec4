"""Data sets: one module each, found by its name; and what all of them share.

A *dataset module* is a file in this folder that defines `CLASSES` (a tuple of names) and
`examples(root, split, **options) -> DataFrame` at its top level; the other files here are helpers and are not listed.
The table has the columns id, group, image, text, label (see `check`) and whatever else the module adds. A
root is `root=None` where the data is built in. Optional: `files(root) -> list of paths`, everything that the examples
depend on, for `fingerprint`.

To add a data set, add a file. Nothing here imports torch.
"""

import ast
import hashlib
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pandas as pd

SPLITS = ("train", "val", "test")
COLUMNS = ("id", "group", "image", "text", "label")


def names() -> list[str]:
    """The names of all data sets, read from the files without importing them."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if _is_dataset(path))


def load(name: str) -> ModuleType:
    """The dataset module of that name. ValueError that lists the names, if there is none."""
    if name not in names():
        raise ValueError(f"unknown data set {name!r}: there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def takes(name: str) -> list[str]:
    """Names of the options that a data set's `examples` takes besides root and split."""
    given = inspect.signature(load(name).examples).parameters
    return [option for option in given if option not in ("root", "split", "task", "classes")]


def tables(name: str, root=None, limit: int = 0, language: str = "", **options) -> dict[str, pd.DataFrame]:
    """The table of examples of each split, of at most `limit` examples each (see `few`).

    language: "" where the data has only one; options: what else its `examples` takes. ValueError for an option that it
    does not take, FileNotFoundError where it needs a root and has none.
    """
    module, known = load(name), takes(name)
    options |= {"language": language} if language else {}
    if unknown := sorted(set(options) - set(known)):
        hint = '; give language="" where a data set has only one' if "language" in unknown else ""
        raise ValueError(f"{name} has no {', '.join(unknown)}: its options are {', '.join(known) or 'none'}{hint}")
    require_root(name, root)
    return {split: few(module.examples(root or None, split, **options), limit) for split in SPLITS}


def require_root(name: str, root) -> None:
    """FileNotFoundError where a data set is not built in and no root is given."""
    if not root and inspect.signature(load(name).examples).parameters["root"].default is inspect.Parameter.empty:
        raise FileNotFoundError(f"{name} is not built in: give its folder or archive as root")


def check(examples: pd.DataFrame, classes) -> pd.DataFrame:
    """The table itself, if it keeps the contract; otherwise a ValueError that says what is wrong in which rows.

    id: string, unique. group: string, not empty; it ties rows that must not be split or resampled apart. image: path of
    a picture, or None. text: string. label: 0..K-1 as in `classes`, or -1 for unknown. Index: 0..N-1. Whether the
    pictures can be read is not looked at (see `mmutils.data.audit`).
    """
    missing = [column for column in COLUMNS if column not in examples]
    if missing:
        raise ValueError(f"the table of examples lacks {', '.join(missing)}; it has {', '.join(map(str, examples))}")
    if not examples.index.equals(pd.RangeIndex(len(examples))):
        raise ValueError("the index of the examples is not 0..N-1: end with .reset_index(drop=True)")
    if not len(examples):
        raise ValueError("the table of examples is empty")
    string = {column: examples[column].map(lambda value: isinstance(value, str)) for column in COLUMNS}
    for column in ("id", "group", "text"):
        _refuse(examples, ~string[column], f"{column} is not a string")
    _refuse(examples, (examples["id"] == "") | (examples["group"] == ""), "id or group is empty")
    _refuse(examples, ~string["image"] & examples["image"].notna(), "image is neither a path as a string nor None")
    _refuse(examples, examples["id"].duplicated(keep=False), "id occurs more than once")
    unknown = ~examples["label"].isin(range(-1, len(classes)))
    _refuse(examples, unknown, f"label is not in -1..{len(classes) - 1}")
    return examples


def few(examples: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` of the examples, the classes taken in turn, in their old order; all of them for 0."""
    if limit < 0:
        raise ValueError(f"limit={limit}: give a number of examples, or 0 for all")
    turn = examples.groupby("label").cumcount().sort_values(kind="stable")
    return examples.loc[sorted(turn.index[: limit or None])].reset_index(drop=True)


def fingerprint(name: str, root=None) -> str:
    """sha256 of what a data set's examples depend on: the files its module lists, or else the tables of its splits.

    Where the files lie does not matter, what is in them does. FileNotFoundError for a listed file that is not there.
    """
    module, digest = load(name), hashlib.sha256(name.encode())
    if hasattr(module, "files"):
        for path in map(Path, module.files(root)):
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    else:
        for split in SPLITS:
            rows = module.examples(root, split).assign(image=lambda table: table["image"].map(_file_name))
            digest.update(rows.loc[:, list(COLUMNS)].to_json(orient="values").encode())
    return digest.hexdigest()


def describe(name: str, root, tables: dict[str, pd.DataFrame], language: str | None = None) -> dict:
    """What a record says of a run's data: name, language, fingerprint, examples by split, whether it is built in."""
    return {
        "name": name,
        "language": language,
        "fingerprint": fingerprint(name, root or None),
        "splits": {split: len(table) for split, table in tables.items()},
        "built_in": not root,
    }


def _refuse(examples: pd.DataFrame, wrong: pd.Series, problem: str) -> None:
    """ValueError with the first three rows at fault, if there are any."""
    rows = examples[wrong]
    if len(rows):
        shown = "; ".join(f"row {row.Index}: id {row.id!r}, label {row.label!r}" for row in rows[:3].itertuples())
        raise ValueError(f"{len(rows)} of {len(examples)} examples: {problem} ({shown})")


def _file_name(path) -> str | None:
    return Path(path).name if isinstance(path, str) else None


def _is_dataset(path: Path) -> bool:
    """Whether a file defines CLASSES and examples at its top level."""
    defined = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined.update(target.id for target in targets if isinstance(target, ast.Name))
    return {"CLASSES", "examples"} <= defined
