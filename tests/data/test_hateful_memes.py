"""Hateful Memes: made files in the official form, in a mirror's and in the first phase's."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mmutils.data import hateful_memes
from mmutils.data.__main__ import main


def write(folder: Path, name: str, rows: list[dict]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "img").mkdir(exist_ok=True)
    for row in rows:
        Image.new("RGB", (8, 8)).save(folder / row["img"])


def row(number, label=None) -> dict:
    found = {"id": number, "img": f"img/{str(number).zfill(5)}.png", "text": f"words  {int(number) % 2}"}
    return found | ({} if label is None else {"label": label})


@pytest.fixture
def root(tmp_path) -> Path:
    write(tmp_path, "train", [row(42953, 0), row(7, 1)])  # the official release: numbers
    write(tmp_path, "dev_unseen", [row("00012", 1)])  # a mirror: padded strings
    write(tmp_path, "dev", [row(12, 1), row(13, 0)])  # the first phase's name of dev_seen
    write(tmp_path, "test_seen", [row(20, 1)])
    write(tmp_path, "test_unseen", [row(30)])  # without labels
    return tmp_path


def test_ids_labels_and_sources(root) -> None:
    train = hateful_memes.examples(root, "train")
    assert train["id"].tolist() == ["42953", "00007"] and train["label"].tolist() == [0, 1]
    assert train["group"].nunique() == 1 and "words" not in train["group"][0]
    assert hateful_memes.examples(root, "val")["id"].tolist() == ["00012"]
    assert hateful_memes.examples(root, "val", val="dev_seen")["source"].tolist() == ["dev_seen"] * 2
    assert hateful_memes.examples(root, "test", test="test_unseen")["label"].tolist() == [-1]
    odd = [row(40) | {"label": None, "text": "two\u2028lines"}]
    (root / "test_unseen.jsonl").write_text(json.dumps(odd[0], ensure_ascii=False), encoding="utf-8-sig")
    Image.new("RGB", (8, 8)).save(root / "img" / "00040.png")
    assert hateful_memes.examples(root, "test", test="test_unseen")["text"].tolist() == ["two\u2028lines"]
    with pytest.raises(ValueError, match="unknown test 'dev_seen': choose one of test_seen, test_unseen"):
        hateful_memes.examples(root, "test", test="dev_seen")


def test_missing_pictures_and_files_are_said(root) -> None:
    (root / "img" / "00007.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 pictures of .*train.jsonl are missing, such as .*00007.png"):
        hateful_memes.examples(root, "train")
    assert len(hateful_memes.examples(root, "train", missing="drop")) == 1
    (root / "test_seen.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"no test_seen.jsonl or test.jsonl in .*found: dev.jsonl"):
        hateful_memes.examples(root, "test")
    (root / "train.jsonl").write_text("[1]")
    with pytest.raises(ValueError, match="line 1 is no JSON object"):
        hateful_memes.examples(root, "train")
    (root / "train.jsonl").write_text("{not json")
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        hateful_memes.examples(root, "train")


def test_damaged_files_are_named(root, capsys) -> None:
    for content, problem in (
        (b"", "has no rows"),
        (b'{"id": 1, "img": "img/00001.png", "text": null}', "line 1: img and text must be strings"),
        (b"\xff\xfe", "line 1 is not text in UTF-8"),
    ):
        (root / "train.jsonl").write_bytes(content)
        assert main(["check", "hateful_memes", "--root", str(root)]) == 2
        assert f"train.jsonl{', ' if 'line' in problem else ' '}{problem}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"label": "1"}, "label must be 0 or 1.*not '1'"),
        ({"label": 2}, "label must be"),
        ({"label": float("nan")}, "label must be .*missing where it is unknown, not nan"),
        ({"label": [1]}, "label must be"),
        ({"id": 7.0}, "id must be a whole number or a string"),
        ({"id": ""}, "id must be"),
        ({"img": "../00007.png"}, "the path '../00007.png' leads out"),
        ({"img": "C:\\img\\00007.png"}, "the path .* is absolute"),
        ({"text": "\ud83d"}, "half a surrogate pair"),
        ({"id": "\ud83d"}, "half a surrogate pair"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(root, change, problem) -> None:
    (root / "train.jsonl").write_text("\n".join(map(json.dumps, [row(42953, 0), row(7, 1) | change])))
    with pytest.raises(ValueError, match=rf"train.jsonl, line 2: {problem}"):
        hateful_memes.examples(root, "train")


def test_labels_and_paths_as_other_programs_write_them(root) -> None:
    rows = [row(42953, 0.0), row(7, 1.0) | {"img": "img\\00007.png"}, row(7) | {"id": 8}, row(7, True) | {"id": 9}]
    (root / "train.jsonl").write_text("\r\n".join(map(json.dumps, rows)))
    table = hateful_memes.examples(root, "train")
    assert table["label"].tolist() == [0, 1, -1, 1] and table["label"].dtype == "int64"
    assert table["image"].tolist()[1] == str(root / "img" / "00007.png")


def test_check_takes_the_options_of_the_data_set(root, capsys) -> None:
    command = ["check", "hateful_memes", "--root", str(root), "--option"]
    main([*command, "val=dev_seen", "--option", "test=test_unseen"])
    shown = capsys.readouterr().out
    assert "val has 2 examples, officially 500" in shown and "test has 1 examples, officially 2,000" in shown
    assert main([*command, "phase=1"]) == 2 and main(["check", "hateful_memes"]) == 2
    assert (
        "hateful_memes has no phase: its options are val, test" in (told := capsys.readouterr().out)
        and "not built in" in told
    )


def test_a_picture_that_claims_a_billion_pixels_is_reported(root, capsys) -> None:
    Image.new("1", (30_000, 30_000)).save(root / "img" / "00007.png")  # 110 kB
    assert main(["check", "hateful_memes", "--root", str(root)]) == 1
    assert "00007.png is too large to be a photo" in capsys.readouterr().out


def test_a_locked_archive_says_what_to_do(root, tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path_factory.mktemp("cache")))
    packed = Path(shutil.make_archive(str(tmp_path_factory.mktemp("packed") / "memes"), "zip", root))
    assert hateful_memes.examples(packed, "train")["id"].tolist() == ["42953", "00007"]
    content = bytearray(packed.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of a password, in the archive's list of files
    packed.write_bytes(content)
    with pytest.raises(ValueError, match="is locked: unpack it with the password"):
        hateful_memes.examples(packed, "train")
