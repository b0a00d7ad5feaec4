"""The explorer: test examples with picture, texts and predictions as JSON inside the page; page.js makes it work.

Strings are data, not markup: JSON with `<` written as an escape, and shown as text by the script.
"""

import html
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image

from mmutils.data.tools import pictures
from mmutils.report.html import data_uri
from mmutils.report.sections import LANGUAGES

MOST_BYTES = 2_000_000  # of pictures; where they are more, evenly spaced examples are shown
SIDE = 72  # pixels


class Explorer(NamedTuple):
    """What a study's explorer shows."""

    title: str
    tables: dict[str, pd.DataFrame]  # by language, examples with `image`, `text`, `label`, index id
    systems: list[tuple]  # title, system, and averaged predictions by id
    classes: list[str]


def thumbnail(path: str) -> bytes:
    """A small PNG of a picture, at most SIDE pixels wide and high, in 64 colours, transparency kept."""
    picture = pictures.open_picture(path).convert("RGBA")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.quantize(64, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def explorer_html(explorers: list[Explorer]) -> str:
    """The explorers' HTML, one after the other; a picture that several of them show is embedded once."""
    numbers: dict[bytes, int] = {}
    boxes = [_box(explorer, numbers) for explorer in explorers]
    embedded = json.dumps([data_uri(picture, "image/png") for picture in numbers], indent=0)
    return "\n".join([*boxes, f'<script type="application/json" id="explorer-pictures">{embedded}</script>'])


def _box(explorer: Explorer, numbers: dict[bytes, int]) -> str:
    """One explorer; its pictures are added to `numbers`."""
    title, tables, systems, classes = explorer
    shown = next(iter(tables.values()))
    for _, _, predictions in systems:  # a run may have predicted only some examples
        shown = shown[shown.index.isin(predictions.index)]
    thumbnails = {path: thumbnail(path) for path in shown["image"].dropna().unique()}
    size = sum(map(len, set(thumbnails.values()))) * 4 // 3  # as base64
    examples = []
    for name, row in shown.iloc[:: max(1, -(-size // MOST_BYTES))].iterrows():
        guesses = [(int(predictions.loc[name, "guess"]), predictions.loc[name]) for _, _, predictions in systems]
        examples.append(
            {
                "label": int(row["label"]),
                "picture": None
                if pd.isna(row["image"])
                else numbers.setdefault(thumbnails[row["image"]], len(numbers)),
                "text": {language: str(table.loc[name, "text"]) for language, table in tables.items()},
                "guess": [[guess, round(float(p[f"p_{guess}"]), 3)] for guess, p in guesses],
            }
        )
    content = {
        "classes": classes,
        "languages": list(tables),
        "systems": [{"name": name, "inputs": s["inputs"], "language": s["language"]} for name, s, _ in systems],
        "examples": examples,
    }
    form = Path(__file__).with_suffix(".html").read_text(encoding="utf-8").rstrip()
    return form.format(
        title=html.escape(title),
        classes=_options(enumerate(classes)),
        languages=_options((language, LANGUAGES[language]) for language in tables),
        data=json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c"),
    )


def _options(names: Iterable[tuple[object, str]]) -> str:
    return "".join(f'<option value="{value}">{html.escape(name)}</option>' for value, name in names)
