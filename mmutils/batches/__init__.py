"""Batches: the rows of a table of examples as tensors, in the order and with the views of an epoch.

A batch is a dict: `image` float32 (B, 3, H, W) in [0, 1], or a list of such views, which image encoders normalise;
`input_ids` and `attention_mask` int64 (B, T), padded to the longest text of the batch; `label` int64 (B,); `id`, a list
of B strings. An epoch depends on (seed, epoch number) only, so a resumed run sees the same batches.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmutils.batches.augment import Augment, MultiCrop, derived_seed
from mmutils.batches.images import decode
from mmutils.runs import identity

POOL = 16  # batches whose rows are sorted by length together


@dataclass(eq=False, repr=False)
class Batches:
    """The examples in batches; iterate over `epoch(number)`. A rest of one joins the batch before: batch norms.

    ValueError: no batch, no column, pictures or texts missing, `extra` of another length. Pictures: as `decode`.
    """

    examples: pd.DataFrame  # with the columns id, label and, where they are used, image (paths) and text
    batch_size: int
    _: KW_ONLY
    image_size: int | None = None  # pixels of the square to which whole pictures are resized; None: no `image`
    pad: bool = False  # keep the pictures' proportions, with white beside them
    tokenizer: Callable | None = None  # of Hugging Face, with a padding token; None: no tokens
    max_length: int = 64  # tokens after which a text is cut
    augment: Augment | MultiCrop | Callable | None = None  # (uint8 (B, 3, S, S), generator) -> float views in [0, 1]
    extra: dict[str, Tensor] | None = None  # (N, ...) in the order of the rows, such as cached features, by name
    shuffle: bool = False
    by_length: bool = False  # with shuffle: texts of like length in one batch, so that little of it is padding
    drop_last: bool = False  # leave out a last batch that is smaller than the others
    seed: int = 0
    device: torch.device = field(default=torch.device("cpu"), init=False)  # where batches are made and augmented

    def __post_init__(self):
        self.examples, self.extra = self.examples.reset_index(drop=True), self.extra or {}
        count = len(self.examples)
        inputs = ["image"] * (self.image_size is not None) + ["text"] * (self.tokenizer is not None)
        if missing := [column for column in ("id", "label", *inputs) if column not in self.examples]:
            raise ValueError(f"the table of examples lacks the columns {missing}; it has {list(self.examples)}")
        if self.batch_size < 1 or count < (self.batch_size if self.drop_last else 1):
            size = f"batch_size={self.batch_size}, drop_last={self.drop_last}"
            raise ValueError(f"{count} examples leave no batch with {size}")
        ends, rest = list(range(self.batch_size, count + 1, self.batch_size)), count % self.batch_size
        if rest and not self.drop_last:
            ends = [*ends[:-1], count] if rest == 1 else [*ends, count]
        self.slices = [slice(start, end) for start, end in pairwise([0, *ends])]  # of each batch in an epoch's order
        for column in inputs:
            if absent := count - sum(isinstance(value, str) for value in self.examples[column]):
                raise ValueError(f"{absent} of {count} examples have no {column}: leave them out, or do without")
        if self.by_length and self.drop_last:
            raise ValueError("by_length=True with drop_last=True would always leave out long texts: choose one")
        if self.augment and self.image_size is None:
            raise ValueError("augment needs pictures: give image_size as well")
        for name, tensor in self.extra.items():
            if name in ("id", "label", "image", "input_ids", "attention_mask") or len(tensor) != count:
                raise ValueError(f"extra {name!r} has {len(tensor)} rows for {count} examples, or a reserved name")
        self.ids = self.examples["id"].tolist()
        self.labels = torch.tensor(self.examples["label"].to_numpy(np.int64))
        self.pictures = self.tokens = None
        if self.tokenizer is not None:
            encoded = self.tokenizer(self.examples["text"].tolist(), truncation=True, max_length=self.max_length)
            self.tokens = [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]
        if self.image_size is not None:  # a picture that several rows share is decoded and stored once
            self.picture_of_row, paths = pd.factorize(self.examples["image"])
            self.pictures = decode(list(paths), self.image_size, self.pad)  # memory map (pictures, S, S, 3)

    def __len__(self) -> int:
        return len(self.slices)

    def epoch(self, number: int = 0) -> Iterator[dict]:
        """The batches of one pass; the same number gives the same batches."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, number))
        count = len(self.examples)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        batches = [order[part] for part in self.slices]
        if self.shuffle and self.by_length:
            batches = self._of_like_length(order, generator)
        made = (self._batch(rows, generator) for rows in batches)
        yield from made if self.device.type == "cpu" else ahead(made)

    def _of_like_length(self, order: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Rows of the epoch's batches: POOL batches at a time sorted by length; in random order."""
        lengths, pool = self._lengths(), POOL * self.batch_size
        order = torch.cat([rows[lengths[rows].argsort(stable=True)] for rows in order.split(pool)])
        return [order[self.slices[i]] for i in torch.randperm(len(self), generator=generator)]

    def _lengths(self) -> Tensor:
        """Tokens of each row's text; 0 where no text is read."""
        return torch.tensor([len(ids) for ids in self.tokens or [()] * len(self.examples)])

    def longest_first(self) -> Iterator[tuple[Tensor, dict]]:
        """Every row once, as (row numbers, batch), longest texts first: texts of like length need little padding."""
        order = self._lengths().argsort(stable=True, descending=True)
        made = ((rows, self._batch(rows, torch.Generator())) for rows in order.split(self.batch_size))
        yield from made if self.device.type == "cpu" else ahead(made)

    def smallest(self) -> int:
        """Examples in the smallest batch of an epoch."""
        return min(part.stop - part.start for part in self.slices)

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
            "batches": [self.batch_size, self.shuffle, self.drop_last, self.seed, self.by_length],
        }

    def _batch(self, rows: Tensor, generator: torch.Generator) -> dict:
        batch = {"id": [self.ids[row] for row in rows], "label": self._moved(self.labels[rows])}
        if self.pictures is not None:
            images = torch.from_numpy(self.pictures[self.picture_of_row[rows.numpy()]])  # (B, S, S, 3)
            images = self._moved(images).permute(0, 3, 1, 2)  # (B, 3, S, S), channels last in memory
            batch["image"] = self.augment(images, generator) if self.augment else images.float().div_(255)
        if self.tokens is not None:
            ids = [torch.from_numpy(self.tokens[row]).long() for row in rows]
            mask = [torch.ones_like(text) for text in ids]
            batch["input_ids"] = self._moved(pad_sequence(ids, True, self.tokenizer.pad_token_id))
            batch["attention_mask"] = self._moved(pad_sequence(mask, batch_first=True))
        return batch | {name: self._moved(tensor[rows.to(tensor.device)]) for name, tensor in self.extra.items()}

    def _moved(self, tensor: Tensor) -> Tensor:
        """The tensor on the batches' device; a GPU copies from pinned memory, and the host does not wait for it."""
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def ahead(items: Iterator) -> Iterator:
    """The items, each made by a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
