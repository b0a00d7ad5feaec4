"""What the report reads of a record's `extra`: the entries that notebooks add of their own, with their types.

A record is checked when it is loaded; these entries only here, as each notebook is free to add others.
"""

from typing import Literal

from mmutils.runs.schema import Entries, Number, Seed, Text, check_types


class _Counted(Entries):
    what: Text
    values: int


class _Audit(Entries):
    counts: list[dict[Text, Text | int | None]]
    leaks: list[_Counted]
    duplicates: list[_Counted]


class _Probe(Entries):
    encoder: Text
    seed: Seed
    probe: Literal["knn", "linear"]
    split: Literal["val", "test"]
    effective_rank: Number | None


class _Interval(Entries):
    score: Number | None
    low: Number | None
    high: Number | None


class _Model(_Interval):
    model: Text
    change: Number | None
    change_low: Number | None
    change_high: Number | None
    p_value: Number | None


class _Noise(_Interval):
    side: Text
    level: Number


class _Slice(_Interval):
    slice: Text
    examples: int


class _Gap(Entries):
    score: Literal["f1_macro", "f1_weighted", "accuracy"]
    estimate: Number
    low: Number
    high: Number
    p_value: Number
    en_estimate: Number
    hi_estimate: Number


class _Extra(Entries):
    audit: dict[Text, _Audit] = {}
    probes: list[_Probe] = []
    retrieval: dict[Text, dict[Text, Number]] = {}
    queries: dict[Text, list[Text]] = {}
    modality_use: dict[Text, list[_Model]] = {}
    noise: dict[Text, list[_Noise]] = {}
    gap: list[_Gap] = []
    slices: dict[Text, list[_Slice]] = {}
    paired: int = 0
    encoder: Text = ""


def check(extra: dict) -> None:
    """ValueError names the first entry that the report could not show."""
    check_types(_Extra, extra)
