"""Encoders on disk: safetensors with all weights, and a small JSON file that says what to build. No pickled model."""

import json
from collections.abc import Mapping
from pathlib import Path

from mmutils.models import tensors
from mmutils.models.encoder import Encoder, FusedEncoder
from mmutils.models.features import weights_digest
from mmutils.models.fusion import FUSIONS, fusion_class
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.models.transformer import load_model
from mmutils.runs.files import write
from mmutils.runs.fingerprints import file_digest


def save_encoder(encoder: Encoder, folder: str | Path, name: str) -> None:
    """Write <name>.json (what to build), a folder with a text model's tokenizer, <name>.safetensors (all weights)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{name}.json", json.dumps(describe_encoder(encoder, folder, name), indent=1) + "\n")
    tensors.save_tensors(encoder.state_dict(), folder / f"{name}.safetensors", companion_files(folder, name))


def save_encoders(encoders: Mapping[str, Encoder], folder: str | Path) -> None:
    """Save several encoders under their names."""
    for name, encoder in encoders.items():
        save_encoder(encoder, folder, name)


def companion_files(folder: Path, name: str) -> list[Path]:
    """What lies beside <name>.safetensors and is needed to build the encoder: its description, its tokenizer."""
    return [folder / f"{name}.json", *sorted(path for path in (folder / f"{name}-text").rglob("*") if path.is_file())]


def load_encoder(folder: str | Path, name: str, trained: bool = True) -> Encoder:
    """The encoder that `save_encoder` wrote; trained=False: the same network with new random weights.

    Raises:
        FileNotFoundError: says which run has to go first.
        ValueError: weights that are damaged, or not those of the run's record.
    """
    folder = Path(folder)
    description, weights = folder / f"{name}.json", folder / f"{name}.safetensors"
    for file in (description, weights):
        if not file.is_file():
            raise FileNotFoundError(f"no {file}: run the notebook that makes {folder.name} first")
    record = folder / "record.json"
    digests = json.loads(record.read_text(encoding="utf-8"))["files"] if record.is_file() else {}
    if digests.get(weights.name) not in (None, file_digest(weights)):
        raise ValueError(f"{weights} is not the file that {record} was written with: run {folder.name} again")
    state = tensors.load_tensors(weights)  # first, since it compares the checksum of the description
    encoder = build_encoder(json.loads(description.read_text(encoding="utf-8")), folder)
    if trained:
        encoder.load_state_dict(state)
    encoder.source = f"{folder.name}/{name}" if trained else "random"
    return encoder


def available_by_name(encoder: Encoder) -> bool:
    """Whether its weights need not be stored: it is frozen, and a package or the hub has them under its name."""
    return encoder.frozen and getattr(encoder, "source", "").startswith(("package", "hub"))


def describe_encoder(encoder: Encoder, folder: Path, name: str, by_name: bool = False) -> dict:
    """What `build_encoder` needs. A tokenizer is written into a folder beside it.

    by_name: give encoders that are `available_by_name` by their name and a digest of their weights.
    """
    digest = {"digest": weights_digest(encoder)} if by_name and available_by_name(encoder) else {}
    if isinstance(encoder, ImageEncoder):
        return {"image": encoder.name, "size": encoder.size} | digest
    if isinstance(encoder, TextEncoder):
        if not digest:
            for part in (encoder.model.config, encoder.tokenizer):  # the weights are in <name>.safetensors
                part.save_pretrained(folder / f"{name}-text")
        text = encoder.name if digest else f"{name}-text"
        return {"text": text, "pooling": encoder.pooling, "max_length": encoder.max_length} | digest
    if not isinstance(encoder, FusedEncoder):
        raise ValueError(f"a {type(encoder).__name__} cannot be saved, only image, text and fused encoders")
    sides = [describe_encoder(side, folder, name, by_name) for side in (encoder.image, encoder.text)]
    fusion = next(fusion for fusion, fusion_class in FUSIONS.items() if type(encoder.fusion) is fusion_class)
    return {"sides": sides, "fusion": fusion, "features_only": encoder.features_only, **encoder.fusion.options}


def build_encoder(description: dict, folder: Path) -> Encoder:
    """The encoder that was described: with new random weights, or the real ones where it is described by its name.

    ValueError where those are no longer the weights that were described.
    """
    if "sides" in description:
        image, text = (build_encoder(side, folder) for side in description["sides"])
        own = {key: value for key, value in description.items() if key not in ("sides", "fusion", "features_only")}
        fusion = fusion_class(description["fusion"])(image.dim, text.dim, **own)
        return FusedEncoder(image, text, fusion, description.get("features_only", False))
    digest = description.get("digest")
    if "image" in description:
        options = {"pretrained": bool(digest), "frozen": bool(digest), "size": description["size"]}
        encoder = ImageEncoder(description["image"], **options)
    else:
        options = {"pooling": description["pooling"], "max_length": description["max_length"], "frozen": bool(digest)}
        name, loaded = description["text"], None
        if not digest:
            place = folder / Path(name).name  # never a folder elsewhere
            name, loaded = f"{folder.absolute().name}/{place.name}", load_model(str(place), pretrained=False)
        encoder = TextEncoder(name, loaded=loaded, **options)
    if digest and weights_digest(encoder) != digest:
        raise ValueError(f"the weights of {encoder.name!r} ({encoder.source}) are not those that were trained with")
    return encoder
