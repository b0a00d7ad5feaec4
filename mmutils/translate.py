"""Machine translation of a data set's texts into a table of translations that is made once and kept.

Any sequence-to-sequence model of Hugging Face: MarianMT (Junczys-Dowmunt et al. 2018,
https://arxiv.org/abs/1804.00344; Tiedemann and Thottingal 2020, https://aclanthology.org/2020.eamt-1.61/) needs nothing
else, NLLB, M2M100 and mBART also want the names that they give to the two languages.

What one must know:
- Models garble links, and "RT @name:" or mentions before a tweet's first word are not part of its sentence. Both are
  taken out: links are written after the translation, what stood before the first word before it, unchanged. Mentions
  and hashtags inside a sentence are words of it: the model sees them, and may translate or transliterate them.
- Each different text is translated once, in batches of equal length, each of which is kept as soon as it is there. A
  run that was killed goes on with the same batches, so that its file is that of an undisturbed run.
- The data set's licence covers its translations too: they lie beside the data, not in this repository.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from mmutils.data import SPLITS, examples, option_names, require_root
from mmutils.data.tools import reading
from mmutils.data.tools.archive import beside
from mmutils.runs.files import write
from mmutils.runs.parameters import printable

LINK = re.compile(r"https?://\S+")
OPENING = re.compile(r"(?:\s*(?:RT\b|[.]?@\w+:?))+")  # "RT @name:", ".@name @other"
NAMES = re.compile(r"https?://\S+|[@#]\w+")
SCRIPTS = {"hi": "DEVANAGARI"}  # the beginning of a letter's Unicode name, for languages that are checked
LONGEST = 256  # tokens of a translation, where the model does not say
LIBRARIES = ("torch", "transformers", "sentencepiece", "sacremoses")  # versions of these can change a translation


class Translator:
    """A translation model with its tokenizer; call it with a list of texts for a list of translations.

    name: on the hub, or a local folder. codes: what the model calls the two languages, as ("eng_Latn", "hin_Deva") for
    NLLB; none for a model of one pair. `options` is everything that its translations depend on; beam search and longest
    output are the model's own. FileNotFoundError where it cannot be had, ValueError for an unknown code.
    """

    def __init__(self, name: str, revision: str | None = None, codes: tuple[str, str] | None = None):
        import torch
        import transformers

        from mmutils.models import hub
        from mmutils.models.transformer import no_progress_bar

        def get(local_files_only: bool):
            options = {"revision": revision, "local_files_only": local_files_only, "trust_remote_code": False}
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
            with no_progress_bar():
                return tokenizer, transformers.AutoModelForSeq2SeqLM.from_pretrained(name, **options)

        try:
            self.tokenizer, model = hub.local_first(get, name, hub.FOLDER)
        except (OSError, ValueError) as error:
            if not Path(name).is_dir():
                raise
            raise ValueError(f"the folder {name} holds no translation model that can be read: {error}") from error
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.float().eval().to(self.device)
        settings = self.model.generation_config
        if settings.max_length in (None, 20):  # 20 is the library's when a model says nothing
            settings.max_length = LONGEST
        if codes:
            self.tokenizer.src_lang = codes[0]
            settings.forced_bos_token_id = self.tokenizer.convert_tokens_to_ids(codes[1])
            if settings.forced_bos_token_id in (None, self.tokenizer.unk_token_id):
                raise ValueError(f"{name} does not know the language {codes[1]!r}: see the model's own page")
        self.options = {
            "model": name,
            "revision": getattr(model.config, "_commit_hash", None) or revision,
            "codes": list(codes or ()),
            "beams": settings.num_beams or 1,
            "longest": settings.max_length,  # tokens
        }

    def __call__(self, texts: list[str]) -> list[str]:
        import torch

        batch = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            made = self.model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return self.tokenizer.batch_decode(made, skip_special_tokens=True)

    def cut(self, text: str) -> bool:
        """Whether the text is longer than what the model reads."""
        return len(self.tokenizer(text, verbose=False)["input_ids"]) > self.tokenizer.model_max_length


def parts(text: str) -> tuple[str, str, str]:
    """(opening, sentence, links) of a text: what is kept as it is, what is translated, what is kept after it."""
    links = " ".join(LINK.findall(text))
    text = " ".join(LINK.sub(" ", text).split())
    opening = match.group() if (match := OPENING.match(text)) else ""
    return opening.strip(), text[len(opening) :].strip(), links


def translate(
    ids: Sequence[str], texts: Sequence[str], translator, target: str, file: str | Path, batch_size: int = 32
) -> dict:
    """Write `file`, a table id<tab>text in UTF-8 without quoting, and `file`.json: with what, how many, what is wrong.

    Returns what stands in the JSON, and "examples" by problem (see `problems`). An id that comes again must have the
    same text. Until the end the translations are in `file`.part; a second call goes on with it. A file that is there
    already, of the same texts and options, is left as it is. ValueError: an id with two texts, a file or part of
    another model, revision, language or batch size.
    """
    file, rows = Path(file), _rows(ids, texts)
    header = {"to": target, **translator.options, "batch_size": batch_size}
    header["libraries"] = {name: _version(name) for name in LIBRARIES}
    known = {"texts": hashlib.sha256(json.dumps(rows).encode()).hexdigest(), **header}
    described = file.with_name(file.name + ".json")
    if file.exists():
        _check_same(_read_json(described.read_bytes(), described) if described.exists() else {}, known, file)
        done = _read_table(file, rows)
    else:
        made = _all_translated({parts(text)[1] for text in rows.values()}, translator, header, file, batch_size)
        done = {key: _clean(" ".join(_joined(text, made))) for key, text in rows.items()}
    found = {key: problems(text, done[key], target) for key, text in rows.items()}
    for key, text in rows.items():
        found[key] += ["cut"] if translator.cut(parts(text)[1]) else []
    kinds = ("empty", "repeated", "untranslated", "script", "cut")
    examples = {kind: [(key, rows[key], done[key]) for key in rows if kind in found[key]] for kind in kinds}
    counts = {"texts": len(rows), "different": len({parts(text)[1] for text in rows.values()})}
    report = known | {"counts": counts | {kind: len(examples[kind]) for kind in kinds}}
    write(described, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    write(file, "".join(f"{key}\t{text}\n" for key, text in [("id", "text"), *done.items()]).encode())
    _part(file).unlink(missing_ok=True)
    return report | {"examples": examples}


def problems(text: str, translation: str, target: str) -> list[str]:
    """What looks wrong with a translation, links, mentions and hashtags left aside:

    "empty"; "repeated", a word or phrase four times in a row, more often than in the text; "untranslated", the text
    itself; "script", more than half of its letters are of another script (for the languages in SCRIPTS).
    """
    source, made = (" ".join(NAMES.sub(" ", part).split()) for part in (text, translation))
    letters = [character for character in made if unicodedata.category(character)[0] == "L"]
    if not any(character.isalpha() for character in source):
        return []
    if not letters:
        return ["empty"]
    found = ["repeated"] if _repeats(made) > max(3, _repeats(source)) else []
    if made.casefold() == source.casefold():
        found.append("untranslated")
    if target in SCRIPTS:
        foreign = [not unicodedata.name(letter, "").startswith(SCRIPTS[target]) for letter in letters]
        found += ["script"] if sum(foreign) > len(letters) / 2 else []
    return found


def _repeats(text: str) -> int:
    """The most times that the same 1 to 6 words, or 1 to 6 characters of a long word, follow one another."""
    words, most = text.casefold().split(), 1
    for sequence in (words, *(word for word in words if len(word) > 20)):
        for length in range(1, 7):
            starts = range(len(sequence) - 2 * length + 1)
            same = [sequence[i : i + length] == sequence[i + length : i + 2 * length] for i in starts]
            runs = [len(list(run)) for equal, run in groupby(same) if equal]
            most = max([most, *(1 + (run + length - 1) // length for run in runs)])
    return most


def _rows(ids: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """The text of each id, on one line."""
    rows = {}
    for key, text in zip(ids, map(_clean, texts), strict=True):
        if rows.setdefault(_clean(key), text) != text:
            raise ValueError(f"{key!r} has two texts, {rows[key]!r} and {text!r}: translate by the examples' own id")
    return rows


def _all_translated(sentences: set[str], translator, header: dict, file: Path, batch_size: int) -> dict[str, str]:
    """Translation of each different sentence; each batch goes to the part file as soon as it is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    order = sorted(sentences - {""}, key=lambda text: (-len(text), text))  # the longest first: memory runs out at once
    done = _begun(_part(file), header)
    with _part(file).open("a", encoding="utf-8") as stream, tqdm(total=len(order), unit="text") as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            if not all(text in done for text in batch):
                made = dict(zip(batch, translator(batch), strict=True))
                stream.write("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in made.items()))
                stream.flush()
                os.fsync(stream.fileno())
                done |= made
            bar.update(len(batch))
    return done | {"": ""}


def _begun(part: Path, header: dict) -> dict[str, str]:
    """What a part file holds, which is begun where there is none; a line that was cut off is taken away."""
    lines = part.read_bytes().splitlines(keepends=True) if part.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    if not whole:
        write(part, (json.dumps(header) + "\n").encode())
        return {}
    _check_same(_read_json(whole[0], part), header, part)
    if len(whole) < len(lines):
        os.truncate(part, sum(map(len, whole)))
    pairs = [_read_json(line, part) for line in whole[1:]]
    if not all(isinstance(pair, list) and list(map(type, pair)) == [str, str] for pair in pairs):
        raise ValueError(f"{part} is damaged: delete it, and the translation begins again")
    return dict(pairs)


def _read_json(content: bytes, file: Path):
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it, and run the command again") from None


def _read_table(file: Path, rows: dict[str, str]) -> dict[str, str]:
    """The translations in a file that is complete, by id."""
    pairs = [line.partition("\t")[::2] for _, line in reading.lines(file)[1:]]
    if [key for key, _ in pairs] != list(rows):
        raise ValueError(f"{file} is damaged, its ids are not those of the texts: delete it, and run the command again")
    return dict(pairs)


def _check_same(had: dict, wanted: dict, file: Path) -> None:
    changed = [f"{key} {had.get(key)!r} -> {value!r}" for key, value in wanted.items() if had.get(key) != value]
    if changed:
        raise ValueError(f"{file} was made otherwise ({', '.join(changed)}): delete it, or write another file")


def _joined(text: str, made: dict[str, str]) -> list[str]:
    opening, sentence, links = parts(text)
    return [part for part in (opening, made[sentence], links) if part]


def _part(file: Path) -> Path:
    return file.with_name(file.name + ".part")


def _clean(text: str) -> str:
    """Without tabs, line breaks and other control characters, which would break the table."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text).split())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _texts(name: str, root: str | None, source: str, key: str) -> pd.DataFrame:
    """The examples of all splits with the columns id (their `key`) and text."""
    wanted = {"language": source, "missing": "none"}  # texts can be translated without their pictures
    options = {key: value for key, value in wanted.items() if key in option_names(name)}
    rows = pd.concat([examples(name, root, split, **options) for split in SPLITS], ignore_index=True)
    return pd.DataFrame({"id": rows[key], "text": rows["text"]})


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mmutils.translate", description=__doc__.splitlines()[0])
    parser.add_argument("name", help="data set, as crisismmd")
    parser.add_argument("--root", metavar="DIR", help="folder of the data set; none for built-in data")
    parser.add_argument("--from", dest="source", default="en", help="language of the texts (default: en)")
    parser.add_argument("--to", default="hi", help="language to translate into (default: hi)")
    parser.add_argument("--model", default="Helsinki-NLP/opus-mt-en-hi", help="on the hub, or a local folder")
    parser.add_argument("--revision", help="of the model: a branch, tag or commit")
    parser.add_argument("--codes", nargs=2, metavar=("FROM", "TO"), help="the model's own names of the languages")
    parser.add_argument("--key", default="group", choices=["group", "id"], help="what a text belongs to")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts at once (default: 32)")
    parser.add_argument("--out", metavar="FILE", help="default: DIR/translations/<to>.tsv")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Translate, say how many and what looks wrong; 0, or 1 with the reason where it cannot be done."""
    options = _options(arguments)
    try:
        require_root(options.name, options.root)
        if not (options.out or options.root):
            raise ValueError("give --out FILE: built-in data has no folder for translations")
        if options.batch_size < 1:
            raise ValueError(f"--batch-size {options.batch_size}: give a number of texts, at least 1")
        file = Path(options.out or beside(options.root) / "translations" / f"{options.to}.tsv")
        rows = _texts(options.name, options.root, options.source, options.key)
        translator = Translator(options.model, options.revision, options.codes and tuple(options.codes))
        report = translate(rows["id"], rows["text"], translator, options.to, file, options.batch_size)
    except (ValueError, OSError) as error:
        print(printable(error))
        return 1
    print(printable(f"{file}: " + ", ".join(f"{count} {kind}" for kind, count in report["counts"].items())))
    for kind, cases in report["examples"].items():
        for key, text, made in cases[:3]:
            print(printable(f"  {kind}, {key}: {text} -> {made}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
