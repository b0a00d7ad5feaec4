"""The report as one self-contained HTML file: no network, no framework; figures, fonts and pictures are inside."""

import base64
import hashlib
import html
import io
import re
from itertools import count, pairwise
from pathlib import Path

import latex2mathml.converter
import ziamath
from fontTools import subset
from markdown_it.token import Token

from mmutils.report import figures, markdown, plots

FOLDER = Path(__file__).parent
MATHEMATICS = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
_PLACE = "EXPLORER-GOES-HERE"


def render(text: str, folder: Path, explorer: str = "") -> str:
    """A page from the report's filled Markdown, whose pictures are relative to `folder`; `explorer` is ready HTML."""
    text = markdown.without(text, "explorer", f"## Explorer\n\n{_PLACE}\n" if explorer else "")
    parser = markdown.parser()
    for kind, rule in {"image": _image, "text": _text, "math_inline": _formula, "math_block": _formula}.items():
        parser.add_render_rule(kind, rule)
    tokens = parser.parse(markdown.without_comments(text))
    _mark(tokens)
    body = parser.renderer.render(tokens, parser.options, {"folder": folder, "figures": count(1)})
    body = body.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    body = body.replace(f"<p>{_PLACE}</p>", explorer, 1)
    page, style, script = ((FOLDER / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    script = f"\n{script}\n"
    parts = {
        "TITLE": html.escape(markdown.title(tokens)),
        "STYLE": style.replace("DEVANAGARI", _devanagari(body)).replace("MATHEMATICS", _mathematics(body)),
        "CONTENTS": _contents(tokens),
        "BODY": body,
        "SCRIPT": script,
        "SCRIPT_HASH": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def data_uri(content: bytes, kind: str) -> str:
    """A `data:` address that holds the content itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _mark(tokens: list[Token]) -> None:
    """Give cells and paragraphs the classes that page.css knows."""
    for opening, inline, closing in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if opening.type in ("th_open", "td_open"):
            opening.attrs = {"class": "number"} if markdown.is_right(opening) else {}
        elif opening.type == "paragraph_open" and (images := markdown.images(inline)):
            opening.tag = closing.tag = "div"
            opening.attrs = {"class": "figures many" if len(images) > 1 else "figures"}
        elif opening.type == "paragraph_open" and markdown.is_caption(inline):
            opening.attrs = {"class": "caption"}


def _contents(tokens: list[Token]) -> str:
    headings = [pair for pair in pairwise(tokens) if pair[0].type == "heading_open" and pair[0].tag in ("h2", "h3")]
    return "\n".join(
        f'<li class="{heading.tag}"><a href="#{heading.attrGet("id")}">{html.escape(markdown.words(inline))}</a></li>'
        for heading, inline in headings
    )


def _image(renderer, tokens, index, options, env) -> str:
    """The picture itself; its text alone where it lies elsewhere than in figures/ or holds more than a picture does."""
    token = tokens[index]
    text, file = markdown.words(token), figures.path(env["folder"], token.attrGet("src"))
    if file and file.suffix == ".svg":
        return _inline_svg(file, f"f{next(env['figures'])}-", text) or html.escape(text)
    content = figures.png(file) if file else None
    return f'<img alt="{html.escape(text)}" src="{data_uri(content, "image/png")}">' if content else html.escape(text)


def _inline_svg(file: Path, prefix: str, text: str) -> str | None:
    """The <svg> element with ids of its own, ink in the colour of the text around it, and no paper behind it."""
    width = re.search(r'<svg[^>]* width="([\d.]+)pt"', file.read_text(encoding="utf-8", errors="replace"))
    inches = float(width[1]) / 72 if width else 7.0
    style = f"max-width:{1.25 * inches:.2f}in" + (f";min-width:{0.8 * inches:.2f}in" if inches > 5 else "")
    root = {"role": "img", "aria-label": text, "style": f"{style};stroke-linejoin:round", "width": "", "height": ""}
    return figures.svg(file, root, prefix, _on_any_paper)


def _on_any_paper(value: str) -> str:
    return value.replace(plots.INK, "currentColor").replace(f"fill: {plots.PAPER}", "fill: none")


def _formula(renderer, tokens, index, options, env) -> str:
    block = tokens[index].type == "math_block"
    mathml = latex2mathml.converter.convert(tokens[index].content, display="block" if block else "inline")
    return f'<div class="scroll">{mathml}</div>\n' if block else mathml


def _text(renderer, tokens, index, options, env) -> str:
    """Text in which a number keeps its percent sign and a comparison its sides on one line."""
    return html.escape(re.sub(r"(?<=\d) (?=%)|(?<=\bp) (?=[<=])|(?<=[<=±]) (?=[.\d])", "\u00a0", tokens[index].content))


def _devanagari(text: str) -> str:
    """The font for the page's Hindi; empty where the page has none."""
    letters = {ord(c) for c in text if "\u0900" <= c <= "\u097f"}
    return _font(plots.FONT, letters | {0x200C, 0x200D, 0x25CC}) if letters else ""


def _mathematics(text: str) -> str:
    """The font for the page's formulas (STIX Two): browsers' own substitutes set sums and primes badly."""
    letters = {ord(c) for formula in re.findall(r"<math.*?</math>", text, re.DOTALL) for c in html.unescape(formula)}
    slanted = {*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6FC, 0x1D714)}  # what single letters are shown as
    return _font(MATHEMATICS, letters | slanted | {ord("√")})  # drawn for roots without being in the text


def _font(path: Path, letters: set[int]) -> str:
    """A data URI (WOFF) of the font with these letters and all that they need for shaping."""
    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True, recalc_timestamp=False)
    font = subset.load_font(str(path), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=letters)
    subsetter.subset(font)
    buffer = io.BytesIO()
    subset.save_font(font, buffer, options)
    return data_uri(buffer.getvalue(), "font/woff")
