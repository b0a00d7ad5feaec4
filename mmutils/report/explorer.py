"""The explorer: test examples with picture, texts and predictions as JSON inside the page; page.js makes it work.

Strings are data, not markup: JSON with `<` written as an escape, and shown as text by the script.
"""

import html
import io
import json
from typing import NamedTuple

import pandas as pd
from PIL import Image

from mmutils.data.tools import pictures
from mmutils.report.html import data_uri
from mmutils.report.sections import LANGUAGES

MOST_BYTES = 2_000_000  # of pictures; where they are more, evenly spaced examples are shown
SIDE = 72  # pixels


def thumbnail(path: str) -> bytes:
    """A small PNG of a picture, at most SIDE pixels wide and high, in 64 colours, transparency kept."""
    picture = pictures.open_picture(path).convert("RGBA")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.quantize(64, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class Explorer(NamedTuple):
    """What a study's explorer shows.

    tables: by language, examples with `image`, `text`, `label`, index id. systems: triples of title, system and
    averaged predictions by id.
    """

    title: str
    tables: dict[str, pd.DataFrame]
    systems: list[tuple]
    classes: list[str]


def explorer_html(given: list[Explorer]) -> str:
    """The explorers' HTML, one after the other; a picture that several of them show is embedded once."""
    numbers: dict[bytes, int] = {}
    boxes = [_box(explorer, numbers) for explorer in given]
    embedded = json.dumps([data_uri(picture, "image/png") for picture in numbers], indent=0)
    return "\n".join([*boxes, f'<script type="application/json" id="explorer-pictures">{embedded}</script>'])


def _box(explorer: Explorer, numbers: dict[bytes, int]) -> str:
    """One explorer; its pictures are added to `numbers`."""
    title, tables, systems, classes = explorer
    first = next(iter(tables.values()))
    first = first[[all(i in table.index for _, _, table in systems) for i in first.index]]  # a run may take a few only
    thumbnails = {path: thumbnail(path) for path in first["image"].dropna().unique()}
    size = sum(map(len, set(thumbnails.values()))) * 4 / 3
    shown = first.iloc[:: max(1, -(-int(size) // MOST_BYTES))]
    content = {
        "classes": classes,
        "languages": list(tables),
        "systems": [{"name": name, "inputs": s["inputs"], "language": s["language"]} for name, s, _ in systems],
        "examples": [
            {
                "label": int(row["label"]),
                "picture": None
                if pd.isna(row["image"])
                else numbers.setdefault(thumbnails[row["image"]], len(numbers)),
                "text": {language: str(table.loc[i, "text"]) for language, table in tables.items()},
                "guess": [_guess(table.loc[i]) for _, _, table in systems],
            }
            for i, row in shown.iterrows()
        ],
    }
    code = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
    options = "".join(f'<option value="{k}">{html.escape(name)}</option>' for k, name in enumerate(classes))
    spoken = "".join(f'<option value="{language}">{LANGUAGES[language]}</option>' for language in tables)
    return _FORM.format(title=html.escape(title), classes=options, languages=spoken, data=code)


def _guess(row: pd.Series) -> list:
    guess = int(row["guess"])
    return [guess, round(float(row[f"p_{guess}"]), 3)]


_FORM = """<div class="explorer">
<h3>{title}</h3>
<p>Test examples, their texts, and what each chosen system says: the class with the highest probability, averaged over
seeds. "Fusion" is the first that reads both.</p>
<form>
<label>Agreement<select name="agreement"><option value="">any</option>
<option value="rescued">text wrong, fusion right</option>
<option value="lost">text right, fusion wrong</option><option value="all">all right</option>
<option value="none">all wrong</option></select></label>
<label>Language<select name="language"><option value="">any</option>{languages}</select></label>
<label>Class<select name="label"><option value="">any</option>{classes}</select></label>
<label>Words<input name="words" type="search" size="14"></label>
</form>
<output aria-live="polite"></output><div class="cards"></div><button class="more" type="button">Show more</button>
<script type="application/json">{data}</script>
</div>"""
