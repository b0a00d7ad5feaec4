"""CrisisMMD: made files with the quirks of the real ones, and the real ones where they are there."""

import csv
import os
import shutil
from pathlib import Path

import ftfy
import pandas as pd
import pytest
from PIL import Image

from mmutils import translate
from mmutils.data import crisismmd, crisismmd_informative, fingerprint
from mmutils.data.__main__ import main
from mmutils.data.tools import reading
from mmutils.data.tools.audit import audit_tables

HEADER = "event_name\ttweet_id\timage_id\ttweet_text\timage\tlabel\tlabel_text\tlabel_image\tlabel_text_image"
ROWS = (
    (
        "905952332923338752",
        0,
        '"Quoted" and ""doubled"" https://t.co/x',
        "vehicle_damage",
        "infrastructure_and_utility_damage",
    ),
    ("905952332923338752", 1, '"Quoted" and ""doubled"" https://t.co/x', "not_humanitarian", "not_humanitarian"),
    ("905952332923338753", 0, "California\u00e2\u20ac\u2122s fires", "injured_or_dead_people", "affected_individuals"),
)
REAL = next(
    (
        path
        for path in (
            Path(os.environ.get("MMUTILS_CRISISMMD", "missing")),
            Path(__file__).parents[3] / "shared/data/CrisisMMD_v2.0",
        )
        if path.is_dir()
    ),
    None,
)
real = pytest.mark.skipif(
    REAL is None, reason="the files of CrisisMMD are not here (MMUTILS_CRISISMMD names their folder)"
)


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder as people have it: the split folder twice inside itself."""
    inner = tmp_path / "crisismmd_datasplit_agreed_label" / "crisismmd_datasplit_agreed_label"
    inner.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines = [HEADER]
        for tweet, number, text, label, merged in ROWS:
            picture = f"data_image/hurricane_harvey/8_9_2017/{tweet}_{number}.jpg"
            lines.append(
                "\t".join(
                    ("hurricane_harvey", tweet, f"{tweet}_{number}", text, picture, label, merged, merged, "Positive")
                )
            )
            (tmp_path / picture).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / picture)
        name = f"task_humanitarian_text_img_agreed_lab_{split}.tsv"
        (inner / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_labels_are_merged_texts_keep_their_quotes_and_ids_are_strings(root) -> None:
    table = crisismmd.examples(root, "val")
    assert [crisismmd.CLASSES[k] for k in table["label"]] == [row[-1] for row in ROWS]
    assert table["text"].tolist() == [row[2] for row in ROWS]
    assert table["id"].tolist()[1] == "905952332923338752_1" and table["group"].nunique() == 2
    assert all(Path(path).is_file() for path in table["image"])


def test_broken_encodings_are_repaired_and_counted(root) -> None:
    table = crisismmd.examples(root, "train", repair=True)
    assert table["text"][2] == "California's fires" and table["repaired"].tolist() == [False, False, True]


def test_missing_pictures_are_said_left_out_or_done_without(root) -> None:
    next(root.rglob("905952332923338753_0.jpg")).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 pictures of .*train.tsv are missing, .*52332923338753_0.jpg"):
        crisismmd.examples(root, "train")
    assert len(crisismmd.examples(root, "train", missing="drop")) == 2
    kept = crisismmd.examples(root, "train", missing="none")
    assert len(kept) == 3 and kept["image"].isna().sum() == 1
    assert main(["check", "crisismmd", "--root", str(root)]) == 1


def change(root: Path, old: str, new: str) -> None:
    """Change the file of train, in the second example, which is line 3."""
    path = next(root.rglob("*_train.tsv"))
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[2] = lines[2].replace(old, new)
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("doubled", "a\nnewline", "line 3 is no row of the table: 4 fields, the header has 9"),
        ("doubled", "a\ttab", "line 3 is no row of the table: 10 fields, the header has 9"),
        ("\tPositive", "", "line 3 is no row of the table: 8 fields, the header has 9"),
        ("\tnot_humanitarian", "\t", "unknown labels in 1 of 3 rows \\('' in line 3\\)"),
        ("\tnot_humanitarian", "\tNot_Humanitarian", "'Not_Humanitarian' in line 3"),
        ("doubled", "\udce9", "line 3 is not text in UTF-8"),
        ("data_image", "../data_image", "line 3: the path '../data_image/.*' leads out"),
        ("\t905952332923338752_1\t", "\t905952332923338752_0\t", "2 of 3 examples: id occurs more than once"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(root, old, new, problem) -> None:
    change(root, old, new)
    with pytest.raises(ValueError, match=f"task_humanitarian_text_img_agreed_lab_train.tsv.*{problem}"):
        crisismmd.examples(root, "train")


def test_a_carriage_return_is_the_end_of_a_line_only_before_a_newline(root) -> None:
    expected = crisismmd.examples(root, "train")
    path = next(root.rglob("*_train.tsv"))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(crisismmd.examples(root, "train"), expected)
    change(root, "doubled", "a\rreturn")
    assert crisismmd.examples(root, "train")["text"].tolist()[1].count("a\rreturn") == 1


def test_pictures_belong_to_the_fingerprint(root) -> None:
    before = fingerprint("crisismmd", root)
    moved = root.parent / "moved"
    shutil.copytree(root, moved)
    assert fingerprint("crisismmd", moved) == before
    with next(moved.rglob("*_0.jpg")).open("ab") as file:
        file.write(b"more")
    other = root.parent / "other"
    shutil.copytree(moved, other)
    assert fingerprint("crisismmd", other) != before


@pytest.mark.parametrize(("option", "compared"), [("repair=False", True), ("target=image", True), ("which=all", False)])
def test_only_what_selects_rows_ends_the_comparison_with_official_counts(root, capsys, option, compared) -> None:
    for path in list(root.rglob("*.tsv")):
        shutil.copy(path, path.with_name(path.name.replace("_agreed_lab", "")))
    assert main(["check", "crisismmd", "--root", str(root), "--option", option]) == 1
    assert ("officially 6,126" in capsys.readouterr().out) == compared


def test_hindi_comes_from_a_table_of_translations(root) -> None:
    with pytest.raises(FileNotFoundError, match=r"mmutils.translate"):
        crisismmd.examples(root, "train", language="hi")
    (root / "translations").mkdir()
    lines = ["id\ttext", *(f"{tweet}\tपाठ {tweet[-1]}" for tweet in sorted({row[0] for row in ROWS}))]
    (root / "translations" / "hi.tsv").write_text("\n".join(lines), encoding="utf-8")
    assert crisismmd.examples(root, "train", language="hi")["text"].tolist() == ["पाठ 2", "पाठ 2", "पाठ 3"]
    (root / "translations" / "hi.tsv").write_text("\n".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"such as tweet 905952332923338753: delete it, and `.*translate crisismmd "):
        crisismmd.examples(root, "train", language="hi")


@pytest.mark.parametrize("wrong", ["id\ttext\n1\ta\n1\tb", "id\ttext\n1\t", "tweet\ttext\n1\ta"])
def test_a_damaged_table_of_translations_is_refused(root, wrong) -> None:
    before = fingerprint("crisismmd", root)
    (root / "translations").mkdir()
    (root / "translations" / "hi.tsv").write_text(wrong, encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"hi.tsv(, line [23]: needs each id once| cannot be read as a table.*id, text)"
    ):
        crisismmd.examples(root, "train", language="hi")
    assert fingerprint("crisismmd", root) != before


class Unchanged:
    """Stands in for a translation model."""

    options = {"model": "none"}

    def __call__(self, texts: list[str]) -> list[str]:
        return texts


def test_texts_alone_can_be_translated(root, monkeypatch) -> None:
    shutil.rmtree(root / "data_image")
    monkeypatch.setattr(translate, "Translator", lambda *_: Unchanged())
    assert translate.main(["crisismmd", "--root", str(root)]) == 0
    assert len((root / "translations" / "hi.tsv").read_text(encoding="utf-8").splitlines()) == 3  # two tweets


def test_an_archive_serves_as_root(root, tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path_factory.mktemp("cache")))
    packed = shutil.make_archive(str(tmp_path_factory.mktemp("packed") / "CrisisMMD_v2.0"), "gztar", root)
    table = crisismmd.examples(packed, "val")
    assert table["text"].equals(crisismmd.examples(root, "val")["text"])
    assert all(Path(path).is_file() for path in table["image"])
    with pytest.raises(FileNotFoundError, match=r"no translations .*packed.*/translations/hi.tsv"):
        crisismmd.examples(packed, "val", language="hi")


def test_the_informative_task_has_files_and_classes_of_its_own(root) -> None:
    for path in sorted(root.rglob("*.tsv")):
        text = path.read_text(encoding="utf-8")
        for label in {label for row in ROWS for label in row[3:]}:
            text = text.replace(label, "informative" if label == "not_humanitarian" else "not_informative")
        (root / path.name.replace("humanitarian", "informative")).write_text(text, encoding="utf-8")  # flat
    assert crisismmd_informative.examples(root, "test")["label"].tolist() == [1, 0, 1]
    assert len(crisismmd_informative.files(root)) == len(crisismmd.files(root)) == 3
    with pytest.raises(ValueError, match="unknown labels"):
        crisismmd.read_task(
            "informative", crisismmd.CLASSES, root, "test", "en", "agreed", "text", "error", False, None
        )


def test_check_marks_what_is_not_official_and_what_is_missing(root, capsys) -> None:
    next(root.rglob("*_test.tsv")).unlink()
    broken = root / "data_image/hurricane_harvey/8_9_2017/905952332923338753_0.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    assert main(["check", "crisismmd", "--root", str(root)]) == 1
    shown = capsys.readouterr().out
    assert "1 (not 71)" in shown and "mend: 1 in train, 1 in val" in shown
    assert "WRONG: test: no task_humanitarian_text_img_agreed_lab_test.tsv" in shown
    assert "905952332923338753_0.jpg cannot be read" in shown and "2 groups are in train and val" in shown
    assert main(["check", "crisismmd", "--root", str(root / "nowhere")]) == 2
    next(root.rglob("*_dev.tsv")).write_bytes(b"")
    assert main(["check", "crisismmd", "--root", str(root)]) == 2
    assert "dev.tsv cannot be read as a table" in capsys.readouterr().out


@pytest.mark.parametrize("given", [None, "nowhere"])
def test_no_files_says_where_to_get_them(given) -> None:
    with pytest.raises(FileNotFoundError, match=r"crisisnlp.qcri.org"):
        crisismmd.examples(given, "train")


@real
def test_the_real_files_have_the_official_numbers() -> None:
    tables = {split: crisismmd.examples(REAL, split, missing="none") for split in crisismmd.OFFICIAL}
    assert [len(table) for table in tables.values()] == [6126, 998, 955]
    counts = {split: table["label"].value_counts().sort_index().tolist() for split, table in tables.items()}
    assert counts == {
        "train": [71, 612, 3252, 1279, 912],
        "val": [9, 80, 521, 239, 149],
        "test": [9, 81, 504, 235, 126],
    }
    train = tables["train"]
    assert (train["group"].nunique(), tables["val"]["group"].nunique()) == (5263, 998)
    assert [table["text"].str.startswith('"').sum() for table in tables.values()] == [39, 7, 6]
    assert train["text"].str.contains("\u00e2\u20ac", regex=False).sum() == 251
    assert (train["text"].map(ftfy.fix_text) != train["text"]).sum() == 1247
    tweets = train["group"].value_counts()
    assert tweets.value_counts().to_dict() == {1: 4718, 2: 323, 3: 126, 4: 96} and len(train) - len(tweets) == 863
    assert [table["image"].isna().all() for table in tables.values()] == [True] * 3
    leaks = audit_tables(tables, crisismmd.CLASSES)["leaks"].set_index(["what", "first", "second"])["values"]
    texts = [("text", "train", "val"), ("text", "train", "test"), ("text", "val", "test")]
    assert leaks[texts].tolist() == [1, 1, 0] and leaks["id"].sum() == leaks["group"].sum() == 0
    everything = crisismmd.examples(REAL, "test", which="all", missing="none")
    other = crisismmd.examples(REAL, "test", which="all", target="image", missing="none")
    assert len(everything) == 2237 and (everything["label"] != other["label"]).sum() <= 1282


@real
def test_the_real_column_label_is_not_merged_and_plain_reading_loses_quotes() -> None:
    path = crisismmd.files(REAL)[0]
    raw, plain = reading.tsv(path, crisismmd.COLUMNS), pd.read_csv(path, sep="\t", dtype=str)
    unquoted = {"sep": "\t", "quoting": csv.QUOTE_NONE, "dtype": str, "keep_default_na": False}
    pd.testing.assert_frame_equal(raw.reset_index(drop=True), pd.read_csv(path, **unquoted, encoding="utf-8-sig"))
    unmerged = raw["label"].value_counts()
    assert [unmerged[name] for name in crisismmd.MERGED] == [17, 22, 2]
    assert set(raw["label_text"]) == set(raw["label_image"]) == set(crisismmd.CLASSES)
    assert (raw["tweet_text"].to_numpy() != plain["tweet_text"].to_numpy()).sum() >= 39 and len(raw) == len(plain)
    assert raw["image"].str.endswith(".png").sum() == 53


@real
def test_the_human_translations_are_of_test_tweets() -> None:
    known = crisismmd.human_translations(REAL.parent / "human_hindi")
    assert len(known) == 98 and set(known) <= set(crisismmd.examples(REAL, "test", missing="none")["group"])
