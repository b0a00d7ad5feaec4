"""Values from a command line, a YAML file or papermill: converted to the type that is declared, or refused.

`papermill -p frozen false` gives the text 'false', which Python takes for true. So no value is used as it comes.
"""

import os
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, TextIO

import yaml
from pydantic import BeforeValidator, TypeAdapter, ValidationError


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


NUMBERS = {name: Annotated[kind, BeforeValidator(_no_bool)] for name, kind in (("int", int), ("float", float))}
NAMES = {"str": str, "bool": bool, "list": list, "tuple": tuple, "dict": dict, "Any": Any, **NUMBERS}
COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # to a terminal


FUSIONS = ("concatenation", "gated", "cross_attention", "compare", "late")  # of models.fusion, which loads torch
RULES = {  # of parameters that all notebooks share: what they must be, and how that is said
    "seeds": (lambda seeds: 0 < len(set(seeds)) == len(seeds), "one or more, each once"),
    "shares": (lambda shares: shares and all(0 < share <= 1 for share in shares), "one or more, above 0, at most 1"),
    "fusion": (lambda fusion: fusion in FUSIONS, f"one of {', '.join(FUSIONS)}"),
    "fusions": (lambda fusions: 0 < len({*fusions} & {*FUSIONS}) == len(fusions), f"some of {', '.join(FUSIONS)}"),
    "precision": (lambda precision: precision in ("auto", "no", "bf16"), "auto, no or bf16"),
    **dict.fromkeys(("epochs", "tune_epochs", "batch_size"), (lambda number: number > 0, "1 or more")),
}


def typed(name: str, value: Any, annotation: str) -> Any:
    """The value as the annotation says, such as "list[int]"; texts are read. ValueError names the parameter.

    Refused: another type, true or false for a number, nan and infinity, an unknown annotation.
    """
    try:
        kind = eval(annotation, {"__builtins__": {}}, NAMES)
        if isinstance(value, str) and annotation.startswith(("list", "dict", "tuple")):
            value = yaml.safe_load(value)
        return TypeAdapter(kind, config={"allow_inf_nan": False}).validate_python(value)
    except (NameError, SyntaxError, TypeError, AttributeError):
        raise ValueError(f"parameter {name}: type {annotation!r}; there are {', '.join(NAMES)}") from None
    except yaml.YAMLError:
        raise ValueError(f"parameter {name} is {annotation}; {value!r} is no list or dict in YAML") from None
    except ValidationError:
        hint = f"; as a text: `papermill -r {name} {value}`, in YAML in quotes" if kind is str else ""
        raise ValueError(f"parameter {name} is {annotation}, given {value!r}, a {type(value).__name__}{hint}") from None


def all_typed(values: Mapping[str, Any], declared: Mapping[str, tuple[Any, str | None]]) -> dict[str, Any]:
    """The values, typed as their name's (default, annotation) in `declared`; ValueError lists all that are wrong.

    Those that all notebooks share keep `RULES`, too.
    """
    converted, errors = {}, []
    for name, value in values.items():
        default, annotation = declared[name]
        try:
            kind = annotation or ("Any" if default is None else type(default).__name__)
            converted[name] = value = typed(name, value, kind)
            holds, rule = RULES.get(name, (None, ""))
            if holds and not holds(value):
                raise ValueError(f"parameter {name} is {value!r}: give {rule}")
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ValueError("\n".join(errors))
    return converted


def show(text: object, stream: TextIO | None = None) -> None:
    """Print a text from data or files; a reader that has read enough, such as `head`, is no error."""
    stream = stream or sys.stdout
    try:
        print(printable(text), file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # also for what is printed later


def printable(text: object) -> str:
    """Text from data or files for a terminal: control characters and direction marks are shown, not obeyed."""
    return COMMANDS.sub(lambda match: f"\\x{ord(match[0]):02x}", str(text))
