"""The built-in data: counts, splits, balance by construction, no leaks; the contract and the audit on made tables."""

import importlib
import shutil
import subprocess
import sys
import unicodedata
from itertools import combinations
from pathlib import Path

import forks
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from mmutils import data
from mmutils.data import emoji_topics as emoji
from mmutils.data.__main__ import main
from mmutils.data.tools import audit, loading

SIZES = {"train": 741, "val": 204, "test": 406}
GROUP_SIZES = {
    "People & Body": 325,
    "Objects": 264,
    "Travel & Places": 218,
    "Smileys & Emotion": 169,
    "Animals & Nature": 159,
    "Food & Drink": 131,
    "Activities": 85,
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMUTILS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def topics():
    return {split: data.dataset("emoji_topics").examples(None, split) for split in data.SPLITS}


@pytest.fixture(scope="module")
def memes():
    return {split: data.dataset("emoji_memes").examples(None, split) for split in data.SPLITS}


def test_data_sets_are_found_by_name():
    assert {"emoji_memes", "emoji_topics"} <= set(data.available())
    assert not {"emoji", "contract", "audit", "__init__"} & set(data.available())
    with pytest.raises(ValueError, match=r"'emoij_topics'.*emoji_memes, emoji_topics"):
        data.dataset("emoij_topics")
    with pytest.raises(ValueError, match="unknown data set 'audit'"):
        data.dataset("audit")


def test_data_needs_no_torch():
    code = "import sys, mmutils.data as d, mmutils.data.tools.audit; [d.dataset(name) for name in d.available()]\n"
    code += "assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_table_has_the_documented_counts():
    table = pd.read_parquet(emoji.LABELLED)
    assert table["category"].value_counts().to_dict() == GROUP_SIZES
    assert table["split"].value_counts().to_dict() == SIZES
    assert table["family"].nunique() == 1114
    for column in ("emoji", "codepoints", "name_en", "name_hi"):
        assert table[column].is_unique
    assert list(table["emoji"].head(2)) == [chr(int(points, 16)) for points in table["codepoints"].head(2)]


def test_splits_are_stratified():
    table = pd.read_parquet(emoji.LABELLED)
    shares = pd.crosstab(table["category"], table["split"], normalize="index")
    assert (shares - pd.Series({"train": 0.55, "val": 0.15, "test": 0.30})).abs().max(axis=None) < 0.01


def test_variants_of_one_emoji_share_a_family_and_a_split():
    family = pd.read_parquet(emoji.LABELLED).set_index("name_en")["family"]
    assert family["man running"] == family["woman running"] == family["person running"]
    assert family["one o’clock"] == family["twelve-thirty"] and family["red heart"] == family["blue heart"]
    assert family["tiger"] != family["lion"]
    assert pd.read_parquet(emoji.LABELLED).groupby("family")["split"].nunique().max() == 1


@pytest.mark.parametrize("name", ["emoji_topics", "emoji_memes"])
def test_nothing_leaks_between_splits(name):
    found = audit.audit_tables(data.tables(name, language="hi"), data.dataset(name).CLASSES)
    assert found["leaks"]["values"].sum() == 0
    assert len(found["unreadable"]) == 0


def test_topics_examples(topics):
    assert {split: len(table) for split, table in topics.items()} == SIZES
    for table in topics.values():
        assert list(table.columns[:5]) == list(data.COLUMNS)
    everything = pd.concat(topics.values()).set_index("text")
    row = everything.loc["tiger"]
    assert (row["emoji"], data.dataset("emoji_topics").CLASSES[row["label"]]) == ("🐅", "Animals & Nature")
    picture = Image.open(row["image"])
    assert picture.size == (64, 64) and picture.mode == "RGBA" and Path(row["image"]).name == "1f405.png"


@pytest.mark.parametrize("name", ["emoji_topics", "emoji_memes"])
def test_languages_differ_only_in_the_text(name):
    english, hindi = (data.dataset(name).examples(None, "val", language=language) for language in ("en", "hi"))
    pd.testing.assert_frame_equal(english.drop(columns="text"), hindi.drop(columns="text"))
    assert (english["text"] != hindi["text"]).all()


def test_hindi_names_are_in_devanagari():
    for table in (pd.read_parquet(emoji.LABELLED), pd.read_parquet(emoji.POOL)):
        has_devanagari = table["name_hi"].map(lambda name: any("\u0900" <= letter <= "\u097f" for letter in name))
        assert has_devanagari.all()
    letters = {letter for name in pd.read_parquet(emoji.LABELLED)["name_hi"] for letter in name if letter.isalpha()}
    latin = {letter for letter in letters if "LATIN" in unicodedata.name(letter)}
    assert len(letters - latin) > 40 and not {
        letter for letter in letters - latin if not "\u0900" <= letter <= "\u097f"
    }


@pytest.mark.parametrize("split", data.SPLITS)
@pytest.mark.parametrize("side", ["image", "text"])
def test_one_side_of_a_meme_tells_nothing(memes, split, side):
    table = memes[split]
    for seed in range(3):
        score = dict(
            zip(table[side].unique(), np.random.default_rng(seed).normal(size=table[side].nunique()), strict=True)
        )
        assert abs(roc_auc_score(table["label"], table[side].map(score)) - 0.5) < 1e-12


@pytest.mark.parametrize("split", data.SPLITS)
def test_pairs_of_memes(memes, split):
    table = memes[split]
    rounds = 4 if split == "train" else 2
    for side in ("image_emoji", "text_emoji"):
        counts = pd.crosstab(table[side], table["label"])
        assert len(counts) == SIZES[split] and (counts == rounds).all(axis=None)
    assert (table["image_emoji"] != table["text_emoji"]).all()
    assert not table.duplicated(["image_emoji", "text_emoji"]).any()
    assert ((table["image_class"] != table["text_class"]) == (table["label"] == 1)).all()
    assert abs(table["label"].head(len(table) // 2).mean() - 0.5) < 0.05  # labels are mixed, not one after the other


def test_no_emoji_of_a_meme_is_in_two_splits(memes):
    sides = {split: set(table["image_emoji"]) | set(table["text_emoji"]) for split, table in memes.items()}
    assert not any(sides[first] & sides[second] for first, second in combinations(data.SPLITS, 2))


def test_pool_shows_nothing_of_val_and_test(topics):
    train, pool = emoji.examples(), pd.read_parquet(emoji.POOL)["emoji"]
    pool = emoji.unlabelled().iloc[len(train) :].reset_index(drop=True).assign(emoji=pool)
    assert data.check(pool, emoji.CLASSES).equals(pool)
    assert len(pool) == 2893 and (pool["label"] == -1).all() and (pool["text"] != "").all()
    held_out = pd.concat([topics["val"], topics["test"]])
    assert not set(pool["group"]) & set(held_out["group"])
    assert not set(pool["emoji"]) & set(held_out["emoji"]) and not set(pool["text"]) & set(held_out["text"])
    bare = pool["emoji"].str.replace("[\U0001f3fb-\U0001f3ff]", "", regex=True)  # without skin tones
    assert not set(bare) & set(held_out["emoji"].str.replace("\ufe0f", ""))
    hashes = [np.array([audit.picture_hash(Image.open(path)) for path in t["image"]]) for t in (pool, held_out)]
    assert audit.near_pairs(*hashes) == []


def test_tables_of_all_splits_and_what_they_do_not_take():
    tables = data.tables("emoji_topics", limit=9, language="hi")
    pd.testing.assert_frame_equal(
        tables["val"], data.subset(data.dataset("emoji_topics").examples(None, "val", "hi"), 9)
    )
    assert list(tables) == list(data.SPLITS) and data.option_names("emoji_topics") == ["language"]
    with pytest.raises(
        ValueError, match="emoji_memes has no missing: its options are language; notebooks also take leaks"
    ):
        data.tables("emoji_memes", missing="drop")
    with pytest.raises(FileNotFoundError, match="hateful_memes is not built in"):
        data.tables("hateful_memes", language="en")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "split 'dev'.*train, val, test"),
        ({"split": "val", "language": "fr"}, "language 'fr'.*en, hi"),
        ({"root": "data/emoji", "split": "val"}, "built in.*root=None"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    for name in ("emoji_topics", "emoji_memes"):
        with pytest.raises(ValueError, match=message):
            data.dataset(name).examples(**{"root": None, **arguments})
    with pytest.raises(ValueError, match="language"):
        emoji.unlabelled(language="fr")


def made(ids, texts=None, pictures=None, groups=None, labels=None) -> pd.DataFrame:
    texts, groups, labels = texts or [f"text {i}" for i in ids], groups or ids, labels or [0] * len(ids)
    return pd.DataFrame({"id": ids, "group": groups, "image": pictures, "text": texts, "label": labels})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (made(["a"]).drop(columns=["group", "text"]), "lacks group, text"),
        (made(["a", "b", "b"]), r"2 of 3 examples: id occurs more than once \(row 1: id 'b'"),
        (made(["a", "b"], labels=[0, 2]), r"label is not in -1\.\.1 \(row 1: id 'b', label 2"),
        (made(["a", "b"], texts=["x", None]), "text is not a string"),
        (made(["a", 7]), "id is not a string"),
        (made(["a", "b"], groups=["x", ""]), "id or group is empty"),
        (made(["a", "b"], pictures=[None, 3]), "image is neither"),
        (made(["a", "b"]).iloc[1:], "index"),
        (made([]), "empty"),
    ],
)
def test_check_says_what_is_wrong(table, message):
    with pytest.raises(ValueError, match=message):
        data.check(table, ("no", "yes"))


def test_check_accepts_unknown_labels_and_missing_pictures():
    table = made(["a", "b"], labels=[-1, 1], pictures=[None, "x.png"], texts=["", "x"])
    assert data.check(table, ("no", "yes")) is table


def test_fingerprint_follows_the_content(monkeypatch, tmp_path):
    before = data.fingerprint("emoji_topics")
    assert before == data.fingerprint("emoji_topics") != data.fingerprint("emoji_memes")
    changed = tmp_path / "emoji.parquet"
    changed.write_bytes(emoji.LABELLED.read_bytes() + b"x")
    monkeypatch.setattr(data.dataset("emoji_topics"), "files", lambda root: [changed])
    assert data.fingerprint("emoji_topics") != before
    monkeypatch.delattr(data.dataset("emoji_topics"), "files")  # optional: the tables serve
    assert len(data.fingerprint("emoji_topics")) == 64


def drawing(path: Path, number: int, size: int = 64) -> str:
    """A picture of 8x8 coloured patches; another number, another picture."""
    patches = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(patches).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return str(path)


def test_audit_finds_what_was_planted(tmp_path):
    pictures = [drawing(tmp_path / f"{k}.png", k) for k in range(4)]
    copy = drawing(tmp_path / "copy.jpg", 0, size=90)  # the first again, larger and as JPEG
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    train = made(["a", "b", "c"], ["A flood  http://t.co/x", "fire", "Fire"], pictures[:3], groups=["g", "h", "i"])
    val = made(["d", "e"], ["RT @some_one: a FLOOD!", "snow"], [copy, str(broken)], groups=["g", "k"], labels=[1, -1])
    test = made(["a", "f"], ["rain", ""], [pictures[3], str(tmp_path / "absent.png")])
    found = audit.audit_tables({"train": train, "val": val, "test": test}, ("no", "yes"))
    leaks = found["leaks"].set_index(["what", "first", "second"])["values"]
    planted = [
        ("group", "train", "val"),
        ("text", "train", "val"),
        ("picture", "train", "val"),
        ("id", "train", "test"),
    ]
    assert leaks[leaks > 0].to_dict() == dict.fromkeys(planted, 1)
    duplicates = found["duplicates"].set_index(["what", "split"])
    assert duplicates.loc[("text", "train"), ["values", "rows"]].tolist() == [1, 2]
    assert duplicates["values"].sum() == 1
    assert found["unreadable"]["id"].tolist() == ["e", "f"]
    assert found["counts"].loc[["no", "yes", "unknown"], "val"].tolist() == [0, 1, 1]
    assert found["text_lengths"].loc["test", "empty"] == 1


def test_near_pairs_equal_a_plain_count():
    bits = np.random.default_rng(0).random((1100, 8)) < 0.5  # more rows than a block has
    plain = {(i, j) for i in range(len(bits)) for j in range(50) if (bits[i] != bits[j]).sum() <= 1}
    assert set(audit.near_pairs(bits, bits[:50], distance=1)) == plain


def read_pictures_of_val():
    for path in emoji.examples(None, "val")["image"]:
        Image.open(path).load()


def test_two_processes_fill_the_cache_at_once(tmp_path):
    processes = [forks.started(read_pictures_of_val, MMUTILS_CACHE=str(tmp_path)) for _ in range(2)]
    assert forks.ended(*processes) == [0, 0]
    (folder,) = (tmp_path / "emoji").iterdir()  # one folder, no draft left behind
    assert len(list(folder.glob("*.png"))) == 1351


def test_committed_size():
    folders = (emoji.FOLDER, emoji.FOLDER.parents[1] / "report" / "fonts")
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 4_000_000


OWN = """
import pandas as pd
CLASSES = ("no", "yes")
def examples(root=None, split="train", share: float = 1.0, noisy=False, words: list[str] = ()):
    assert isinstance(share, float) and isinstance(noisy, bool) and isinstance(words, list | tuple)
    ids = [f"{split}{number}" for number in range(4)]
    return pd.DataFrame({"id": ids, "group": ids, "image": None, "text": "a", "label": LABELS})
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a file of the contributor's own beside the built-in ones: `own(content)`; its name is `mine`."""
    folder = tmp_path / "data"
    shutil.copytree(loading.FOLDER, folder, ignore=shutil.ignore_patterns("builtin", "__pycache__"))
    monkeypatch.setattr(loading, "FOLDER", folder)
    monkeypatch.setattr(data, "__path__", [str(folder)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(content: str | bytes) -> None:
        (folder / "mine.py").write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.delitem(sys.modules, "mmutils.data.mine", raising=False)
        importlib.invalidate_caches()

    return write


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (OWN.replace("def examples(", "def examples[").encode(), 4),
        (b"x = 'caf\xe9'\n" + OWN.encode(), 1),
        (b"x = 1\n\ny = '\xe9'\n" + OWN.encode(), 3),
        (OWN.encode("utf-16"), 1),
    ],
)
def test_one_broken_file_does_not_take_the_others_down(own, content, line) -> None:
    own(content)
    with pytest.warns(UserWarning, match=rf"mine.py, line {line} .*The other data sets can be used"):
        assert "emoji_topics" in data.available()
    with pytest.raises(ValueError, match=rf"mine.py, line {line} "):
        data.dataset("mine")


def test_what_editors_leave_beside_a_file_is_not_looked_at(own, recwarn) -> None:
    own(OWN)
    (loading.FOLDER / ".#mine.py").symlink_to("someone@host.1234")
    (loading.FOLDER / "._mine.py").write_bytes(bytes(100))
    assert "mine" in data.available() and not recwarn.list
    (loading.FOLDER / "gone.py").symlink_to("nowhere.py")
    with pytest.warns(UserWarning, match=r"gone.py, line 1 cannot be loaded"):
        assert "mine" in data.available()


def test_a_file_that_fails_at_its_import_is_named_with_its_line(own) -> None:
    own(OWN.replace("CLASSES = (", "CLASSES = 1 / 0, ("))
    with pytest.raises(ValueError, match=r"mine.py, line 3 cannot be loaded: ZeroDivisionError"):
        data.dataset("mine")
    own("import sys; sys.exit(3)\n" + OWN)
    with pytest.raises(ValueError, match=r"mine.py, line 1 cannot be loaded: SystemExit"):
        data.dataset("mine")
    own(OWN + "\nreturn 1\n")
    with pytest.raises(ValueError, match=r"mine.py, line 9 cannot be loaded: SyntaxError"):
        data.dataset("mine")
    own("def examples(root, split):\n    pass\n")
    with pytest.raises(ValueError, match=r"unknown data set 'mine' \(mine.py defines no CLASSES"):
        data.dataset("mine")


def test_a_data_set_that_forgets_the_check_is_checked(own, capsys) -> None:
    own(b"\xef\xbb\xbf" + OWN.replace("LABELS", '["yes", "no", "no", "yes"]').encode())
    with pytest.raises(ValueError, match=r"mine, val: 4 of 4 examples: label is not in -1..1 \(row 0: id 'val0'"):
        data.examples("mine", None, "val")
    assert main(["check", "mine"]) == 2 and "mine, train: 4 of 4 examples: label" in capsys.readouterr().out
    own(OWN.replace("LABELS", "[0.0, 1.0, 1.0, -1.0]"))
    assert data.examples("mine", "", "val")["label"].dtype == np.int64
    own(OWN.replace("LABELS", "0").replace("return pd.DataFrame", "return dict"))
    with pytest.raises(ValueError, match="the examples are a dict, not a pandas DataFrame"):
        data.examples("mine", None, "val")


def test_an_error_inside_a_module_is_named_with_its_line(own, capsys) -> None:
    own(OWN.replace("LABELS", '{}["label"]'))
    with pytest.raises(ValueError, match=r"mine, val: .*mine.py, line 7: KeyError: 'label'"):
        data.examples("mine", None, "val")
    assert main(["check", "mine"]) == 2 and "mine.py, line 7: KeyError" in capsys.readouterr().out
    own(OWN.replace("LABELS", "0") + "def unlabelled(root=None):\n    return None + 1\n")
    with pytest.raises(ValueError, match=r"mine, unlabelled: .*mine.py, line 9: TypeError"):
        data.unlabelled("mine")


def test_a_closed_pipe_ends_the_check_quietly(tmp_path) -> None:
    (tmp_path / "train.jsonl").write_text('{"id": 1, "img": "1.png", "text": "a", "label": 0}')
    command = [sys.executable, "-m", "mmutils.data", "check", "hateful_memes", "--root", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) == 1


def test_options_are_converted_by_their_types_or_refused(own) -> None:
    own(OWN.replace("LABELS", "int(noisy)"))
    assert data.examples("mine", None, "val", noisy="False", share="0.5", words="[a, b]")["label"].eq(0).all()
    assert data.examples("mine", None, "val", noisy="true")["label"].eq(1).all()
    for option, value in (("noisy", "perhaps"), ("share", "half"), ("words", "1"), ("share", True)):
        with pytest.raises(ValueError, match=f"parameter {option} is "):
            data.tables("mine", **{option: value})


def test_labels_are_required_where_they_are_needed(own) -> None:
    own(OWN.replace("LABELS", '[0, 1, 1, -1 if split == "test" else 0]'))
    assert len(data.tables("mine")["test"]) == 4
    with pytest.raises(ValueError, match=r"1 of 4 examples of test have no label \(-1\)"):
        data.tables("mine", labelled=True)
    own(OWN.replace("LABELS", '[0, int(split != "train"), 0, 0]'))
    with pytest.raises(ValueError, match="train has 4 examples of 1 class"):
        data.tables("mine", labelled=True)
    own(OWN.replace('"yes")', '"yes", "maybe")').replace("LABELS", '[0, 1, 0, 2 if split == "val" else 1]'))
    with pytest.raises(ValueError, match="train has no example of the labels 2, which val has: put some in train, "):
        data.tables("mine", labelled=True)


@pytest.mark.parametrize(
    "classes", ["yes", ("yes",), (), ("a", "a"), ("a", ""), ("a", 1), ("prediction", "a"), ("a", "problem"), {"a", "b"}]
)
def test_classes_that_cannot_be_columns_of_answers_are_refused(classes) -> None:
    with pytest.raises(ValueError, match=r"(?i)class"):
        data.check(made(["a", "b"]), classes)


@pytest.mark.parametrize("labels", [[0, None], [0, 0.5], ["0", "1"], [0, float("inf")], [[0], [1]]])
def test_labels_that_are_no_numbers_of_classes_are_refused(labels) -> None:
    with pytest.raises(ValueError, match="label is not in"):
        data.check(made(["a", "b"], labels=labels), ("no", "yes"))


@pytest.mark.parametrize("name", ["emoji_topics", "emoji_memes"])
def test_pretraining_sees_pictures_with_their_own_names(name) -> None:
    table = data.unlabelled(name, language="hi")
    names = pd.read_parquet(emoji.LABELLED).set_index("codepoints")["name_hi"]
    train = table.iloc[: SIZES["train"]]
    assert len(table) == SIZES["train"] + 2893 and (table["label"] == -1).all()
    assert train["text"].tolist() == names[train["image"].map(lambda path: Path(path).stem)].tolist()


def test_the_pool_belongs_to_the_fingerprint() -> None:
    assert all(emoji.POOL in data.dataset(name).files(None) for name in ("emoji_topics", "emoji_memes"))


def test_the_pictures_of_another_pillow_are_others(monkeypatch) -> None:
    before = emoji.labelled(None, "val", "en")["image"][0]
    monkeypatch.setattr("PIL.__version__", "0.0")
    assert emoji.labelled(None, "val", "en")["image"][0] != before
