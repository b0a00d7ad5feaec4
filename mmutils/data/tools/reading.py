"""What is read from files of strangers: text line by line, and names of pictures that may not leave their folder."""

import os
import re
from pathlib import Path


def text(path: str | Path) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark; ValueError names the line at fault."""
    content = Path(path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {number} is not text in UTF-8 ({error.reason}): save it as UTF-8") from None


def lines(path: str | Path) -> list[tuple[int, str]]:
    """Number and content of each line that is not empty. Lines end with LF or CR LF; a CR inside one is a character."""
    numbered = enumerate(text(path).split("\n"), 1)
    return [(number, line) for number, line in ((n, line.removesuffix("\r")) for n, line in numbered) if line.strip()]


def storable(value: str) -> bool:
    """Whether a text can be written as UTF-8: half a surrogate pair, as JSON and file names can hold, cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def relative(name: str) -> str:
    """The name of a file below a folder, with slashes for backslashes; ValueError where it leads out of the folder."""
    plain = os.path.normpath(name.replace("\\", "/"))
    if plain.startswith("/") or re.match("[A-Za-z]:", plain):
        raise ValueError(f"the path {name!r} is absolute")
    if plain.split("/")[0] == "..":
        raise ValueError(f"the path {name!r} leads out")
    if not storable(plain) or "\0" in plain:
        raise ValueError(f"the path {name!r} is no name of a file")
    return plain


def inside(root: str | Path, name: str, where: str = "") -> str:
    """Path of a file under a folder, from the name that a data set's file gives it.

    Args:
        root: the folder of the data set.
        name: relative to it; backslashes are read as slashes.
        where: file and line that the name is from, for the error.

    Raises:
        ValueError: the name is absolute, or leaves the folder by "..", a drive or a link.
    """
    try:
        path = Path(root, relative(name))
        home, real = os.path.realpath(root), os.path.realpath(path)
        if real != home and not real.startswith(home.rstrip(os.sep) + os.sep):
            raise ValueError(f"the path {name!r} leads out by a link")
    except ValueError as error:
        start = f"{where}: " if where else ""
        raise ValueError(
            f"{start}{error}: files must lie in {root} and be named relative to it, as img/1.png"
        ) from None
    return str(path)
