"""Batches: the rows of a table of examples as tensors, in the order and with the views of an epoch.

A batch is a dict: `image` float32 (B, 3, H, W) in [0, 1], or a list of such views, which image encoders normalise;
`input_ids` and `attention_mask` int64 (B, T), padded to the longest text of the batch; `label` int64 (B,); `id`, a list
of B strings. An epoch depends on (seed, epoch number) only, so a resumed run sees the same batches.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmutils.batches.augment import Augment, MultiCrop
from mmutils.batches.images import decode
from mmutils.batches.texts import padded, tokenize
from mmutils.runs import identity


class Batches:
    """The examples in batches; iterate over `epoch(number)`.

    Args:
        examples: a table with the columns id, label and, where they are used, image (paths) and text.
        batch_size: examples per batch. A rest of one joins the batch before it: a batch norm cannot train on one.
        image_size: pixels of the square to which whole pictures are resized; None: no `image`.
        augment: makes views; (uint8 (B, 3, S, S), CPU generator) -> float (B, 3, H, W) in [0, 1], or a list of them.
        tokenizer: a Hugging Face tokenizer; None: no tokens.
        max_length: tokens after which a text is cut.
        extra: tensors (N, ...) in the order of the rows, such as cached features, by their names in the batch.
        drop_last: leave out a last batch that is smaller than the others.

    Attributes:
        device: where batches are made and augmented; the CPU until it is set.

    Raises:
        ValueError: missing columns, pictures or texts, no examples, no batch left, or arguments that do not match.
    """

    def __init__(
        self,
        examples: pd.DataFrame,
        batch_size: int,
        *,
        image_size: int | None = None,
        tokenizer=None,
        max_length: int = 64,
        augment: Augment | MultiCrop | Callable | None = None,
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
        self.pictures = self.tokens = None
        if tokenizer is not None:
            self.pad_id = tokenizer.pad_token_id
            self.tokens = tokenize(tokenizer, self.examples["text"].tolist(), max_length)
        if image_size is not None:  # a picture that several rows share is decoded and stored once
            self.picture_of_row, paths = pd.factorize(self.examples["image"])
            self.pictures = decode(list(paths), image_size)  # memory map (pictures, S, S, 3)

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self._slices())

    def epoch(self, number: int = 0) -> Iterator[dict]:
        """The batches of one pass; the same number gives the same batches."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, number))
        count = len(self.examples)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        for part in self._slices():
            yield self._batch(order[part], generator)

    def by_length(self) -> Iterator[tuple[Tensor, dict]]:
        """Every row once, as (row numbers, batch), longest texts first: texts of like length need little padding."""
        lengths = torch.tensor([len(ids) for ids in self.tokens or [()] * len(self.examples)])
        for rows in lengths.argsort(stable=True, descending=True).split(self.batch_size):
            yield rows, self._batch(rows, torch.Generator())

    def smallest(self) -> int:
        """Examples in the smallest batch of an epoch."""
        return min(part.stop - part.start for part in self._slices())

    @contextmanager
    def on(self, module: nn.Module) -> Iterator[None]:
        """Within this context, batches are made on the module's device."""
        before, tensors = self.device, chain(module.parameters(), module.buffers())
        self.device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        try:
            yield
        finally:
            self.device = before

    def identity(self) -> dict:
        """What an epoch depends on, for checkpoints and caches: the rows' contents, the views, and the drawing."""
        pictures = ""
        if self.pictures is not None:
            checksum, rows = Path(self.pictures.filename).stem[-8:], identity.of_arrays([self.picture_of_row])
            pictures = f"{self.pictures.shape[1]} px, {checksum}, {rows}"
        return {
            "examples": identity.of_examples(self.examples),
            "pictures": pictures,
            "views": identity.of_views(self.augment),
            "tokens": identity.of_arrays(self.tokens or ()),
            "features": identity.of_tensors(sorted(self.extra.items())),
            "batches": [self.batch_size, self.shuffle, self.drop_last, self.seed],
        }

    def _slices(self) -> list[slice]:
        """Where each batch lies in the order of an epoch."""
        count = len(self.examples)
        ends, rest = list(range(self.batch_size, count + 1, self.batch_size)), count % self.batch_size
        if rest and not self.drop_last:
            ends = [*ends[:-1], count] if rest == 1 else [*ends, count]
        return [slice(start, end) for start, end in pairwise([0, *ends])]

    def _batch(self, rows: Tensor, generator: torch.Generator) -> dict:
        batch = {"id": [self.ids[row] for row in rows], "label": self.labels[rows].to(self.device)}
        if self.pictures is not None:
            images = torch.from_numpy(self.pictures[self.picture_of_row[rows.numpy()]])  # (B, S, S, 3)
            images = images.to(self.device).permute(0, 3, 1, 2)  # (B, 3, S, S), channels last in memory
            batch["image"] = self.augment(images, generator) if self.augment else images.float().div_(255)
        if self.tokens is not None:
            texts = padded([self.tokens[row] for row in rows], self.pad_id)
            batch |= {name: tensor.to(self.device) for name, tensor in texts.items()}
        return batch | {name: tensor[rows.to(tensor.device)].to(self.device) for name, tensor in self.extra.items()}

    def _check(self, image_size: int | None, tokenizer) -> None:
        count = len(self.examples)
        inputs = ["image"] * (image_size is not None) + ["text"] * (tokenizer is not None)
        if missing := [column for column in ("id", "label", *inputs) if column not in self.examples]:
            raise ValueError(f"the table of examples lacks the columns {missing}; it has {list(self.examples)}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if not len(self):
            hint = "choose a smaller batch_size or drop_last=False" if count else "the table is empty"
            raise ValueError(f"{count} examples in batches of {self.batch_size} leave no batch: {hint}")
        for column in inputs:
            if absent := count - sum(isinstance(value, str) for value in self.examples[column]):
                raise ValueError(f"{absent} of {count} examples have no {column}: leave them out, or do without")
        if self.augment and image_size is None:
            raise ValueError("augment needs pictures: give image_size as well")
        for name, tensor in self.extra.items():
            if name in ("id", "label", "image", "input_ids", "attention_mask") or len(tensor) != count:
                raise ValueError(f"extra {name!r} has {len(tensor)} rows for {count} examples, or a reserved name")


def derived_seed(*numbers: int) -> int:
    """One seed from several numbers, such as (seed, epoch): different for (0, 1) and (1, 0), unlike their sum."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
