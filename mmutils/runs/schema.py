"""What a record holds: its entries in their order, and their types."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmutils.runs.parameters import printable

SCHEMA = 1
SPLITS = ("val", "test")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # of a run, and so of its folder
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, Field(max_length=100_000)]


class _Entries(BaseModel):
    """Entries of these types and any others; no text stands for a number."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Data(_Entries):
    name: Text
    fingerprint: Text
    splits: dict[Text, Any]
    built_in: bool
    language: Text | None = None


class _System(_Entries):
    system: Text
    inputs: Text
    language: Text | None
    method: Text
    model: Text
    weights: Text
    trained: Text
    chosen: bool
    encoder: Text | None = None  # of a pretraining run
    probe: Literal["knn", "linear", None] = None
    kept: Text | None = None
    variant: dict[Text, Text | Number] | None = None  # what tells it from the other forms of its run
    start: Text | None = None  # of a fine-tuning run
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    baseline: Text | None = None
    labels: Count | None = None
    val_labels: Count | None = None
    networks: Annotated[list[Text], Field(min_length=1)] | None = None


class _Failure(_Entries):
    system: Text
    seed: Seed
    reason: Text


class _Scores(_Entries):
    __pydantic_extra__: dict[str, Number | None]
    system: Text
    seed: Seed
    split: Literal[SPLITS]


class _Epoch(_Entries):
    __pydantic_extra__: dict[str, Number | Text | bool | None]
    system: Text | None = None
    seed: Seed = 0
    epoch: Count | None = None


class _Fingerprints(_Entries):
    notebook: Text
    files: dict[Text, Text]
    predictions: Text | None = None


class _Record(_Entries):
    """What every record has, in this order; this one is of a run that failed, so some of it is empty."""

    schema_: Literal[SCHEMA] = Field(alias="schema")
    run: Annotated[str, Field(pattern=f"^{NAME}$")]
    notebook: Text
    status: Literal["failed"]
    reason: Text
    study: Text | None
    data: dict[Text, Any]
    classes: list[Text]
    parameters: dict[Text, Any]
    systems: list[_System]
    failed: list[_Failure]
    scores: list[_Scores]
    history: list[_Epoch]
    extra: dict[Text, Any]
    files: dict[Text, Text]
    needs: dict[Text, Any]
    seconds: Number | None
    environment: dict[Text, Any]
    fingerprints: _Fingerprints


class _Done(_Record):
    status: Literal["ok"]
    reason: Text | None
    study: Literal["crisis", "gap", "memes", "transfer"]
    data: _Data

    @model_validator(mode="after")
    def _fits(self) -> "_Done":
        names = [system.system for system in self.systems]
        if len(set(names)) < len(names):
            raise ValueError(f"the names of systems must differ within a run, given {names}")
        if other := {entry.system for entry in self.failed} - set(names):
            raise ValueError(f"failed needs system, one of {names}; given {sorted(other)}")
        if names and not self.classes:
            raise ValueError("give the names of the classes, in the order of the labels")
        return self


KEYS = tuple(field.alias or name for name, field in _Record.model_fields.items())


def check_record(record: Any) -> None:
    """ValueError names the first entry that no record has, or that is of another type."""
    failed = isinstance(record, dict) and record.get("status") == "failed"
    try:
        (_Record if failed else _Done).model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) + ": " * bool(first["loc"])
        value = "" if isinstance(first["input"], dict) else f", given {first['input']!r:.100}"
        raise ValueError(printable(f"{where}{first['msg'].removeprefix('Value error, ')}{value}")) from None
