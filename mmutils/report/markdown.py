"""Markdown as the report uses it: CommonMark with tables and formulas, blocks between markers, and escaping of data."""

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

_BLOCK = re.compile(r"(<!-- begin: ([\w-]+) -->\n)(.*?)(<!-- end: \2 -->)", re.DOTALL)
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_COMMENT = re.compile(r"^<!--.*?-->\n?", re.DOTALL | re.MULTILINE)


def parser() -> MarkdownIt:
    """The parser of both renderers. HTML in the source is text, so nothing in the data can become markup."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    return parser.use(dollarmath_plugin, double_inline=False).use(anchors_plugin, max_level=6)


def fill(text: str, blocks: dict[str, str]) -> str:
    """The text with the content between `<!-- begin: NAME -->` and `<!-- end: NAME -->` replaced by `blocks[NAME]`.

    A marker without a block raises ValueError and lists the blocks there are; blocks without a marker are left out.
    """

    def content(match: re.Match) -> str:
        if match[2] not in blocks:
            raise ValueError(f"no block {match[2]!r} for a marker in the text; there are: {', '.join(sorted(blocks))}")
        inner = blocks[match[2]].strip("\n")
        return match[1] + (f"\n{inner}\n\n" if inner else "") + match[4]

    filled = _BLOCK.sub(content, text)
    if filled.count("<!-- begin:") != len(_BLOCK.findall(filled)):
        raise ValueError("a marker '<!-- begin: NAME -->' has no '<!-- end: NAME -->' on a line below it")
    return filled


def without(text: str, name: str, instead: str = "") -> str:
    """The text with the whole block of that name, content and markers, replaced."""
    return _BLOCK.sub(lambda match: instead if match[2] == name else match[0], text)


def without_comments(text: str) -> str:
    """The text without the markers and other comments that begin a line."""
    return _COMMENT.sub("", text)


def visible(text: str) -> str:
    """The text without control characters and those that turn the direction of reading."""
    return _UNSEEN.sub("", text)


def escape(text: object) -> str:
    """A string from data as Markdown text on one line: no character of it is read as markup or as a formula."""
    line = visible(" ".join(str(text).split()))
    line = re.sub(r"([\\`*_{}\[\]|$~!#])", r"\\\1", line).replace("&", "&amp;")
    return line.replace("<", "&lt;").replace(">", "&gt;")


def table(header: list[str], rows: list[list[str]], numbers: slice = slice(1, None)) -> str:
    """A GFM table; the columns in the slice `numbers` are aligned right. Cells are Markdown."""
    right = range(len(header))[numbers]
    rule = ["--:" if position in right else "---" for position in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def words(token: Token) -> str:
    """What a token and those inside it show, as plain text."""
    if token.children:
        return "".join(map(words, token.children))
    return " " if token.type in ("softbreak", "hardbreak") else token.content


def title(tokens: list[Token]) -> str:
    """The first line of the text, which is its title."""
    return next((words(token) for token in tokens if token.type == "inline"), "Report")


def is_caption(inline: Token) -> bool:
    """Whether a paragraph is emphasised from its first to its last letter, as the captions of tables are."""
    kinds = [child.type for child in inline.children]
    return kinds[:1] == ["em_open"] and kinds[-1] == "em_close" and kinds.count("em_open") == 1


def is_right(cell: Token) -> bool:
    """Whether a table's cell is aligned right."""
    return cell.attrGet("style") == "text-align:right"


def images(inline: Token) -> list[Token]:
    """The images of a paragraph that has nothing else in it."""
    children = [child for child in inline.children if child.type != "softbreak"]
    return children if all(child.type == "image" for child in children) else []
