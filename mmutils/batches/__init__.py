"""Batches from a table of examples: pictures from the cache on disk, tokens padded per batch, labels and ids.

A batch is a dict: `image` float32 (B, 3, H, W) in [0, 1], not normalised (each image encoder does that itself), or a
list of such views; `input_ids`, `attention_mask` int64 (B, T); `label` int64 (B,); `id`, a list of B strings; and
what `extra` adds. Order and augmentation of an epoch depend on (seed, epoch number) only, so that a resumed run sees
what an uninterrupted one sees.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from mmutils.batches.images import decode
from mmutils.runs import identity


def derived_seed(*numbers: int) -> int:
    """One seed from several numbers, such as (seed, epoch): different for (0, 1) and (1, 0), unlike their sum."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


class Batches:
    """The examples in batches; iterate over `epoch(number)`.

    image_size: pixels to which whole pictures are resized (None: no `image`); augment: callable (uint8 (B, 3, S, S),
    CPU generator) -> float (B, 3, H, W) in [0, 1] or list of views. tokenizer: a Hugging Face tokenizer (None: no
    tokens), texts are cut at max_length tokens. extra: dict of tensors (N, ...) in the order of the rows, such as
    cached features. Attribute `device`: where batches are made (bytes go there, augmentation happens there); the CPU
    until someone sets it. ValueError for missing columns, missing pictures or texts, no examples, or a drop_last that
    leaves no batch.
    """

    def __init__(
        self,
        examples: pd.DataFrame,
        batch_size: int,
        *,
        image_size: int | None = None,
        tokenizer=None,
        max_length: int = 64,
        augment: Callable | None = None,
        extra: dict[str, Tensor] | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
    ):
        self.examples = examples.reset_index(drop=True)
        self.batch_size, self.shuffle, self.drop_last, self.seed = batch_size, shuffle, drop_last, seed
        self.augment, self.extra, self.device = augment, extra or {}, torch.device("cpu")
        self._check(image_size, tokenizer)
        self.ids = self.examples["id"].tolist()
        self.labels = torch.tensor(self.examples["label"].to_numpy(np.int64))
        self.pictures = self.tokens = self.picture_of_row = None
        if image_size is not None:  # a picture that several rows share is decoded and stored once
            self.picture_of_row, paths = pd.factorize(self.examples["image"])
            self.pictures = decode(list(paths), image_size)  # memory map (pictures, S, S, 3)
        if tokenizer is not None:
            self.tokens, self.pad_id = (
                _tokenize(tokenizer, self.examples["text"].tolist(), max_length),
                tokenizer.pad_token_id,
            )

    def __len__(self) -> int:
        """Batches per epoch. A rest of one example joins the batch before it: of one, a batch norm learns nothing."""
        whole, rest = divmod(len(self.examples), self.batch_size)
        return whole + (rest > 0 and not self.drop_last and not (rest == 1 and whole))

    def epoch(self, number: int = 0) -> Iterator[dict]:
        """The batches of one pass; the same number gives the same batches."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, number))
        count = len(self.examples)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        for step in range(len(self)):
            end = None if step + 1 == len(self) and not self.drop_last else (step + 1) * self.batch_size
            yield self._batch(order[step * self.batch_size : end], generator)

    def smallest(self) -> int:
        """Examples in the smallest batch of an epoch."""
        rest = len(self.examples) % self.batch_size
        return rest if rest > 1 and not self.drop_last else min(self.batch_size, len(self.examples))

    def identity(self) -> dict:
        """What an epoch depends on: examples, pictures, views, tokens, features, and how they are drawn."""
        return {
            "examples": identity.of_examples(self.examples),
            "pictures": self._pictures_identity(),
            "views": identity.of_views(self.augment),
            "tokens": identity.of_arrays(self.tokens or ()),
            "features": identity.of_tensors(sorted(self.extra.items())),
            "batches": [self.batch_size, self.shuffle, self.drop_last, self.seed],
        }

    def _pictures_identity(self) -> str:
        """Size and checksum of the decoded pictures, and which row has which."""
        if self.pictures is None:
            return ""
        rows = identity.of_arrays([self.picture_of_row])
        return f"{self.pictures.shape[1]} px, {Path(self.pictures.filename).stem[-8:]}, {rows}"

    def by_length(self) -> Iterator[tuple[Tensor, dict]]:
        """Every row once, as (row numbers, batch), long texts first: texts of like length need little padding."""
        lengths = torch.tensor([-len(ids) for ids in self.tokens or [()] * len(self.examples)])
        for rows in lengths.argsort(stable=True).split(self.batch_size):
            yield rows, self._batch(rows, torch.Generator())

    @contextmanager
    def on(self, module: nn.Module) -> Iterator[None]:
        """Meanwhile batches are made where the module's parameters are."""
        before, self.device = self.device, next((p.device for p in module.parameters()), torch.device("cpu"))
        try:
            yield
        finally:
            self.device = before

    def _batch(self, rows: Tensor, generator: torch.Generator) -> dict:
        batch = {"id": [self.ids[row] for row in rows], "label": self.labels[rows].to(self.device)}
        if self.pictures is not None:
            images = torch.from_numpy(self.pictures[self.picture_of_row[rows.numpy()]])  # (B, S, S, 3)
            images = images.to(self.device).permute(0, 3, 1, 2)  # (B, 3, S, S), channels last in memory
            batch["image"] = self.augment(images, generator) if self.augment else images.float().div_(255)
        if self.tokens is not None:
            batch |= self._padded([self.tokens[row] for row in rows])
        return batch | {name: tensor[rows.to(tensor.device)].to(self.device) for name, tensor in self.extra.items()}

    def _padded(self, tokens: list[np.ndarray]) -> dict[str, Tensor]:
        lengths = torch.tensor([len(ids) for ids in tokens])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, T)
        ids = torch.full(mask.shape, self.pad_id)
        ids[mask] = torch.from_numpy(np.concatenate(tokens)).long()
        return {"input_ids": ids.to(self.device), "attention_mask": mask.long().to(self.device)}

    def _check(self, image_size: int | None, tokenizer) -> None:
        needed = ["id", "label"] + ["image"] * (image_size is not None) + ["text"] * (tokenizer is not None)
        if missing := [column for column in needed if column not in self.examples]:
            raise ValueError(f"the table of examples lacks the columns {missing}; it has {list(self.examples)}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if not len(self):
            hint = "choose a smaller batch_size or drop_last=False" if len(self.examples) else "the table is empty"
            raise ValueError(f"{len(self.examples)} examples in batches of {self.batch_size} leave no batch: {hint}")
        for column in needed[2:]:
            if absent := int((~self.examples[column].map(lambda value: isinstance(value, str))).sum()):
                raise ValueError(
                    f"{absent} of {len(self.examples)} examples have no {column}: leave them out, or do without"
                )
        if self.augment and image_size is None:
            raise ValueError("augment needs pictures: give image_size as well")
        if tokenizer is not None and tokenizer.pad_token_id is None:
            raise ValueError("the tokenizer has no padding token; set tokenizer.pad_token")
        for name, tensor in self.extra.items():
            if name in ("id", "label", "image", "input_ids", "attention_mask") or len(tensor) != len(self.examples):
                raise ValueError(
                    f"extra {name!r} has {len(tensor)} rows for {len(self.examples)} examples, or a reserved name"
                )


def _tokenize(tokenizer, texts: list[str], max_length: int) -> list[np.ndarray]:
    """Token ids of each text with the tokenizer's own special tokens, int32 (T_i,), at most max_length of them."""
    tokens = []
    for start in tqdm(range(0, len(texts), 1000), "tokenizing", delay=2, unit="thousand"):
        encoded = tokenizer(texts[start : start + 1000], truncation=True, max_length=max_length)
        tokens += [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]
    return tokens
