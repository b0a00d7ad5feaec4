"""Encoders on disk: safetensors with all weights, and a small JSON file that says what to build. No pickled model.

A flipped bit in a weight, a tokenizer or a description gives other results without an error. So the weights' file
holds checksums of all three, which are compared when it is read.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmutils.models.encoder import Encoder
from mmutils.models.features import weights_digest
from mmutils.models.fusion import FUSIONS, FusedEncoder, fusion_class
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.models.transformer import load_model
from mmutils.runs import identity
from mmutils.runs.files import checksum, whole_file, write
from mmutils.runs.fingerprints import file_digest

START = ".start"  # ends the name of a saved encoder that is as it was before its pretraining


def save_encoders(encoders: Mapping[str, Encoder], folder: str | Path) -> None:
    """For each write <name>.json (what to build), <name>-text (a tokenizer) and <name>.safetensors (all weights).

    A name that ends with START says: as it was before its pretraining.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, encoder in encoders.items():
        description = {"source": weights_source(encoder)} | describe_encoder(encoder, folder, name)
        write(folder / f"{name}.json", json.dumps(description, indent=1) + "\n")
        save_weights(encoder.state_dict(), folder, name)


def weights_source(encoder: Encoder) -> str:
    """Where the weights come from that its networks were built with: "random", "package ..." and so on."""
    sources = dict.fromkeys(module.source for module in encoder.modules() if hasattr(module, "source"))
    return ", ".join(sources) or "random"


def load_encoder(folder: str | Path, name: str) -> Encoder:
    """The encoder of that name that was saved; its `source` names the file, or the weights from before pretraining."""
    folder = Path(folder)
    description, weights, record = folder / f"{name}.json", folder / f"{name}.safetensors", folder / "record.json"
    for file in (description, weights):
        if not file.is_file():
            raise FileNotFoundError(f"no {file}: run the notebook that makes {folder.name} first")
    digests = json.loads(record.read_text(encoding="utf-8"))["files"] if record.is_file() else {}
    if digests.get(weights.name) not in (None, file_digest(weights)):
        raise ValueError(f"{weights} is not the file that {record} was written with: run {folder.name} again")
    state = load_weights(weights)  # first, since it compares the checksum of the description
    values = json.loads(description.read_text(encoding="utf-8"))
    source = values.pop("source", "unknown")
    encoder = build_encoder(values, folder)
    encoder.load_state_dict(state)
    encoder.source = source if name.endswith(START) else f"{folder.name}/{name}"
    return encoder


def initial_encoder(start: str, folder: str | Path, size: int | None = None, pad: bool = False) -> Encoder:
    """The encoder that a training starts from.

    Args:
        start: "run:name", saved by that run in its folder in `folder`, as "clip:image-0" of the seed 0;
            "start:run:name", the same network with the weights that pretraining began with; or a model's name, of
            Hugging Face if it has a slash, else of timm.
        size: pixels of a timm model's input; pad: see `ImageEncoder`.
    """
    if ":" not in start:
        return TextEncoder(start) if "/" in start else ImageEncoder(start, pretrained=True, size=size, pad=pad)
    *before, run, name = start.split(":")
    if before not in ([], ["start"]):
        raise ValueError(f"{start!r}: give run:name, start:run:name, or the name of a model")
    return load_encoder(Path(folder) / run, f"{name}{START}" if before else name)


def available_by_name(encoder: Encoder) -> bool:
    """Whether its weights need not be stored: it is frozen, and a package or the hub has them under its name."""
    return encoder.frozen and getattr(encoder, "source", "").startswith(("package", "hub"))


