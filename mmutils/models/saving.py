"""Encoders on disk: safetensors with all weights, and a small JSON file that says what to build. No pickled model."""

import json
from pathlib import Path

from torch import nn

from mmutils.models import fusion, tensors
from mmutils.models.encoder import Encoder, FusedEncoder
from mmutils.models.features import weights_digest
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.runs.files import write
from mmutils.runs.fingerprints import file_digest


def save_encoder(encoder: Encoder, folder: str | Path, name: str) -> None:
    """Write <name>.json (what to build), a folder with a text model's tokenizer, <name>.safetensors (all weights)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{name}.json", json.dumps(describe_encoder(encoder, folder, name), indent=1) + "\n")
    tensors.save_tensors(encoder.state_dict(), folder / f"{name}.safetensors", companion_files(folder, name))


def companion_files(folder: Path, name: str) -> list[Path]:
    """What lies beside <name>.safetensors and is needed to build the encoder: its description, its tokenizer."""
    text = folder / f"{name}-text"
    return [folder / f"{name}.json", *sorted(path for path in text.rglob("*") if path.is_file())]


def load_encoder(folder: str | Path, name: str, trained: bool = True) -> Encoder:
    """The encoder that `save` wrote; trained=False: the same network with new random weights.

    FileNotFoundError says which run has to go first; ValueError for weights that are damaged, or not those of the run's
    record.
    """
    folder = Path(folder)
    for file in (folder / f"{name}.json", folder / f"{name}.safetensors"):
        if not file.is_file():
            raise FileNotFoundError(f"no {file}: run the notebook that makes {folder.name} first")
    _check_record(folder, f"{name}.safetensors")
    state = tensors.load_tensors(
        folder / f"{name}.safetensors"
    )  # before the description is trusted: it has its checksum
    encoder = build_encoder(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), folder)
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


def available_by_name(encoder: Encoder) -> bool:
    """Whether its weights need not be stored: frozen, and to be had by its name from a package or the hub."""
    return encoder.frozen and getattr(encoder, "source", "").startswith(("package", "hub"))


def describe_encoder(encoder: Encoder, folder: Path, name: str, by_name: bool = False) -> dict:
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
    sides = [describe_encoder(side, folder, name, by_name) for side in (encoder.image, encoder.text)]
    join = {"fusion": fusion.fusion_name(type(encoder.fusion)), "features_only": encoder.features_only}
    return {"sides": sides, **join, **_fusion_options(encoder.fusion)}


def build_encoder(given: dict, folder: Path) -> Encoder:
    """The encoder that was described; new random weights where its own are stored, the real ones where it is `known`.

    ValueError where those are not the weights that were described.
    """
    if "sides" in given:
        image, text = (build_encoder(side, folder) for side in given["sides"])
        options = {key: value for key, value in given.items() if key not in ("sides", "fusion", "features_only")}
        join = fusion.fusion_class(given["fusion"])(image.dim, text.dim, **options)
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
    return {"digest": weights_digest(encoder)} if by_name and available_by_name(encoder) else {}


def _fusion_options(module: fusion.Fusion) -> dict:
    """The widths a fusion was made with."""
    if isinstance(module, fusion.Concatenation):
        return {"hidden": [layer.out_features for layer in module.layers if isinstance(layer, nn.Linear)]}
    if isinstance(module, fusion.CrossAttention):
        return {"dim": module.dim // 2, "heads": module.to_text.num_heads}
    return {} if isinstance(module, fusion.Late) else {"dim": module.dim}
