"""Machine translation of a data set's texts into a table of translations that is made once and kept.

For sequence-to-sequence models: MarianMT (Junczys-Dowmunt et al. 2018, https://arxiv.org/abs/1804.00344); NLLB, M2M100
and mBART also need their own names of the two languages. Links, and "RT @name:" or mentions before the first word, are
kept as they are. The data set's licence covers its translations too: keep them beside the data.
"""

import argparse
import hashlib
import json
import re
import sys
import unicodedata
from importlib import metadata, util
from itertools import groupby
from operator import eq
from pathlib import Path

import pandas as pd
import torch
import transformers
from tqdm.auto import tqdm

from mmutils.data import SPLITS, examples, option_names
from mmutils.data.tools import reading
from mmutils.data.tools.archive import beside
from mmutils.models import weights
from mmutils.models.transformer import no_progress_bar
from mmutils.runs.files import write
from mmutils.runs.parameters import show

LINK = re.compile(r"https?://\S+")
OPENING = re.compile(r"(?:\s*(?:RT\b|[.]?@\w+:?))*")  # "RT @name:", ".@name @other"
NAMES = re.compile(r"https?://\S+|[@#]\w+")
SCRIPTS = {"hi": "DEVANAGARI"}  # the beginning of a letter's Unicode name, for languages that are checked
PROBLEMS = ("empty", "repeated", "untranslated", "script")
LONGEST = 256  # tokens of a translation, where the model does not say
LIBRARIES = ("torch", "transformers", "sentencepiece", "sacremoses")  # versions of these can change a translation


class Translator:
    """A translation model: call it with texts. `codes`: its names of the languages, as ("eng_Latn", "hin_Deva")."""

    def __init__(self, name: str, revision: str | None = None, codes: tuple[str, str] | None = None):
        def get(local_files_only: bool):
            options = {"revision": revision, "local_files_only": local_files_only, "trust_remote_code": False}
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
            with no_progress_bar():
                return tokenizer, transformers.AutoModelForSeq2SeqLM.from_pretrained(name, **options)

        try:
            self.tokenizer, model = weights.local_first(get, name)
        except ValueError as error:
            raise ValueError(f"{name} holds no translation model that can be read: {error}") from error
        self.model = model.float().eval().to("cuda" if torch.cuda.is_available() else "cpu")
        settings = self.model.generation_config
        if settings.max_length in (None, 20):  # 20 is the library's when a model says nothing
            settings.max_length = LONGEST
        if codes:
            self.tokenizer.src_lang = codes[0]
            settings.forced_bos_token_id = self.tokenizer.convert_tokens_to_ids(codes[1])
            if settings.forced_bos_token_id in (None, self.tokenizer.unk_token_id):
                raise ValueError(f"{name} does not know the language {codes[1]!r}: see the model's own page")
        self.options = {"model": name, "revision": getattr(model.config, "_commit_hash", None) or revision}
        self.options |= {"codes": list(codes or ()), "beams": settings.num_beams or 1, "longest": settings.max_length}

    def __call__(self, texts: list[str]) -> list[str]:
        batch = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            tokens = self.model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)


