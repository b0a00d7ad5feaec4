"""Values from a command line, a YAML file or papermill: converted to the type that is declared, or refused.

`papermill -p frozen false` gives the text 'false', which Python takes for true. So a value is never used as it comes.
"""

from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

NAMES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "tuple": tuple, "dict": dict, "Any": Any}


def typed(name: str, value: Any, annotation: str) -> Any:
    """The value as the annotation says, such as "bool", "list[int]" or "str | None".

    Texts are read as numbers, true or false, and for lists and dicts as YAML. ValueError names the parameter: a text
    that says no such thing, a number for a text, true or false for a number, nan or infinity.
    """
    kind = eval(annotation, {"__builtins__": {}}, NAMES)
    if isinstance(value, str) and annotation.startswith(("list", "dict", "tuple")):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"parameter {name} is {annotation}; {value!r} is no list or dict in YAML") from None
    try:
        if isinstance(value, bool) and kind in (int, float):
            raise ValueError
        return TypeAdapter(kind, config={"allow_inf_nan": False}).validate_python(value)
    except (ValidationError, ValueError):
        hint = f"; `papermill -r {name} {value}` passes it as a text" if kind is str else ""
        raise ValueError(f"parameter {name} is {annotation}, given {value!r}, a {type(value).__name__}{hint}") from None


def printable(text: object) -> str:
    """Text from data or files for a terminal: control characters and direction marks are shown, not obeyed."""
    return "".join(c if c in "\n\t" or not _commands(c) else f"\\x{ord(c):02x}" for c in str(text))


def _commands(character: str) -> bool:
    code = ord(character)
    return code < 32 or 127 <= code < 160 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
