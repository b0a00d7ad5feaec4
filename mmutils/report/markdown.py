"""Markdown as the report uses it: CommonMark with tables and formulas, blocks between markers, and escaping of data."""

import html
import re

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

BLOCK = re.compile(r"(<!-- begin: ([\w-]+) -->\n)(.*?)(<!-- end: \2 -->)", re.DOTALL)


def parser() -> MarkdownIt:
    """The parser of both renderers. HTML in the source is text, so nothing in the data can become markup."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    return parser.use(dollarmath_plugin, double_inline=False).use(anchors_plugin, max_level=6)


def fill(text: str, blocks: dict[str, str]) -> str:
    """The text with the content between `<!-- begin: NAME -->` and `<!-- end: NAME -->` replaced by `blocks[NAME]`."""

    def content(match: re.Match) -> str:
        if match[2] not in blocks:
            raise ValueError(f"no block {match[2]!r} for a marker in the text; there are: {', '.join(sorted(blocks))}")
        inner = blocks[match[2]].strip("\n")
        return match[1] + (f"\n{inner}\n\n" if inner else "") + match[4]

    filled = BLOCK.sub(content, text)
    if filled.count("<!-- begin:") != len(BLOCK.findall(filled)):
        raise ValueError("a marker '<!-- begin: NAME -->' has no '<!-- end: NAME -->' on a line below it")
    return filled


def without_comments(text: str, explorer: str = "") -> str:
    """The text without markers and other comments that begin a line, and with `explorer` in place of that block."""
    text = BLOCK.sub(lambda match: explorer if match[2] == "explorer" else match[0], text)
    return re.sub(r"^<!--.*?-->\n?", "", text, flags=re.DOTALL | re.MULTILINE)


def visible(text: str) -> str:
    """The text without control characters and those that turn the direction of reading."""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff]", "", text)


def escape(text: object) -> str:
    """A string from data as Markdown text on one line: no character of it is read as markup or as a formula."""
    line = visible(" ".join(str(text).split()))
    return html.escape(re.sub(r"([\\`*_{}\[\]|$~!#])", r"\\\1", line), quote=False)


def table(header: list[str], rows: list[list[str]], numbers: slice = slice(1, None)) -> str:
    """A GFM table; the columns in the slice `numbers` are aligned right. Cells are Markdown."""
    rule = ["---"] * len(header)
    rule[numbers] = ["--:"] * len(rule[numbers])
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def words(token: Token) -> str:
    """What a token and those inside it show, as plain text."""
    if token.children:
        return "".join(map(words, token.children))
    return " " if token.type in ("softbreak", "hardbreak") else token.content


def is_caption(paragraph: SyntaxTreeNode) -> bool:
    """Whether a paragraph is emphasised from its first to its last letter, as the captions of tables are."""
    return [child.type for child in paragraph.children[0].children] == ["em"]
