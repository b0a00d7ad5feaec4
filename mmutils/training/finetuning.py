"""What fine-tuning starts from and ends with: encoders on disk, a share of the labels, a submission file.

Weights are safetensors; what to build for them stands in a small JSON file beside them. No pickled model.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor, nn

from mmutils.batches import Batches
from mmutils.models import fusion, tensors
from mmutils.models.encoders import Encoder, FusedEncoder, ImageEncoder, TextEncoder
from mmutils.models.features import features, weights_digest
from mmutils.runs.files import write
from mmutils.runs.fingerprints import file_digest
from mmutils.training.pretraining import untrained


def share_of_labels(examples: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """That share of each class, at least one example, drawn with the seed, in the old order and with the old index.

    ValueError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: give a share of the labels above 0 and at most 1")
    rows = examples.sample(frac=1, random_state=seed)  # a class's first rows in this order are drawn
    counts = rows["label"].map((rows["label"].value_counts() * share).round().clip(lower=1))
    kept = rows.index[rows.groupby("label").cumcount() < counts]
    return examples.loc[sorted(kept)]


def batches(
    tables: Mapping[str, pd.DataFrame],
    extras: Mapping[str, dict],
    share: float,
    seed: int,
    batch_size: int,
    augment=None,
    val_by_share: bool = True,
    **inputs,
) -> dict[str, Batches]:
    """Batches of train, val and test, with a share of train's labels, and smaller batches where few are left.

    extras: per split, features of all its rows; inputs: what else Batches takes. A batch of train has at most a quarter
    of its rows, so that an epoch has some steps, but is not made smaller than 16 for that. val_by_share: also
    `selection`, the same share of val, whose labels choose the epoch: who has few labels has few of val as well.
    """
    many = 64 if "image_size" in inputs else 512  # of large pictures 512 at once do not fit into 16 GB

    def part(split: str, size: int, **options) -> Batches:
        rows = share_of_labels(tables[split], share, seed)
        features = {key: values[rows.index] for key, values in extras[split].items()}
        return Batches(rows, min(size, max(16, len(rows) // 4)), extra=features, **options, **inputs)

    parts = {"train": part("train", batch_size, shuffle=True, seed=seed, augment=augment)}
    if val_by_share:
        parts["selection"] = part("val", many)
    return parts | {split: Batches(tables[split], many, extra=extras[split], **inputs) for split in ("val", "test")}


def label_counts(batches: Mapping[str, Batches]) -> dict[str, int]:
    """For the record: how many labels a training sees, `labels` of train and `val_labels` that choose the epoch."""
    return {"labels": len(batches["train"].ids), "val_labels": len(batches.get("selection", batches["val"]).ids)}


def networks(*encoders: Encoder) -> list[str]:
    """For the record: each network inside by its name, with its pixels, as "resnet50, 224 px"."""
    inside = [module for encoder in encoders for module in encoder.modules()]
    images = [f"{module.name}, {module.size} px" for module in inside if isinstance(module, ImageEncoder)]
    return images + [module.name for module in inside if isinstance(module, TextEncoder)]


def check_starts(starts: Mapping[str, Sequence[str]], baselines: Mapping[str, str], join: str) -> None:
    """ValueError for a start that is no list of one or two encoders, a baseline that is no start, an unknown fusion."""
    fusion.load(join)
    for name, encoders in starts.items():
        if not isinstance(encoders, list | tuple) or len(encoders) not in (1, 2):
            raise ValueError(
                f"starts: {name!r} is {encoders!r}; give a list of one encoder, or of an image and a text one"
            )
    for name, baseline in baselines.items():
        if name not in starts or baseline not in starts:
            raise ValueError(f"baselines: {name!r}: {baseline!r}; both must be starts: {', '.join(starts)}")


def submission(predictions: pd.DataFrame, file: str | Path) -> pd.DataFrame:
    """Write and return `id,proba,label` as the Hateful Memes challenge wants it: p_1, the mean over seeds.

    predictions: those of one system and split.
    """
    proba = predictions.groupby("id", sort=False)["p_1"].mean()
    rows = pd.DataFrame({"id": proba.index, "proba": proba.to_numpy(), "label": (proba > 0.5).astype(int).to_numpy()})
    rows.to_csv(file, index=False, float_format="%.6f")
    return rows


def save(encoder: Encoder, folder: str | Path, name: str) -> None:
    """Write <name>.json (what to build), a folder with a text model's tokenizer, <name>.safetensors (all weights)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{name}.json", json.dumps(describe(encoder, folder, name), indent=1) + "\n")
    tensors.save(encoder.state_dict(), folder / f"{name}.safetensors", belonging(folder, name))


def belonging(folder: Path, name: str) -> list[Path]:
    """What lies beside <name>.safetensors and is needed to build the encoder: its description, its tokenizer."""
    text = folder / f"{name}-text"
    return [folder / f"{name}.json", *sorted(path for path in text.rglob("*") if path.is_file())]


def load(folder: str | Path, name: str, trained: bool = True) -> Encoder:
    """The encoder that `save` wrote; trained=False: the same network with new random weights.

    FileNotFoundError says which run has to go first; ValueError for weights that are damaged, or not those of the run's
    record.
    """
    folder = Path(folder)
    for file in (folder / f"{name}.json", folder / f"{name}.safetensors"):
        if not file.is_file():
            raise FileNotFoundError(f"no {file}: run the notebook that makes {folder.name} first")
    _check_record(folder, f"{name}.safetensors")
    state = tensors.load(folder / f"{name}.safetensors")  # before the description is trusted: it has its checksum
    encoder = build(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), folder)
    if trained:
        encoder.load_state_dict(state)
    encoder.source = f"{folder.name}/{name}" if trained else "random"
    return encoder


def _check_record(folder: Path, file: str) -> None:
    """ValueError where the run's record, if there is one, names other weights."""
    record = folder / "record.json"
    expected = json.loads(record.read_text(encoding="utf-8"))["files"].get(file) if record.is_file() else None
    if expected and file_digest(folder / file) != expected:
        raise ValueError(f"{folder / file} is not the file that {record} was written with: run {folder.name} again")


def start(given: str, folder: str | Path, size: int | None = None, examples: pd.DataFrame | None = None) -> Encoder:
    """The encoder that a text names, from which a training starts.

    "run:name": saved by the run of that name in `folder`. "random:run:name": the same network with new random weights,
    and batch norms that have seen the `examples`. With a slash, as "intfloat/multilingual-e5-small", a Hugging Face
    model; else a timm model, at `size` pixels; both with their pretrained weights.
    """
    if given.count(":"):
        *random, run, name = given.split(":")
        if random not in ([], ["random"]):
            raise ValueError(f"{given!r}: give run:name, random:run:name, or the name of a model")
        encoder = load(Path(folder) / run, name, trained=not random)
        if not random or examples is None:
            return encoder
        distinct = examples.drop_duplicates("image")
        return untrained(encoder, Batches(distinct, 64, **inputs(encoder)))
    return TextEncoder(given) if "/" in given else ImageEncoder(given, pretrained=True, size=size)


def inputs(*encoders: Encoder) -> dict:
    """What Batches must be given for these encoders together: image_size, tokenizer, max_length, as far as needed."""
    inside = [module for encoder in encoders for module in encoder.modules()]
    sizes = [module.size for module in inside if isinstance(module, ImageEncoder)]
    texts = [module for module in inside if isinstance(module, TextEncoder)]
    tokens = {"tokenizer": texts[0].tokenizer, "max_length": texts[0].max_length} if texts else {}
    return ({"image_size": max(sizes)} if sizes else {}) | tokens


def frozen_features(encoder: Encoder, examples: pd.DataFrame) -> Tensor:
    """Features (N, D) of the examples, each different picture, text or pair encoded once and kept on disk."""
    given = inputs(encoder)
    seen = [column for column, key in (("image", "image_size"), ("text", "tokenizer")) if key in given]
    distinct = examples.drop_duplicates(seen)
    found = features(encoder, Batches(distinct, 64, **given))["features"]
    row_of = {key: row for row, key in enumerate(distinct[seen].itertuples(index=False, name=None))}
    return found[[row_of[key] for key in examples[seen].itertuples(index=False, name=None)]]


def whole(encoders: Sequence[Encoder], join: str) -> Encoder:
    """One encoder from one, or from an image and a text encoder by the fusion of that name; a copy. ValueError else.

    The fusion of two frozen ones sees features only, as `frozen_features` gives them.
    """
    given = [copy.deepcopy(encoder) for encoder in encoders]
    if len(given) == 1:
        return given[0]
    if len(given) != 2:
        raise ValueError(f"{len(given)} encoders: give one, or an image and a text encoder")
    frozen = all(encoder.frozen for encoder in given)
    return FusedEncoder(*given, fusion.load(join)(given[0].dim, given[1].dim), features_only=frozen)


def known(encoder: Encoder) -> bool:
    """Whether its weights need not be stored: frozen, and to be had by its name from a package or the hub."""
    return encoder.frozen and getattr(encoder, "source", "").startswith(("package", "hub"))


def describe(encoder: Encoder, folder: Path, name: str, by_name: bool = False) -> dict:
    """What `build` needs; a tokenizer is written into a folder beside it. by_name: what is `known` only by its name."""
    if isinstance(encoder, ImageEncoder):
        return {"image": encoder.name, "size": encoder.size} | _digest(encoder, by_name)
    if isinstance(encoder, TextEncoder):
        given = {"text": encoder.name, "pooling": encoder.pooling, "max_length": encoder.max_length}
        if digest := _digest(encoder, by_name):
            return given | digest
        for part in (encoder.model.config, encoder.tokenizer):  # the weights are in <name>.safetensors
            part.save_pretrained(folder / f"{name}-text")
        return given | {"text": f"{name}-text"}
    if not isinstance(encoder, FusedEncoder):
        raise ValueError(f"a {type(encoder).__name__} cannot be saved, only image, text and fused encoders")
    sides = [describe(side, folder, name, by_name) for side in (encoder.image, encoder.text)]
    join = {"fusion": fusion.name_of(type(encoder.fusion)), "features_only": encoder.features_only}
    return {"sides": sides, **join, **_fusion_options(encoder.fusion)}


def build(given: dict, folder: Path) -> Encoder:
    """The encoder that was described; new random weights where its own are stored, the real ones where it is `known`.

    ValueError where those are not the weights that were described.
    """
    if "sides" in given:
        image, text = (build(side, folder) for side in given["sides"])
        options = {key: value for key, value in given.items() if key not in ("sides", "fusion", "features_only")}
        join = fusion.load(given["fusion"])(image.dim, text.dim, **options)
        return FusedEncoder(image, text, join, given.get("features_only", False))
    digest = given.get("digest")
    if "image" in given:
        encoder = ImageEncoder(given["image"], pretrained=bool(digest), size=given["size"], frozen=bool(digest))
    else:
        options = {"pooling": given["pooling"], "max_length": given["max_length"], "frozen": bool(digest)}
        place = given["text"] if digest else folder / Path(given["text"]).name  # never a folder elsewhere
        encoder = TextEncoder(place, pretrained=bool(digest), **options)
    if digest and weights_digest(encoder) != digest:
        raise ValueError(f"the weights of {encoder.name!r} ({encoder.source}) are not those that were trained with")
    return encoder


def _digest(encoder: Encoder, by_name: bool) -> dict:
    return {"digest": weights_digest(encoder)} if by_name and known(encoder) else {}


def _fusion_options(module: fusion.Fusion) -> dict:
    """The widths a fusion was made with."""
    if isinstance(module, fusion.Concatenation):
        return {"hidden": [layer.out_features for layer in module.layers if isinstance(layer, nn.Linear)]}
    if isinstance(module, fusion.CrossAttention):
        return {"dim": module.dim // 2, "heads": module.to_text.num_heads}
    return {} if isinstance(module, fusion.Late) else {"dim": module.dim}
