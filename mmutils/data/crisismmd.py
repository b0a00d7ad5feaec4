"""CrisisMMD v2.0: tweets with pictures from seven disasters of 2017, humanitarian task, five classes.

Alam, Ofli, Imran 2018, https://arxiv.org/abs/1805.00713; splits and classes: Ofli, Alam, Imran 2020,
https://arxiv.org/abs/2004.11838. A tweet has up to four pictures, a row each: id is that of
the picture, group that of the tweet. In "agreed" picture and text were given the same label; the labels are merged into
five classes. Files are read without quoting: 39 texts of train begin with a quotation mark.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from mmutils.data import SPLITS, check, inside
from mmutils.data.tools import reading
from mmutils.data.tools.archive import beside, folder
from mmutils.data.tools.reading import check_choice

CLASSES = (
    "affected_individuals",
    "infrastructure_and_utility_damage",
    "not_humanitarian",
    "other_relevant_information",
    "rescue_volunteering_or_donation_effort",
)
MERGED = {
    "vehicle_damage": "infrastructure_and_utility_damage",
    "injured_or_dead_people": "affected_individuals",
    "missing_or_found_people": "affected_individuals",
}
# examples of each class, by `source`; there are no published numbers of "all"
OFFICIAL = {"train": (71, 612, 3252, 1279, 912), "val": (9, 80, 521, 239, 149), "test": (9, 81, 504, 235, 126)}
LICENCE = "CrisisMMD is under CC BY-NC-SA 4.0 (attribution, not commercial, share alike)"
WHERE = "https://crisisnlp.qcri.org/crisismmd"
FILES = {"agreed": "task_{}_text_img_agreed_lab_{}.tsv", "all": "task_{}_text_img_{}.tsv"}  # of a task and a split
COLUMNS = ("event_name", "tweet_id", "image_id", "tweet_text", "image", "label_text", "label_image")


def read_task(
    task: str,
    classes: tuple[str, ...],
    root,
    split: str,
    language: str = "en",
    which: str = "agreed",
    target: str = "text",
    missing: str = "error",
    repair: bool = False,
    translations: str | None = None,
) -> pd.DataFrame:
    """Table of examples in the order of the file; further columns: event, source, and with `repair` repaired (bool).

    Args:
        task, classes: "humanitarian" or "informative", and its classes, which `examples` fixes.
        root: the folder of the data set, an archive of it, or the folder of the TSV files alone.
        which: "agreed" or "all"; target: whose label, "text" or "image", which differ in "all" only.
        missing: "error", "drop" or "none" for a row without its picture (see `settle_missing`).
        repair: whether ftfy mends broken encodings.
        translations: for a language but "en", TSV with columns id (tweet), text; default: translations/<language>.tsv.
    """
    check_choice("split", split, SPLITS)
    check_choice("which", which, tuple(FILES))
    check_choice("target", target, ("text", "image"))
    home, name = folder(root), FILES[which].format(task, "dev" if split == "val" else split)
    path = _find(home, name)
    if path is None:
        hint = "Give CrisisMMD v2.0 with its split folders (as crisismmd_datasplit_all) as root"
        raise FileNotFoundError(f"no {name} in {home!r} or below it. {hint}; {WHERE}")
    rows = reading.tsv(path, COLUMNS)
    labels = rows[f"label_{target}"].replace(MERGED)
    if len(unknown := labels[~labels.isin(classes)]):
        shown = ", ".join(f"{name!r} in line {number}" for number, name in unknown.head(3).items())
        problem = f"{path}: unknown labels in {len(unknown)} of {len(rows)} rows"
        raise ValueError(f"{problem} ({shown}); there are {', '.join(classes)}")
    candidates = (Path(home), Path(home, "CrisisMMD_v2.0"), Path(home).parent)  # as the archive unpacks
    pictures = next((candidate for candidate in candidates if (candidate / "data_image").is_dir()), home)
    names = {"image_id": "id", "tweet_id": "group", "image": "image", "tweet_text": "text", "event_name": "event"}
    table = rows[list(names)].rename(columns=names)
    table["image"] = [inside(pictures, name, f"{path}, line {line}") for line, name in rows["image"].items()]
    table.insert(4, "label", labels.map(classes.index))
    table["source"] = split if which == "agreed" else which
    if repair:
        import ftfy

        table["text"] = rows["tweet_text"].map(ftfy.fix_text)
        table["repaired"] = table["text"] != rows["tweet_text"]
    if language != "en":
        file = Path(translations or beside(root) / "translations" / f"{language}.tsv")
        name = "crisismmd" if task == "humanitarian" else f"crisismmd_{task}"
        command = f"python -m mmutils.translate {name} --root {root} --to {file.stem}"
        table["text"] = _translated(table["group"], file, command)
    table = reading.settle_missing(table, missing, path, f"Unpack CrisisMMD_v2.0.tar.gz into {home} (from {WHERE})")
    return check(table, classes, str(path))


examples = partial(read_task, "humanitarian", CLASSES)


def files(root, task: str = "humanitarian") -> list[Path]:
    """The split files and translations that are there; the pictures are too many."""
    home = folder(root)
    paths = [_find(home, name.format(task, split)) for name in FILES.values() for split in ("train", "dev", "test")]
    translations = sorted((beside(root) / "translations").glob("*.tsv")) if root else []
    return [path for path in paths if path] + translations


def human_translations(folder) -> dict[str, str]:
    """Tweet id -> Hindi from hindi_translation.txt and tweet_ids.txt of Verma et al. 2022: the first 98 of 202 ids."""
    ids = reading.text(Path(folder, "tweet_ids.txt")).split()
    texts = reading.text(Path(folder, "hindi_translation.txt")).strip("\n").split("\n")
    if len(texts) > len(ids) or not all(text.strip() for text in texts):
        raise ValueError(f"{folder}: {len(texts)} translations, empty ones among them or more than the {len(ids)} ids")
    return dict(zip(ids, (text.strip() for text in texts), strict=False))


def _find(home, name: str) -> Path | None:
    """The file of that name in the folder or below it, the shallowest."""
    return min(Path(home).rglob(name), key=lambda path: (len(path.parts), path), default=None) if home else None


def _translated(ids: pd.Series, path: Path, command: str) -> pd.Series:
    if not path.is_file():
        raise FileNotFoundError(f"no translations {path}: `{command}` makes them from the English texts")
    rows = reading.tsv(path, ("id", "text"))
    wrong = rows["id"].duplicated() | (rows["text"].str.strip() == "")
    if wrong.any():
        raise ValueError(f"{path}, line {rows.index[wrong][0]}: needs each id once and no text empty")
    texts = ids.map(rows.set_index("id")["text"])
    if len(lacking := ids[texts.isna()]):
        problem = f"{path} has no translation of {len(lacking)} rows, such as tweet {lacking.iloc[0]}"
        raise ValueError(f"{problem}: delete it, and `{command}` translates all")
    return texts
