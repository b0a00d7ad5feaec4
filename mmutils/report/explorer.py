"""The explorer: test examples with picture, texts and predictions as JSON inside the page; page.js makes it work.

Strings are data, not markup: JSON with `<` written as an escape, and shown as text by the script.
"""

import html
import io
import json
from itertools import permutations
from pathlib import Path

import pandas as pd
from PIL import Image

from mmutils import data
from mmutils.data.tools import pictures
from mmutils.report.html import data_uri
from mmutils.report.page import LANGUAGES, Page

MOST_BYTES = 2_000_000  # of pictures; where they are more, evenly spaced examples are shown
SIDE = 72  # pixels


def examples(page: Page, run: str, language: str) -> pd.DataFrame:
    """The test examples of a run's data set, which is a built-in one, by id."""
    name = page.study.records[run]["data"]["name"]
    key = ("examples", name, language)
    return page.study.cached(key, lambda: data.examples(name, None, "test", language=language).set_index("id"))


def small_picture(page: Page, name: str, path: str | None, text: str = "") -> str:
    """The thumbnail of the example with that id; `text` is for those who do not see it, where no other cell says it."""
    return "" if path is None else page.file(f"example-{name}.png", lambda: thumbnail(path), text)


def thumbnail(path: str) -> bytes:
    """A small PNG of a picture, at most SIDE pixels wide and high, in 64 colours, transparency kept."""
    picture = pictures.open_picture(path).convert("RGBA")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.quantize(64, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def explorer_html(explorers: list[tuple[str, dict[str, pd.DataFrame], list[tuple], list[str]]]) -> str:
    """The explorers' HTML, one after the other, "" for none; a picture that several of them show is embedded once.

    An explorer is its title; by language the test examples with `image`, `text` and `label` (index: id); triples of a
    system's title, the system and its averaged predictions; and the names of the classes.
    """
    numbers: dict[bytes, int] = {}  # of pictures, in the order in which they are embedded
    thumbnails: dict[str, bytes] = {}  # by path
    form, boxes = Path(__file__).with_suffix(".html").read_text("utf-8").rstrip(), []
    for title, tables, systems, classes in explorers:
        shown = next(iter(tables.values()))
        for _, _, predictions in systems:  # a run may have predicted only some examples
            shown = shown[shown.index.isin(predictions.index)]
        paths = shown["image"].dropna().unique()
        thumbnails |= {path: thumbnail(path) for path in paths if path not in thumbnails}
        size = sum(map(len, {thumbnails[path] for path in paths})) * 4 // 3  # as base64
        examples, guessed = [], [predictions.to_dict("index") for _, _, predictions in systems]
        for name, path, label in shown.iloc[:: max(1, -(-size // MOST_BYTES))][["image", "label"]].itertuples():
            picture = None if pd.isna(path) else numbers.setdefault(thumbnails[path], len(numbers))
            texts = {language: str(table.loc[name, "text"]) for language, table in tables.items()}
            rows = [predictions[name] for predictions in guessed]
            guesses = [[int(row["guess"]), round(float(row[f"p_{int(row['guess'])}"]), 3)] for row in rows]
            examples.append({"label": int(label), "picture": picture, "text": texts, "guess": guesses})
        named = [{"name": name, "inputs": s["inputs"], "language": s["language"]} for name, s, _ in systems]
        content = {"classes": classes, "languages": list(tables), "systems": named, "examples": examples}
        options = {"classes": enumerate(classes), "languages": [(code, LANGUAGES[code]) for code in tables]}
        options["questions"] = [
            (f"gap {a} {b}", f"text right in {LANGUAGES[a]}, wrong in {LANGUAGES[b]}, right there with the picture")
            for a, b in permutations(tables, 2)
        ]
        for kind, names in options.items():
            options[kind] = "".join(f'<option value="{value}">{html.escape(name)}</option>' for value, name in names)
        data = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
        boxes.append(form.format(title=html.escape(title), data=data, **options))
    embedded = json.dumps([data_uri(picture, "image/png") for picture in numbers], indent=0)
    script = f'<script type="application/json" id="explorer-pictures">{embedded}</script>'
    return "\n".join([*boxes, script] if boxes else [])
