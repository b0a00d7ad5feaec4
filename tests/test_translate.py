"""Translation: a real Marian model (tiny, random), killed and resumed; what is kept, what is found wrong."""

import json
import time

import forks
import pandas as pd
import pytest
import torch
import transformers

from mmutils import translate
from mmutils.data import SPLITS, emoji_topics
from mmutils.models import weights
from mmutils.translate import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder as Helsinki-NLP's: two sentencepiece models, one vocabulary, MarianMT; made of the emoji's names."""
    spm = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("marian")
    pieces = []
    for language, file in (("en", "source.spm"), ("hi", "target.spm")):
        texts = emoji_topics.examples(language=language)["text"]
        trained = folder / file
        with trained.open("wb") as stream:
            options = {"vocab_size": 400, "character_coverage": 1.0, "minloglevel": 2}
            spm.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=stream, **options)
        processor = spm.SentencePieceProcessor(model_file=str(trained))
        pieces += [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    names = ["</s>", "<unk>", *dict.fromkeys(pieces), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "hi"}))
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ends = {"eos_token_id": 0, "pad_token_id": len(names) - 1, "decoder_start_token_id": len(names) - 1}
    widths = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": len(names)}
    torch.manual_seed(0)
    network = transformers.MarianMTModel(transformers.MarianConfig(**layers, **ends, **widths, init_std=0.3))
    network.generation_config.update(max_length=8, num_beams=2, bad_words_ids=[[len(names) - 1]])
    network.save_pretrained(folder)
    transformers.MarianTokenizer.from_pretrained(folder).save_pretrained(folder)
    return str(folder)


def command(model, file, *more):
    given = ["emoji_topics", "--key", "id", "--model", model, "--batch-size", "16", "--out", str(file)]
    return [*given, *more]


def test_killed_and_resumed(model, tmp_path, capsys):
    whole, killed = tmp_path / "whole" / "hi.tsv", tmp_path / "killed" / "hi.tsv"
    assert main(command(model, whole)) == 0
    part = killed.with_name("hi.tsv.part")
    process = forks.started(main, command(model, killed))
    while len(read_part(part)) < 160:
        assert process.is_alive(), "it ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    forks.ended(process)
    assert not killed.exists()
    had, calls, stopped = set(read_part(part)), [], []
    rows, translator = emoji_topics_rows(), translate.Translator(model)

    class Counted:
        options = translator.options

        def __call__(self, texts):
            if len(calls) == 10 * 16 and not stopped:
                stopped.append(True)
                raise MemoryError
            calls.extend(texts)
            return translator(texts)

    with pytest.raises(MemoryError):
        translate.translate(rows["id"], rows["text"], Counted(), "hi", killed, 16)
    report = translate.translate(rows["id"], rows["text"], Counted(), "hi", killed, 16)
    assert killed.read_bytes() == whole.read_bytes() and not part.exists()
    assert len(had) >= 160 and not had & set(calls) and had | set(calls) == set(rows["text"])
    assert len(calls) == len(set(calls))
    described = whole.with_name("hi.tsv.json").read_text()
    assert described == killed.with_name("hi.tsv.json").read_text()
    assert json.loads(described)["counts"] == report["counts"]
    table = [line.split("\t") for line in whole.read_text(encoding="utf-8").splitlines()]
    assert table[0] == ["id", "text"] and [row[0] for row in table[1:]] == rows["id"].tolist()
    assert main(command(model, killed)) == 0 and "1351 texts" in capsys.readouterr().out  # there already


def emoji_topics_rows():
    return pd.concat([emoji_topics.examples(split=split) for split in SPLITS], ignore_index=True)


def read_part(part):
    return json.loads(part.read_bytes())["translations"] if part.exists() else {}


def test_another_model_is_refused(model, tmp_path, capsys):
    translator, file = translate.Translator(model), tmp_path / "hi.tsv"
    translate.translate(["1"], ["red heart"], translator, "hi", file)
    for other in ({"revision": "abc"}, {"model": "elsewhere"}):
        changed = type("Other", (), {"options": translator.options | other})()
        with pytest.raises(ValueError, match=next(iter(other))):
            translate.translate(["1"], ["red heart"], changed, "hi", file)
    with pytest.raises(ValueError, match="texts"):
        translate.translate(["1"], ["blue heart"], translator, "hi", file)
    with pytest.raises(ValueError, match="two texts"):
        translate.translate(["1", "1"], ["red heart", "blue heart"], translator, "hi", tmp_path / "other.tsv")
    (tmp_path / "new.tsv.part").write_text(json.dumps({"model": "elsewhere"}) + "\n")
    with pytest.raises(ValueError, match="elsewhere"):
        translate.translate(["1"], ["red heart"], translator, "hi", tmp_path / "new.tsv")
    assert main(["emoji_topics", "--model", model]) == 1 and "--out" in capsys.readouterr().out


def test_no_hub(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "get_session", lambda: None)  # no network
    assert main(command("nobody/no-such-model", tmp_path / "hi.tsv")) == 1
    assert "HF_HOME" in capsys.readouterr().out and not list(tmp_path.iterdir())
    assert main(command(str(tmp_path), tmp_path / "hi.tsv")) == 1  # an empty folder
    assert f"{tmp_path} holds no translation model" in capsys.readouterr().out
    assert main(command("any", tmp_path / "hi.tsv", "--batch-size", "0")) == 1
    assert main(["crisismmd"]) == 1 and not list(tmp_path.iterdir())
    assert "at least 1" in (told := capsys.readouterr().out) and "give its folder, archive or file as root" in told


def test_the_model_follows_the_languages_and_options_reach_the_data_set(tmp_path, monkeypatch, capsys):
    asked = []

    def examples(name, root, split, **options):
        asked.append(options)
        return pd.DataFrame({"group": ["1"], "text": ["red heart"]})

    monkeypatch.setattr(translate, "examples", examples)
    monkeypatch.setattr(translate, "Translator", lambda name, *others: asked.append(name) or Shout())
    given = ["crisismmd", "--root", str(tmp_path)]
    assert main([*given, "--to", "fr", "--option", "which=all", "--option", "missing=drop"]) == 0
    assert asked == [{"language": "en", "missing": "drop", "which": "all"}] * 3 + ["Helsinki-NLP/opus-mt-en-fr"]
    assert (tmp_path / "translations" / "fr.tsv").is_file()
    assert main([*given, "--model", "mine"]) == 0 and asked[-1] == "mine"
    assert main([*given, "--option", "which"]) == 1 and "--option which: give NAME=VALUE" in capsys.readouterr().out


class Shout:
    """Stands in for a model where what surrounds it is tested: it says what it read in capitals."""

    options = {"model": "shout", "revision": None}

    def __call__(self, texts):
        assert all("http" not in text and "\t" not in text for text in texts)
        return [text.upper() for text in texts]


def test_links_and_openings_are_kept(tmp_path):
    texts = {
        "a": "RT @who: the bridge\tis\ngone #flood https://t.co/x see https://t.co/y",
        "b": ".@who @else thanks to @them",
        "c": "https://t.co/z",
        "d": "thanks to @them",
    }
    report = translate.translate(list(texts), list(texts.values()), Shout(), "hi", tmp_path / "hi.tsv")
    lines = (tmp_path / "hi.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == [
        "a\tRT @who: THE BRIDGE IS GONE #FLOOD SEE https://t.co/x https://t.co/y",
        "b\t.@who @else THANKS TO @THEM",
        "c\thttps://t.co/z",
        "d\tTHANKS TO @THEM",
    ]
    assert report["counts"] == {
        "texts": 4, "different": 3, "empty": 0, "repeated": 0, "untranslated": 3, "script": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ("पुल टूट गया #flood @army https://t.co/x", []),
        ("", ["empty"]),
        ("https://t.co/x !!", ["empty"]),
        ("पुल पुल पुल पुल", ["repeated"]),
        ("यह पुल यह पुल यह पुल यह पुल टूट", ["repeated"]),
        ("पुल पुल पुल टूट", []),
        ("है" * 15, ["repeated"]),
        ("The Bridge collapsed", ["untranslated", "script"]),
        ("the पुल has collapsed", ["script"]),
    ],
)
def test_problems(made, found):
    assert translate.problems("the bridge collapsed https://t.co/x", made, "hi") == found


def test_problems_of_repeats_in_the_source():
    assert translate.problems("no no no no no", "नहीं नहीं नहीं नहीं नहीं", "hi") == []
    assert translate.problems("https://t.co/x", "", "hi") == []


def test_codes_are_the_models_own(model):
    known = list(translate.Translator(model).tokenizer.get_vocab())[5]
    assert translate.Translator(model, codes=("en", known)).model.generation_config.forced_bos_token_id == 5
    with pytest.raises(ValueError, match="hin_Deva"):
        translate.Translator(model, codes=("eng_Latn", "hin_Deva"))


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b'{"to": "hi"', b'{"to": "hi"}\n["a", "b"]\n', b"7"])
def test_a_damaged_part_is_named(content, tmp_path):
    (tmp_path / "hi.tsv.part").write_bytes(content)
    with pytest.raises(ValueError, match=r"hi.tsv.part is damaged.*delete it"):
        translate.translate(["1"], ["red heart"], Shout(), "hi", tmp_path / "hi.tsv")


def test_a_damaged_table_is_named(tmp_path):
    translate.translate(["1", "2"], ["a", "b"], Shout(), "hi", tmp_path / "hi.tsv")
    (tmp_path / "hi.tsv").write_text("id\ttext\n1\ta\n")
    with pytest.raises(ValueError, match=r"hi.tsv is damaged, its ids are not those of the texts: delete it"):
        translate.translate(["1", "2"], ["a", "b"], Shout(), "hi", tmp_path / "hi.tsv")