def translate(ids, texts, translator, target: str, file: str | Path, batch_size: int = 32) -> dict:
    """Write a table of translations, id<tab>text in UTF-8 without quoting, and `file`.json, which describes it.

    A killed run continues from `file`.part. Returns the JSON and "examples", (id, text, translation) by problem.
    """
    rows, pieces = {}, {}  # by id: the text; what stands before the sentence to translate, the sentence, the links
    for key, text in zip(map(_clean, ids), map(_clean, texts), strict=True):
        if rows.setdefault(key, text) != text:
            raise ValueError(f"{key!r} has two texts, {rows[key]!r} and {text!r}: translate by the examples' own id")
        plain = " ".join(LINK.sub(" ", text).split())
        opening = OPENING.match(plain).group()
        pieces[key] = opening.strip(), plain.removeprefix(opening).strip(), " ".join(LINK.findall(text))
    options = {"to": target, **translator.options, "batch_size": batch_size}
    options["libraries"] = {name: metadata.version(name) if util.find_spec(name) else None for name in LIBRARIES}
    report = {"texts": hashlib.sha256(json.dumps(rows).encode()).hexdigest(), **options}
    sentences, file = {sentence for _, sentence, _ in pieces.values()}, Path(file)
    description, part = file.with_name(file.name + ".json"), file.with_name(file.name + ".part")
    if file.exists():
        _read_same(description, report, file)
        pairs = [line.partition("\t")[::2] for _, line in reading.lines(file)[1:]]
        if [key for key, _ in pairs] != list(rows):
            raise ValueError(f"{file} is damaged, its ids are not those of the texts: delete it, run the command again")
        translations = dict(pairs)
    else:
        done = _read_same(part, options, part).get("translations", {}) if part.exists() else {}
        order = sorted(sentences - {""}, key=lambda text: (-len(text), text))  # the longest first: memory fails early
        for start in tqdm(range(0, len(order), batch_size), unit="batch"):
            batch = order[start : start + batch_size]
            if not done.keys() >= set(batch):
                done |= zip(batch, translator(batch), strict=True)
                write(part, json.dumps(options | {"translations": done}, ensure_ascii=False))
        done[""] = ""
        translations = {key: _clean(f"{start} {done[middle]} {end}") for key, (start, middle, end) in pieces.items()}
    wrong = {key: problems(text, translations[key], target) for key, text in rows.items()}
    cases = {each: [(key, rows[key], translations[key]) for key in rows if each in wrong[key]] for each in PROBLEMS}
    report["counts"] = {"texts": len(rows), "different": len(sentences)} | {each: len(cases[each]) for each in PROBLEMS}
    write(description, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write(file, "".join(f"{key}\t{text}\n" for key, text in [("id", "text"), *translations.items()]))
    part.unlink(missing_ok=True)
    return report | {"examples": cases}


def problems(text: str, translation: str, target: str) -> list[str]:
    """Which of PROBLEMS a translation has, links, mentions and hashtags aside.

    "repeated": a phrase four times in a row, and more often than in the text; "script": most letters are of another.
    """
    source, result = (" ".join(NAMES.sub(" ", part).split()) for part in (text, translation))
    letters = [character for character in result if unicodedata.category(character)[0] == "L"]
    if not letters:
        return ["empty"] if any(character.isalpha() for character in source) else []
    foreign = sum(not unicodedata.name(letter, "").startswith(SCRIPTS.get(target, "")) for letter in letters)
    wrong = {"repeated": _repeats(result) > max(3, _repeats(source)), "script": foreign > len(letters) / 2}
    wrong["untranslated"] = result.casefold() == source.casefold()
    return [problem for problem in PROBLEMS if wrong.get(problem)]


def _repeats(text: str) -> int:
    """The most times that the same 1 to 6 words, or 1 to 6 characters of a long word, follow one another."""
    words = text.casefold().split()
    return max(
        1 + sum(run) // length  # a run of elements that equal the one `length` before
        for sequence in (words, *(word for word in words if len(word) > 20))
        for length in range(1, 7)
        for _, run in groupby([False, *map(eq, sequence, sequence[length:])])
    )


def _read_same(path: Path, wanted: dict, file: Path) -> dict:
    """The JSON in `path`, which says how `file` was made; ValueError where that is not as wanted."""
    try:
        written = dict(json.loads(path.read_bytes())) if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and run the command again") from None
    changed = [f"{key} {written.get(key)!r} -> {value!r}" for key, value in wanted.items() if written.get(key) != value]
    if changed:
        raise ValueError(f"{file} was made otherwise ({', '.join(changed)}): delete it, or write another file")
    return written


def _clean(text: str) -> str:
    """Without tabs, line breaks and other control characters, which would break the table."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text).split())


def main(arguments: list[str] | None = None) -> int:
    """Translate, print the counts and what looks wrong; 0, or 1 with the reason where it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m mmutils.translate", description=__doc__.splitlines()[0])
    parser.add_argument("name", help="data set, as crisismmd")
    parser.add_argument("--root", metavar="DIR", help="folder of the data set; none for built-in data")
    parser.add_argument("--from", dest="source", default="en", help="language of the texts (default: en)")
    parser.add_argument("--to", default="hi", help="language to translate into (default: hi)")
    parser.add_argument("--model", help="on the hub, or a local folder (default: Helsinki-NLP/opus-mt-FROM-TO)")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="as which=all; repeatable")
    parser.add_argument("--revision", help="of the model: a branch, tag or commit")
    parser.add_argument("--codes", nargs=2, metavar=("FROM", "TO"), help="the model's names of the languages")
    parser.add_argument("--key", default="group", choices=["group", "id"], help="what a text belongs to")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts at once (default: 32)")
    parser.add_argument("--out", metavar="FILE", help="default: DIR/translations/<to>.tsv")
    options = parser.parse_args(arguments)
    try:
        if options.batch_size < 1:
            raise ValueError(f"--batch-size {options.batch_size}: give a number of texts, at least 1")
        wanted = {"language": options.source, "missing": "none"}  # texts can be translated without their pictures
        wanted = {name: value for name, value in wanted.items() if name in option_names(options.name)}
        if wrong := [entry for entry in options.option if entry.find("=") < 1]:
            raise ValueError(f"--option {wrong[0]}: give NAME=VALUE, as which=all")
        wanted |= dict(entry.split("=", 1) for entry in options.option)
        rows = pd.concat([examples(options.name, options.root, split, **wanted) for split in SPLITS])
        if not (options.out or options.root):
            raise ValueError("give --out FILE: built-in data has no folder for translations")
        file = Path(options.out or beside(options.root) / "translations" / f"{options.to}.tsv")
        model = options.model or f"Helsinki-NLP/opus-mt-{options.source}-{options.to}"
        translator = Translator(model, options.revision, options.codes)
        report = translate(rows[options.key], rows["text"], translator, options.to, file, options.batch_size)
    except (ValueError, OSError) as error:
        show(error)
        return 1
    show(f"{file}: " + ", ".join(f"{count} {kind}" for kind, count in report["counts"].items()))
    for problem, cases in report["examples"].items():
        for key, text, translation in cases[:3]:
            show(f"  {problem}, {key}: {text} -> {translation}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
