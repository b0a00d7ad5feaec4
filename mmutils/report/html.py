"""The report as one self-contained HTML file: no network, no framework; figures, fonts and pictures are inside.

Pictures are those that this rendering has drawn itself, by name: nothing is read from files that lie in the folder.
"""

import base64
import hashlib
import html
import io
import re
from itertools import count
from pathlib import Path

import latex2mathml.converter
import ziamath
from fontTools import subset
from markdown_it.tree import SyntaxTreeNode

from mmutils.report import markdown, plots

MATHEMATICS = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
_SLANTED = {*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6FC, 0x1D714)}  # what single letters are shown as
_PLACE = "EXPLORER-GOES-HERE"
_INVISIBLE = re.compile(r"<!--.*?-->|<[!?][^>]*>|<(metadata|style).*?</\1>|\s+(?=<)", re.DOTALL)
MANY = 4  # figures and tables; a section with more is closed until it is asked for
_SHAPES = {"svg", "g", "defs", "use", "clipPath", "path", "rect"}  # no script, no link, no picture from elsewhere
_JOINS = "stroke-linejoin:round;stroke-linecap:butt"  # what matplotlib says in a rule for the whole page
_TOGETHER = re.compile(r"(?<=[\d\]]) (?=%)|(?<=,) (?=[+−]?[\d.]+\])|(?<=\bp) (?=[<=])|(?<=[<=±]) (?=[.\d])")


def render(text: str, pictures: dict[str, bytes], explorer: str = "") -> str:
    """A page from the report's filled Markdown and its pictures by the name of their file; `explorer` is ready HTML."""
    parser = markdown.parser()
    for kind, rule in {"image": _image, "math_inline": _formula, "math_block": _formula}.items():
        parser.add_render_rule(kind, rule)
    tokens = parser.parse(markdown.without_comments(text, f"## Explorer\n\n{_PLACE}\n" if explorer else ""))
    contents = []
    for node in SyntaxTreeNode(tokens).walk():
        if node.type == "text":  # a number keeps its percent sign, an interval its ends, a comparison its sides
            node.token.content = _TOGETHER.sub("\u00a0", node.content)
        elif node.type == "paragraph" and markdown.is_caption(node):
            node.nester_tokens.opening.attrSet("class", "caption")
        elif node.type == "heading" and node.tag in ("h2", "h3"):
            link = f'<a href="#{node.attrGet("id")}">{html.escape(markdown.words(node.children[0].token))}</a>'
            contents.append(f'<li class="{node.tag}">{link}</li>')
    body = parser.renderer.render(tokens, parser.options, {"pictures": pictures, "figures": count(1)})
    body = body.replace("<table>", '<div class="scroll" role="group" aria-label="table" tabindex="0"><table>').replace(
        "</table>", "</table></div>"
    )
    body = "".join(map(_folded, re.split("(?=<h[123])", body))).replace(f"<p>{_PLACE}</p>", explorer, 1)
    page, style, script = (Path(__file__).with_name(f"page.{end}").read_text("utf-8") for end in ("html", "css", "js"))
    letters = {*map(ord, html.unescape(body))}
    style = style.replace("DEVANAGARI", _font(plots.FONT, letters | {0x200C, 0x200D, 0x25CC}))
    style = style.replace("MATHEMATICS", _font(MATHEMATICS, letters | _SLANTED | {ord("√")}))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {"TITLE": html.escape(markdown.words(tokens[1])), "STYLE": style, "BODY": body}
    parts |= {"CONTENTS": "\n".join(contents), "SCRIPT": script, "SCRIPT_HASH": digest}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def _folded(section: str) -> str:
    """A section of the page with its content in a box that opens, where that is long."""
    counts = {"figures": section.count('role="img"'), "tables": section.count("<table>")}
    if sum(counts.values()) <= MANY or not section.startswith("<h3"):
        return section
    head, _, rest = section.partition("</h3>\n")
    said = " and ".join(f"{count} {kind if count > 1 else kind[:-1]}" for kind, count in counts.items() if count)
    return f'{head}</h3>\n<details class="fold"><summary>{said}</summary>\n{rest}</details>\n'


def data_uri(content: bytes, kind: str) -> str:
    """A `data:` address that holds the content itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _font(path: Path, letters: set[int]) -> str:
    """A font for the page's Hindi or formulas; browsers' own set sums and primes badly."""
    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True, recalc_timestamp=False)
    font, subsetter, buffer = subset.load_font(str(path), options), subset.Subsetter(options), io.BytesIO()
    subsetter.populate(unicodes=letters)
    subsetter.subset(font)
    subset.save_font(font, buffer, options)
    return data_uri(buffer.getvalue(), "font/woff")


def _image(renderer, tokens, index, options, env) -> str:
    """The picture itself, or its text alone where there is none of this name."""
    text, name = html.escape(markdown.words(tokens[index])), tokens[index].attrGet("src").removeprefix("figures/")
    if name not in env["pictures"]:
        return text
    if name.endswith(".png"):
        return f'<img alt="{text}" src="{data_uri(env["pictures"][name], "image/png")}">'
    svg = _INVISIBLE.sub("", env["pictures"][name].decode()).replace("<svg ", f'<svg style="{_JOINS}" ', 1)
    if not set(re.findall(r"<([^\s/>]+)", svg)) <= _SHAPES:
        return text
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\1f{next(env['figures'])}-", svg)  # ids are unique in the page
    svg = svg.replace(plots.INK, "currentColor").replace(f"fill: {plots.PAPER}", "fill: none")
    inches = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1]) / 72
    style = f"max-width:{1.25 * inches:.2f}in" + (f";min-width:{0.75 * inches:.2f}in" if inches > 5 else "")
    return f'<span role="img" aria-label="{text}" style="{style}">{svg}</span>'


def _formula(renderer, tokens, index, options, env) -> str:
    block = tokens[index].type == "math_block"
    mathml = latex2mathml.converter.convert(tokens[index].content, display="block" if block else "inline")
    return f'<div class="scroll">{mathml}</div>\n' if block else mathml
