"""Values become what their parameter is declared as, or are refused by name."""

import math

import pytest

from mmutils.models import fusion
from mmutils.runs.parameters import FUSIONS, all_typed, printable, typed


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("no", "bool", False),
        ("True", "bool", True),
        ("12", "int", 12),
        (4.0, "int", 4),
        ("5e-4", "float", 5e-4),
        (2, "float", 2.0),
        ("no", "str", "no"),
        ("[3, 4]", "list[int]", [3, 4]),
        ("{CLIP: [image]}", "dict", {"CLIP": ["image"]}),
        (["7"], "list[int]", [7]),
        (None, "int | None", None),
        ("8", "int | None", 8),
        ([None, True], "list", [None, True]),
    ],
)
def test_a_value_becomes_what_is_declared(value, annotation, expected):
    result = typed("x", value, annotation)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("flase", "bool"),
        (2, "bool"),
        (2.5, "int"),
        (True, "int"),
        (False, "float"),
        ([1, True], "list[int]"),
        (True, "int | None"),
        (math.nan, "float"),
        ([math.inf], "list[float]"),
        ("nan", "float"),
        (3, "str"),
        ("image", "list"),
        ("[a, {", "dict"),
        ([1], "Tensor"),
        ([1], "list[["),
    ],
)
def test_what_is_something_else_is_refused_by_name(value, annotation):
    with pytest.raises(ValueError, match="parameter width"):
        typed("width", value, annotation)


def test_all_that_is_wrong_is_listed_and_an_annotation_may_be_missing():
    declared = {"width": (3, "int"), "deep": (False, None), "free": (None, None), "name": ("a", None)}
    assert all_typed({"width": "4", "deep": "on", "free": [1]}, declared) == {"width": 4, "deep": True, "free": [1]}
    with pytest.raises(ValueError, match=r"(?s)parameter width is int.*\n.*parameter name is str"):
        all_typed({"width": "wide", "deep": 1, "name": 5}, declared)


def test_a_terminal_obeys_no_text_from_data():
    assert printable("\x1b[2J\r\x9b1m\u202egnp.exe\ud800") == "\\x1b[2J\\x0d\\x9b1m\\x202egnp.exe\\xd800"
    assert printable("मदद\u200d\tok\n") == "मदद\u200d\tok\n"  # joiners are part of Hindi's writing


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("seeds", "[]", [0]),
        ("seeds", [0, 1, 0], [0, 1]),
        ("shares", [1.0, 0.0], [0.1, 1.0]),
        ("precision", "fp16", "bf16"),
        ("epochs", "0", 1),
        ("fusion", "gatd", "gated"),
        ("fusions", ["late", "gatd"], ["late", "gated"]),
    ],
)
def test_what_all_notebooks_share_keeps_its_rule(name, wrong, right):
    declared = {name: (right, None)}
    with pytest.raises(ValueError, match=f"parameter {name} is .*: give "):
        all_typed({name: wrong}, declared)
    assert all_typed({name: right}, declared) == {name: right}
    assert set(FUSIONS) == set(fusion.FUSIONS)
