"""Texts: tokenized once, padded per batch."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm


def tokenize(tokenizer, texts: list[str], max_length: int) -> list[np.ndarray]:
    """Token ids int32 (T,) of each text, with the tokenizer's special tokens, at most max_length of them."""
    if tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no padding token; set tokenizer.pad_token")
    tokens = []
    for start in tqdm(range(0, len(texts), 1000), "tokenizing", delay=2, unit="thousand"):
        encoded = tokenizer(texts[start : start + 1000], truncation=True, max_length=max_length)
        tokens += [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]
    return tokens


def padded(tokens: list[np.ndarray], pad_id: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, int64 (B, T), of B texts; T is the length of the longest one."""
    ids = pad_sequence([torch.from_numpy(text).long() for text in tokens], batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(text) for text in tokens])
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}
