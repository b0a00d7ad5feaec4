"""The report as one self-contained HTML file: no network, no framework; figures, fonts and pictures are inside."""

import base64
import hashlib
import html
import io
import re
from itertools import pairwise
from pathlib import Path

import latex2mathml.converter
import ziamath
from fontTools import subset

from mmutils.report import figures, markdown, plots

HERE = Path(__file__).parent
_PLACE = "EXPLORER-GOES-HERE"


def render(text: str, folder: Path, explorer: str = "") -> str:
    """A page from the report's filled Markdown, whose pictures are relative to `folder`; `explorer` is ready HTML."""
    text = markdown.without(text, "explorer", f"## Explorer\n\n{_PLACE}\n" if explorer else "")
    md = markdown.parser()
    tokens = md.parse(markdown.without_comments(text))
    contents = _number_headings(tokens)
    rules = {"image": _image, "text": _text, "math_inline": _formula, "math_block": _formula, "table_open": _table_open,
             "table_close": _table_close, "th_open": _cell_open, "td_open": _cell_open,
             "paragraph_open": _paragraph_open, "paragraph_close": _paragraph_close}  # fmt: skip
    for name, rule in rules.items():
        md.add_render_rule(name, rule)
    body = md.renderer.render(tokens, md.options, {"folder": folder, "figures": 0})
    body = body.replace(f"<p>{_PLACE}</p>", explorer, 1)
    title = next((t.content for t in tokens if t.type == "inline"), "Report")
    page = (HERE / "page.html").read_text(encoding="utf-8")
    style = (HERE / "page.css").read_text(encoding="utf-8")
    script = f"\n{(HERE / 'page.js').read_text(encoding='utf-8')}\n"
    parts = {
        "TITLE": html.escape(_plain(title)),
        "STYLE": style.replace("DEVANAGARI", _devanagari(body)).replace("MATHEMATICS", _mathematics(body)),
        "CONTENTS": contents,
        "BODY": body,
        "SCRIPT": script,
        "SCRIPT_HASH": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def data_uri(content: bytes, kind: str) -> str:
    """A `data:` address that holds the content itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _number_headings(tokens: list) -> str:
    taken, items = set(), []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            anchor = markdown.slug(_plain(inline.content), taken)
            token.attrSet("id", anchor)
            if token.tag in ("h2", "h3"):
                label = html.escape(_plain(inline.content))
                items.append(f'<li class="{token.tag}"><a href="#{anchor}">{label}</a></li>')
    return "\n".join(items)


def _plain(text: str) -> str:
    return re.sub(r"[*_`$\\]|\]\([^)]*\)|\[", "", text)


def _image(renderer, tokens, index, options, env) -> str:
    """The picture itself; its text alone where it lies elsewhere than in figures/ or holds more than a picture does."""
    token = tokens[index]
    text, file = markdown.words(token), figures.path(env["folder"], token.attrGet("src"))
    if file and file.suffix == ".svg":
        env["figures"] += 1
        return _inline_svg(file, f"f{env['figures']}-", text) or html.escape(text)
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


def _table_open(renderer, tokens, index, options, env) -> str:
    return '<div class="scroll" tabindex="0"><table>\n'


def _table_close(renderer, tokens, index, options, env) -> str:
    return "</table></div>\n"


def _cell_open(renderer, tokens, index, options, env) -> str:
    kind = ' class="number"' if "right" in (tokens[index].attrGet("style") or "") else ""
    return f"<{tokens[index].tag}{kind}>"


def _text(renderer, tokens, index, options, env) -> str:
    """Text in which a number keeps its percent sign and a comparison its sides on one line."""
    return html.escape(re.sub(r"(?<=\d) (?=%)|(?<=\bp) (?=[<=])|(?<=[<=±]) (?=[.\d])", "\u00a0", tokens[index].content))


def _only_images(tokens, index) -> int:
    """How many images a paragraph consists of; 0 where there is anything else in it."""
    inline = tokens[index + 1 if tokens[index].nesting == 1 else index - 1]
    kinds = [child.type for child in inline.children or [] if child.type != "softbreak"]
    return len(kinds) if kinds and set(kinds) == {"image"} else 0


def _paragraph_open(renderer, tokens, index, options, env) -> str:
    if tokens[index].hidden:
        return ""
    images = _only_images(tokens, index)
    if images:
        return f'<div class="figures{" many" if images > 1 else ""}">'
    return '<p class="caption">' if markdown.is_caption(tokens[index + 1]) else "<p>"


def _paragraph_close(renderer, tokens, index, options, env) -> str:
    if tokens[index].hidden:
        return ""
    return "</div>\n" if _only_images(tokens, index) else "</p>\n"


def _devanagari(text: str) -> str:
    """The font for the page's Hindi; empty where the page has none or the font is missing."""
    letters = {ord(c) for c in text if "\u0900" <= c <= "\u097f"}
    return _font(plots.FONT, letters | {0x200C, 0x200D, 0x25CC}) if letters and plots.FONT.exists() else ""


def _mathematics(text: str) -> str:
    """The font for the page's formulas (STIX Two, in ziamath): browsers' own substitutes set sums and primes badly."""
    letters = {ord(c) for formula in re.findall(r"<math.*?</math>", text, re.DOTALL) for c in html.unescape(formula)}
    slanted = {*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6FC, 0x1D714)}  # what single letters are shown as
    slanted |= {0x221A}  # drawn for roots without being in the text
    return _font(Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf", letters | slanted)


def _font(path: Path, letters: set[int]) -> str:
    """A data URI (WOFF) of the font with these letters and all that they need for shaping."""
    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True, recalc_timestamp=False)
    font = subset.load_font(str(path), options)
    worker = subset.Subsetter(options)
    worker.populate(unicodes=letters)
    worker.subset(font)
    buffer = io.BytesIO()
    subset.save_font(font, buffer, options)
    return data_uri(buffer.getvalue(), "font/woff")
