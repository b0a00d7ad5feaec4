"""Tokenizers: training one on texts, writing a prefix before every text, and what a tokenizer loses of Hindi.

In Devanagari the vowels after a consonant are combining marks. A tokenizer that strips accents, as uncased BERT
vocabularies do (https://github.com/huggingface/tokenizers/issues/572), drops most of them: हिन्दी becomes हनद.
"""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PROBE = "हिन्दी में मात्राएँ: कि की कु कू कृ के कै को कौ कं कः काँ ड़ ज़"
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def lost_marks(tokenizer, texts: Iterable[str]) -> set[str]:
    """Combining marks (vowel signs, nuktas, accents) that some text has more often than decode(encode(text)) has."""
    lost = set()
    for text in texts:
        decoded = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
        lost |= set(_marks(text) - _marks(decoded))
    return lost


def _marks(text: str) -> Counter:
    """How often each combining mark occurs, with composed characters decomposed."""
    return Counter(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c).startswith("M"))


def warn_of_lost_marks(tokenizer, name: str) -> None:
    """UserWarning when the tokenizer loses marks of a Hindi probe text."""
    if lost := lost_marks(tokenizer, [PROBE]):
        signs = f"{len(lost)} Hindi signs ({' '.join('◌' + mark for mark in sorted(lost))})"
        warnings.warn(f"the tokenizer of {name!r} loses {signs}: use another model for Hindi text", stacklevel=3)


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
