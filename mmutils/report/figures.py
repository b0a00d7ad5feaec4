"""Pictures of the report as both renderers take them: from figures/ alone, and SVG taken apart and written anew.

A report can hold runs from elsewhere. A picture must not bring a file of the user into the page, and an SVG inside a
page could run a script, load from the net or lie over the text. So an SVG that holds anything but shapes is refused.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

SPACE, LINKS = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ELEMENTS = {"svg", "g", "defs", "use", "clipPath", "text", "tspan", "title", "desc"}
ELEMENTS |= {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon"}
DROPPED = {"metadata", "style"}  # matplotlib's date and its rule for the joins of lines
ATTRIBUTE = re.compile(
    r"[xydr]|[xy][12]|[cdr][xy]|width|height|points|style|transform|viewBox|version|opacity|text-anchor|clip-(path|rule)"
    r"|(fill|stroke|font)(-[a-z]+)?"
)
VALUE = re.compile(r"[\w\s:;,.%#()+'\"-]*")  # no address, no escape, no comment, no rule
UNFIT = re.compile(r"(?i)url\s*\((?!#[\w.-]+\))|expression|image|src\s*\(|position")


def read(folder: Path, address: str, prefix: str = "") -> bytes | None:
    """The content of a picture: an <svg> element with shapes alone, or a PNG; None for anything else.

    Only files right in `folder`/figures are read, and no links. `prefix` is put before every id of an SVG.
    """
    file = folder / address
    fit = re.fullmatch(r"figures/[A-Za-z0-9][\w.-]*\.(svg|png)", address, re.ASCII)
    if not (fit and file.is_file() and file.resolve() == folder.resolve() / address):
        return None
    try:
        if file.suffix == ".png":
            with Image.open(file, formats=["PNG"]) as picture:
                picture.verify()
            return file.read_bytes()
        source = re.sub(r">\s+<", "><", file.read_text(encoding="utf-8"))
        tree = ElementTree.fromstring(source[source.index("<svg") :])  # no DOCTYPE with its entities
        _clean(tree, set(re.findall(r"#([\w.-]+)", source)), prefix)
    except (OSError, SyntaxError, ValueError, RecursionError, Image.DecompressionBombError):
        return None
    tree.attrib |= {"xmlns": SPACE, "style": "stroke-linejoin:round;stroke-linecap:butt"}
    return ElementTree.tostring(tree)


def _clean(element: ElementTree.Element, used: set[str], prefix: str) -> None:
    """Drops the namespaces, ids that are not used, and what is not shown; anything but shapes is an error."""
    space, _, element.tag = element.tag.rpartition("}")
    if space != f"{{{SPACE}" or element.tag not in ELEMENTS:
        raise ValueError(f"an element {element.tag}")
    attributes, element.attrib = element.attrib, {}
    for key, value in attributes.items():
        if key in ("href", f"{{{LINKS}}}href") and re.fullmatch(r"#[\w.-]+", value):
            element.set("href", f"#{prefix}{value[1:]}")
        elif key == "id":
            element.attrib |= {"id": prefix + value} if value in used else {}
        elif ATTRIBUTE.fullmatch(key) and VALUE.fullmatch(value) and not UNFIT.search(value):
            element.set(key, value.replace("url(#", f"url(#{prefix}"))
        else:
            raise ValueError(f"an attribute {key}")
    for child in list(element):
        if child.tag.rpartition("}")[2] in DROPPED:
            element.remove(child)
        else:
            _clean(child, used, prefix)