def describe_encoder(encoder: Encoder, folder: Path, name: str, by_name: bool = False) -> dict:
    """What `build_encoder` needs; a tokenizer is written beside it. by_name: only name what is `available_by_name`."""
    digest = {"digest": weights_digest(encoder)} if by_name and available_by_name(encoder) else {}
    if isinstance(encoder, ImageEncoder):
        return {"image": encoder.name, "size": encoder.size, "pad": encoder.pad} | digest
    if isinstance(encoder, TextEncoder):
        text = encoder.name if digest else f"{name}-text"
        for part in () if digest else (encoder.model.config, encoder.tokenizer):  # weights are in <name>.safetensors
            part.save_pretrained(folder / text)
        return {"text": text, "pooling": encoder.pooling, "max_length": encoder.max_length} | digest
    if not isinstance(encoder, FusedEncoder):
        raise ValueError(f"a {type(encoder).__name__} cannot be saved, only image, text and fused encoders")
    sides = [describe_encoder(side, folder, name, by_name) for side in (encoder.image, encoder.text)]
    fusion = next(fusion for fusion, fusion_class in FUSIONS.items() if type(encoder.fusion) is fusion_class)
    return {"sides": sides, "fusion": fusion, "features_only": encoder.features_only, **encoder.fusion.options}


def build_encoder(description: dict, folder: Path) -> Encoder:
    """The encoder that was described: with new random weights, or the real ones where it is described by its name."""
    if "sides" in description:
        image, text = (build_encoder(side, folder) for side in description["sides"])
        options = {key: value for key, value in description.items() if key not in ("sides", "fusion", "features_only")}
        fusion = fusion_class(description["fusion"])(image.dim, text.dim, **options)
        return FusedEncoder(image, text, fusion, description.get("features_only", False))
    digest = description.get("digest")
    if "image" in description:
        options = {"size": description["size"], "pad": description.get("pad", False)}
        encoder = ImageEncoder(description["image"], bool(digest), bool(digest), **options)
    else:
        name, loaded = description["text"], None
        if not digest:
            place = folder / Path(name).name  # never a folder elsewhere
            name, loaded = f"{folder.absolute().name}/{place.name}", load_model(str(place), pretrained=False)
        options = {"pooling": description["pooling"], "max_length": description["max_length"], "frozen": bool(digest)}
        encoder = TextEncoder(name, loaded=loaded, **options)
    if digest and weights_digest(encoder) != digest:
        raise ValueError(f"the weights of {encoder.name!r} ({encoder.source}) are not those that were trained with")
    return encoder


def network_names(*encoders: Encoder) -> list[str]:
    """For the record: each network inside by its name, as "resnet50, 224 px"."""
    modules = [module for encoder in encoders for module in encoder.modules()]
    images = [f"{module.name}, {module.size} px" for module in modules if isinstance(module, ImageEncoder)]
    return images + [module.name.replace(START, "") for module in modules if isinstance(module, TextEncoder)]


def save_weights(state: dict[str, Tensor], folder: Path, name: str) -> None:
    """Write <name>.safetensors whole or not at all, with checksums of itself, <name>.json and the tokenizer there."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    beside = [folder / f"{name}.json", *sorted(path for path in (folder / f"{name}-text").rglob("*") if path.is_file())]
    sums = {path.relative_to(folder).as_posix(): checksum(path) for path in beside}
    metadata = {"format": "pt", "digest": identity.of_tensors(sorted(state.items())), "beside": json.dumps(sums)}
    with whole_file(folder / f"{name}.safetensors") as draft:
        save_file(state, draft, metadata)


def load_weights(file: Path) -> dict[str, Tensor]:
    """The state dict that `save_weights` wrote; ValueError where it, or a file that belongs to it, is damaged."""
    damage = "{} is damaged ({}): copy it again, or run again what made it"
    try:
        with safe_open(file, "pt") as content:
            metadata = content.metadata() or {}
        state = load_file(file)
    except SafetensorError as error:
        raise ValueError(damage.format(file, error)) from error
    if "digest" in metadata and metadata["digest"] != identity.of_tensors(sorted(state.items())):
        raise ValueError(damage.format(file, "its weights are not those that were written"))
    for name, expected in json.loads(metadata.get("beside", "{}")).items():
        path = file.parent / name
        if not path.is_file() or checksum(path) != expected:
            raise ValueError(damage.format(path, f"it is not the file that was written with {file.name}"))
    return state
