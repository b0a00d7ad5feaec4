"""A table of one's own in each format; splits and groups that are made; what is wrong is said with its line."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mmutils.data
from mmutils.data.__main__ import main


@pytest.fixture
def posts(tmp_path):
    """60 posts of three labels with pictures, every tenth a copy of the text before it."""
    rows = []
    for number in range(60):
        Image.new("RGB", (8, 8), (4 * number, 0, 0)).save(tmp_path / f"{number}.png")
        text = f"post {number - (number % 10 == 1)}"
        rows.append({"image": f"{number}.png", "text": text, "label": "abc"[number % 3], "mood": 1})
    return pd.DataFrame(rows)


def load(path, **options):
    return mmutils.data.tables("table", str(path), **options)


def test_formats_agree_and_splits_keep_groups(posts, tmp_path):
    posts.to_csv(tmp_path / "posts.csv", index=False)
    posts.to_csv(tmp_path / "posts.tsv", index=False, sep="\t")
    posts.to_json(tmp_path / "posts.jsonl", orient="records", lines=True)
    posts.to_parquet(tmp_path / "posts.parquet")
    expected = load(tmp_path / "posts.csv", labelled=True)
    for kind in ("tsv", "jsonl", "parquet"):
        for split, examples in load(tmp_path / f"posts.{kind}").items():
            pd.testing.assert_frame_equal(examples, expected[split])
    assert mmutils.data.classes("table", tmp_path / "posts.csv") == ("a", "b", "c")
    groups = [set(examples["group"]) for examples in expected.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert sum(map(len, expected.values())) == 60 and sum(map(len, groups)) == 54  # six pairs with the same text
    assert all(6 <= len(expected[split]) <= 12 and expected[split]["label"].nunique() == 3 for split in ("val", "test"))


def test_given_splits_languages_and_unlabelled_rows(posts, tmp_path):
    posts = posts.rename(columns={"text": "text_en"}).assign(text_hi=[f"पोस्ट {n}" for n in range(60)])
    posts["Split"] = ["train"] * 40 + ["dev"] * 10 + ["test"] * 10
    posts["label"] = posts["label"].map({"a": "1", "b": "2", "c": "10"})
    posts.loc[:2, "label"] = ""
    posts.to_csv(tmp_path / "posts.csv", index=False)
    hindi = load(tmp_path / "posts.csv", language="hi")
    assert [len(examples) for examples in hindi.values()] == [37, 10, 10]
    assert hindi["train"]["text"].iloc[0] == "पोस्ट 3" and hindi["train"]["id"].iloc[0] == "4"
    assert mmutils.data.classes("table", tmp_path / "posts.csv") == ("1", "2", "10")
    assert len(mmutils.data.unlabelled("table", tmp_path / "posts.csv", language="hi")) == 40
    with pytest.raises(ValueError, match=r'no column text_de: .*; take language="en" or language="hi"'):
        load(tmp_path / "posts.csv", language="de")


def test_a_missing_split_is_taken_from_train(posts, tmp_path):
    posts.assign(split=["train"] * 50 + ["test"] * 10).to_csv(tmp_path / "posts.csv", index=False)
    sizes = {split: len(examples) for split, examples in load(tmp_path / "posts.csv").items()}
    assert sizes["test"] == 10 and 5 <= sizes["val"] <= 9 and sizes["train"] + sizes["val"] == 50


def test_check_says_what_it_took_for_what(posts, tmp_path, capsys):
    posts.drop(columns="image").to_csv(tmp_path / "posts.csv", index=False)
    assert main(["check", "table", "--root", str(tmp_path / "posts.csv")]) == 0
    shown = capsys.readouterr().out
    for line in (
        "columns read: text, label; not read: mood",
        "made here: val and test, each 1/7 of all rows by group",
        "54 groups, of rows",
    ):
        assert line in shown


def test_check_names_what_leaks_and_what_cannot_be_learned(posts, tmp_path, capsys):
    posts = posts.assign(split=["train"] * 40 + ["val"] * 10 + ["test"] * 10, group=[f"g{n}" for n in range(60)])
    posts.loc[0, "text"] = "Post 55!"  # a test post's text but for case and punctuation
    posts.to_csv(tmp_path / "posts.csv", index=False)
    assert main(["check", "table", "--root", str(tmp_path / "posts.csv")]) == 0
    shown = capsys.readouterr().out
    assert "LOOK AT: 1 text is in train and test, such as 'post 55'" in shown and shown.count("in a notebook -y") == 1
    posts.loc[posts["split"] == "train", "label"] = "a"
    posts.loc[posts["split"] == "val", "label"] = "b"
    posts.to_csv(tmp_path / "posts.csv", index=False)
    assert main(["check", "table", "--root", str(tmp_path / "posts.csv")]) == 1
    shown = capsys.readouterr().out
    assert "WRONG: train has no example of b, c" in shown and "WRONG: val has no example of a, c" in shown


def test_leaks_are_dropped_from_train_alone(posts, tmp_path):
    posts = posts.assign(split=["train"] * 40 + ["val"] * 10 + ["test"] * 10, group=[f"g{n}" for n in range(60)])
    posts.loc[0, "text"] = "Post 55!"  # a test post's text but for case and punctuation
    posts.loc[2, "group"] = "g45"
    for number, row in posts.iterrows():  # pictures that differ; but 4 is a smaller copy of 50
        random = np.random.default_rng(50 if number == 4 else number).integers(0, 255, (16, 17, 3), dtype=np.uint8)
        Image.fromarray(random).resize((85, 80) if number != 4 else (68, 64)).save(tmp_path / row["image"])
    posts.to_csv(tmp_path / "posts.csv", index=False)
    kept = load(tmp_path / "posts.csv", leaks="drop")
    assert [len(examples) for examples in kept.values()] == [37, 10, 10]
    assert not {"1", "3", "5"} & set(kept["train"]["id"])
    assert len(mmutils.data.unlabelled("table", str(tmp_path / "posts.csv"), leaks="drop")) == 37


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda posts: posts.drop(columns="label"), "it needs label, and text or image or both"),
        (lambda posts: posts.assign(label=""), "no row with a label"),
        (lambda posts: posts.assign(split=["train"] * 59 + ["tset"]), "line 61: the split is 'tset' .1 such rows"),
        (lambda posts: posts.replace("7.png", "../secret.png"), "line 9: the path '../secret.png' leads out"),
        (lambda posts: posts.replace("7.png", "none.png"), "pictures of .*posts.csv are missing, such as .*none.png"),
        (lambda posts: posts.head(5), "4 groups are too few to make val and test of them"),
        (lambda posts: posts.assign(id=[*range(59), 7]), "lines 9 and 61: both have the id '7': give each its own"),
        (lambda posts: posts.assign(id=["", *range(59)]), "line 2: no id: fill it in, or remove the column id"),
        (lambda posts: posts.assign(group=[*"abcdefg", ""] + ["h"] * 52), "line 9: no group: fill it in, or remove"),
        (
            lambda posts: posts.assign(split=["val", "test"] * 30),
            "no row of train with a label, only of test, val: write",
        ),
        (lambda posts: posts.assign(split="test"), "no row of train with a label, only of test: write train"),
        (lambda posts: posts.assign(label="a"), "only the label 'a': two different labels are needed"),
        (lambda posts: posts.assign(label=[f"l{n}" for n in range(60)]), "1 rows of a label are too few"),
        (lambda posts: posts.replace("7.png", " "), "1 of .* are missing, such as in a row that names none. Put"),
        (
            lambda posts: posts.replace("7.png", "8"),
            r'give missing="drop" .*in a notebook as its parameter options: {missing: drop}',
        ),
    ],
)
def test_what_is_wrong_is_said(posts, tmp_path, change, message):
    change(posts).to_csv(tmp_path / "posts.csv", index=False)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(tmp_path / "posts.csv")


def test_what_a_spreadsheet_makes_of_a_table_is_read(posts, tmp_path):
    """A mark of byte order, semicolons, spaces around names, whole numbers with a point, "nan" for nothing."""
    labels = [["0.0", " 1.0", "0", "nan"][number % 4] for number in range(60)]
    posts = posts.assign(label=labels, text=posts["text"] + ", and, more, commas").rename(columns={"text": "Text_EN "})
    posts.to_csv(tmp_path / "posts.csv", index=False, sep=";", encoding="utf-8-sig")
    assert mmutils.data.classes("table", tmp_path / "posts.csv") == ("0", "1")
    assert sum(map(len, load(tmp_path / "posts.csv").values())) == 45
    posts.to_csv(tmp_path / "tabs.csv", index=False, sep="\t")
    assert load(tmp_path / "tabs.csv")["train"]["text"].str.endswith("commas").all()


def test_a_language_that_is_not_there_is_said_in_the_form_of_the_command(posts, tmp_path, capsys):
    posts.drop(columns="image").to_csv(tmp_path / "posts.csv", index=False)
    assert main(["check", "table", "--root", str(tmp_path / "posts.csv"), "--option", "language=hi"]) == 2
    assert "no column text_hi: its texts are text; take --option language=, or add it" in capsys.readouterr().out
    posts[["text", "label"]].rename(columns={"text": "text_en"}).to_csv(tmp_path / "posts.csv", index=False)
    assert main(["check", "table", "--root", str(tmp_path / "posts.csv")]) == 0
    assert "texts where no language is given: text_en" in capsys.readouterr().out


def test_cells_of_every_kind_are_read(posts, tmp_path):
    """Nullable types, categories and no value at all are text or none; lists in other columns do no harm."""
    expected = posts.assign(id=[str(number) for number in range(60)]).drop(columns="image")
    expected.to_csv(tmp_path / "posts.csv", index=False)
    typed = expected.assign(text_hi=pd.NA, mood=[[1, 2]] * 60, when=pd.Timestamp("2020"), extra=[{"a": [None]}] * 60)
    typed = typed.astype({"id": "Int64", "label": "category", "text": "string"})
    typed = pd.concat([typed, pd.DataFrame({"id": [60], "when": [pd.NaT]})], ignore_index=True)  # a row without a label
    typed.astype({"id": "Int64", "text": "string"}).to_parquet(tmp_path / "posts.parquet")
    typed.to_json(tmp_path / "posts.jsonl", orient="records", lines=True)
    for kind in ("parquet", "jsonl"):
        for split, examples in load(tmp_path / f"posts.{kind}").items():
            pd.testing.assert_frame_equal(examples, load(tmp_path / "posts.csv")[split])


@pytest.mark.parametrize("column", ["id", "split", "group", "image", "label", "text", "text_hi"])
def test_a_cell_that_is_no_text_is_refused_where_it_is_read(posts, tmp_path, column):
    posts[column] = [*["a"] * 4, {"x": 1}, *["a"] * 55]
    posts.to_json(tmp_path / "posts.jsonl", orient="records", lines=True)
    with pytest.raises(ValueError, match=f"posts.jsonl, line 5: {column} is a dict: give a text or a number"):
        load(tmp_path / "posts.jsonl")
    for cell, kind in (([1, 2], "ndarray"), (b"x", "bytes")):
        posts.assign(**{column: [cell] * 60}).to_parquet(tmp_path / "posts.parquet")
        with pytest.raises(ValueError, match=f"posts.parquet, line 1: {column} is a {kind}: give a text or a number"):
            load(tmp_path / "posts.parquet")


def test_a_cell_may_be_long(posts, tmp_path):
    posts.loc[3, "text"] = "long " * 100_000
    posts.to_csv(tmp_path / "posts.csv", index=False)
    assert max(examples["text"].str.len().max() for examples in load(tmp_path / "posts.csv").values()) == 500_000


def test_what_ties_rows_to_a_group(posts, tmp_path):
    """Another way of writing the same picture file, but not its case; texts as the audit compares them."""
    (tmp_path / "img").mkdir()
    for name in ("0.png", "A.png", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "img" / name)
    posts.loc[:5, "image"] = ["img/0.png", "./img/0.png", "img\\0.png", " img//0.png ", "img/A.png", "img/a.png"]
    posts["text"] = [f"text {number}" for number in range(60)]
    posts.loc[6:10, "text"] = ["A flood http://t.co/x", "RT @who: a FLOOD!", "😀", "😀", "!"]
    given = posts.assign(split=["train"] * 20 + ["val", "test"] * 20)
    for rows in (given, posts):
        rows.to_csv(tmp_path / "posts.csv", index=False)
        examples = pd.concat(load(tmp_path / "posts.csv"))
        groups = examples.groupby("group")["id"].agg(lambda ids: sorted(ids, key=int))
        tied = sorted(groups[groups.str.len() > 1], key=lambda ids: int(ids[0]))
        assert tied == [["1", "2", "3", "4"], ["7", "8"], ["9", "10"]]
    shown = examples.set_index("id")["image"]
    assert shown["4"] == shown["1"] == str(tmp_path / "img" / "0.png")


def test_lines_that_are_no_rows(tmp_path):
    (tmp_path / "posts.csv").write_text('text,label\n"two\nlines",a\none,two,three\n')
    with pytest.raises(ValueError, match="csv, line 4"):
        load(tmp_path / "posts.csv")
    (tmp_path / "posts.jsonl").write_text(json.dumps({"text": "x", "label": 1}) + "\n[1, 2]\n")
    with pytest.raises(ValueError, match="jsonl, line 2"):
        load(tmp_path / "posts.jsonl")
    with pytest.raises(ValueError, match="is no table by its name"):
        (tmp_path / "posts.xlsx").write_text("")
        load(tmp_path / "posts.xlsx")
