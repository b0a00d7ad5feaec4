"""What text encoders need of Hugging Face: models and tokenizers, loaded by name, or trained on texts.

In Devanagari the vowels after a consonant are combining marks. A tokenizer that strips accents, as uncased BERT
vocabularies do (https://github.com/huggingface/tokenizers/issues/572), drops most of them: हिन्दी becomes हनद.
"""

import unicodedata
from collections import Counter, namedtuple
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from mmutils.models import weights

# model types of which AutoModel would load the image side as well
TEXT_SIDES = {"clip_text_model": transformers.CLIPTextModel, "siglip_text_model": transformers.SiglipTextModel}
TextModel = namedtuple("TextModel", "model tokenizer source")  # in float32, no pooling layer; source of the weights
SPECIAL = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}


def load_model(name: str, pretrained: bool) -> TextModel:
    """The model of that name or folder, or a new one of its configuration. Its tokenizer writes the prefix of e5."""
    place, source = (name, f"folder {name}") if Path(name).is_dir() else weights.packaged(name) or (name, "hub")

    def load(local_files_only: bool) -> TextModel:
        options = {"local_files_only": local_files_only, "trust_remote_code": False}
        config = transformers.AutoConfig.from_pretrained(place, **options)
        config = config.text_config if config.model_type in ("clip", "siglip") else config
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options)
        if not pretrained:
            return TextModel(new_model(config), tokenizer, "random")
        model_class = TEXT_SIDES.get(config.model_type, transformers.AutoModel)
        with no_progress_bar():
            model = _without_pooler(model_class.from_pretrained, place, config=config, **options)
        return TextModel(model.float(), tokenizer, source)

    loaded = weights.local_first(load, place)
    if name.startswith("intfloat/") and "e5-" in name:  # as these models were trained
        add_prefix(loaded.tokenizer, "query: ")
    return loaded


def new_model(config: transformers.PretrainedConfig) -> nn.Module:
    """A model with random weights, without a pooling layer."""
    if config.model_type in TEXT_SIDES:
        return TEXT_SIDES[config.model_type](config)
    return _without_pooler(transformers.AutoModel.from_config, config, trust_remote_code=False)


def _without_pooler(make: Callable, *arguments, **options) -> nn.Module:
    """make(...) with add_pooling_layer=False where the model has it: BERT's pooling layer would get no gradient."""
    try:
        return make(*arguments, **options, add_pooling_layer=False)
    except TypeError:
        return make(*arguments, **options)


@contextmanager
def no_progress_bar():
    """Without transformers' bar, which is shown even for what takes no time."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def layer_list(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Path and list of the model's layers; ValueError where it does not keep them in one list."""
    total = model.config.num_hidden_layers
    for path, part in model.named_modules():
        if isinstance(part, nn.ModuleList) and len(part) == total:
            return path, part
    raise ValueError(f"a {type(model).__name__} has no list of its {total} layers: it learns whole or not at all")


def add_prefix(tokenizer: PreTrainedTokenizerFast, prefix: str) -> None:
    """Let the tokenizer itself write `prefix` before every text, so that whoever tokenizes cannot forget it."""
    backend = tokenizer.backend_tokenizer
    steps = [normalizers.Prepend(prefix)] + ([backend.normalizer] if backend.normalizer else [])
    backend.normalizer = normalizers.Sequence(steps)


def train_tokenizer(texts: Iterable[str], vocabulary: int, max_length: int) -> PreTrainedTokenizerFast:
    """Byte-pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909) of at most `vocabulary` pieces.

    NFC, lower case, no accents stripped. Printable ASCII and the Devanagari block are always among the pieces.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    alphabet = [chr(code) for code in (*range(0x21, 0x7F), *range(0x900, 0x980))]
    options = {"special_tokens": list(SPECIAL.values()), "initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary, **options))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL)


def lost_marks(tokenizer, texts: Sequence[str]) -> set[str]:
    """Combining marks (vowel signs, nuktas, accents) that some text has more often than decode(encode(text)) has."""

    def marks(text: str) -> Counter:
        return Counter(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c).startswith("M"))

    decoded = (
        tokenizer.decode(tokenizer(text, verbose=False)["input_ids"], skip_special_tokens=True) for text in texts
    )
    return {mark for text, again in zip(texts, decoded, strict=True) for mark in marks(text) - marks(again)}
