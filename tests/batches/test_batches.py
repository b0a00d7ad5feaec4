"""Batches: which rows, in which order, with which tokens and pixels; and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mmutils.batches import Batches, ahead, derived_seed
from mmutils.batches.augment import Augment, MultiCrop
from mmutils.models.text import TextEncoder


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """Ten rows on five pictures, row i with i % 4 + 1 words."""
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path / "cache"))
    for number in range(5):
        Image.new("RGB", (20, 20), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")
    ids = [f"e{row}" for row in range(10)]
    columns = {"id": ids, "group": ids, "image": [str(tmp_path / f"{row % 5}.png") for row in range(10)]}
    columns |= {"text": [" ".join(["one", "two", "three", "four"][: row % 4 + 1]) for row in range(10)]}
    return pd.DataFrame({**columns, "label": [row % 3 for row in range(10)]})


@pytest.fixture
def tokenizer():
    words = {
        word: number for number, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "one", "two", "three", "four"])
    }
    fast = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )


def ids_of(batches):
    return [identity for batch in batches for identity in batch["id"]]


def test_everything_in_row_order(examples, tokenizer):
    batches = Batches(examples, 4, image_size=8, tokenizer=tokenizer, extra={"features": torch.arange(10.0)[:, None]})
    assert len(batches) == 3
    seen = list(batches.epoch())
    assert [len(batch["id"]) for batch in seen] == [4, 4, 2]
    assert ids_of(seen) == examples["id"].tolist()
    assert torch.cat([batch["label"] for batch in seen]).tolist() == examples["label"].tolist()
    assert torch.cat([batch["features"] for batch in seen]).flatten().tolist() == list(range(10))
    red = torch.cat([batch["image"] for batch in seen])
    assert red.shape == (10, 3, 8, 8) and red.dtype == torch.float32
    torch.testing.assert_close(red[:, 0, 3, 3], torch.tensor([50.0 * (row % 5) / 255 for row in range(10)]))


def test_tokens_equal_the_tokenizers_own_padding(examples, tokenizer):
    for max_length in (64, 4):
        for batch in Batches(examples, 3, tokenizer=tokenizer, max_length=max_length).epoch():
            texts = examples.set_index("id").loc[batch["id"], "text"].tolist()
            expected = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
            for name in ("input_ids", "attention_mask"):
                assert torch.equal(batch[name], expected[name]) and batch[name].dtype == torch.int64
    assert batch["input_ids"].shape[1] == 4 and batch["input_ids"][-1].tolist() == [1, 4, 5, 2]  # cut, [SEP] kept


def test_order_and_views_depend_on_seed_and_epoch_only(examples):
    def epoch(number, seed=0, before=()):
        batches = Batches(examples, 4, image_size=8, augment=Augment(8), shuffle=True, seed=seed)
        for earlier in before:
            list(batches.epoch(earlier))
        torch.manual_seed(len(before))
        seen = list(batches.epoch(number))
        return ids_of(seen), torch.cat([batch["image"] for batch in seen])

    ids, views = epoch(2)
    assert sorted(ids) == sorted(examples["id"]) and ids != examples["id"].tolist()
    again, same_views = epoch(2, before=(0, 1))
    assert again == ids and torch.equal(same_views, views)
    assert epoch(1)[0] != ids != epoch(2, seed=1)[0]
    assert epoch(1, seed=1)[0] != ids  # as it would be if the seed were the sum
    assert derived_seed(0, 1) != derived_seed(1, 0)


def test_views_and_dropped_rest(examples):
    batches = Batches(examples, 4, image_size=16, augment=MultiCrop.dino(12, 6, 2), shuffle=True, drop_last=True)
    assert len(batches) == 2
    seen = list(batches.epoch())
    assert [len(batch["id"]) for batch in seen] == [4, 4]
    assert [tuple(view.shape) for view in seen[0]["image"]] == [(4, 3, 12, 12)] * 2 + [(4, 3, 6, 6)] * 2


@pytest.mark.parametrize("count, size, sizes", [(9, 4, [4, 5]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (1, 4, [1])])
def test_a_rest_of_one_joins_the_batch_before_it(examples, count, size, sizes):
    batches = Batches(examples[:count], size, image_size=8)
    assert [len(batch["id"]) for batch in batches.epoch()] == sizes and len(batches) == len(sizes)
    assert batches.smallest() == min(sizes)
    assert [name for batch in batches.epoch() for name in batch["id"]] == examples["id"][:count].tolist()
    dropped = Batches(examples[:9], 4, image_size=8, drop_last=True)
    assert [len(batch["id"]) for batch in dropped.epoch()] == [4, 4]


def test_unordered_index_and_shared_pictures(examples):
    shuffled = examples.sample(frac=1, random_state=0)
    batches = Batches(shuffled, 10, image_size=8)
    (batch,) = batches.epoch()
    assert batch["id"] == shuffled["id"].tolist()
    expected = shuffled["image"].map(lambda path: 50 * int(path[-5]) / 255)
    torch.testing.assert_close(batch["image"][:, 0, 0, 0], torch.tensor(expected.to_numpy(np.float32)))
    assert batches.pictures.shape[0] == 5


def test_what_is_refused(examples, tokenizer):
    with pytest.raises(ValueError, match="lacks the columns"):
        Batches(examples.drop(columns="image"), 4, image_size=8)
    with pytest.raises(ValueError, match="10 examples leave no batch with batch_size=0"):
        Batches(examples, 0)
    with pytest.raises(ValueError, match="10 examples leave no batch with batch_size=11, drop_last=True"):
        Batches(examples, 11, drop_last=True)
    with pytest.raises(ValueError, match="0 examples leave no batch"):
        Batches(examples[:0], 4)
    with pytest.raises(ValueError, match="1 of 10 examples have no image"):
        Batches(examples.assign(image=[None, *examples["image"][1:]]), 4, image_size=8)
    with pytest.raises(ValueError, match="10 of 10 examples have no text"):
        Batches(examples.assign(text=np.nan), 4, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="9 rows for 10 examples"):
        Batches(examples, 4, extra={"features": torch.zeros(9, 2)})
    with pytest.raises(ValueError, match="give image_size"):
        Batches(examples, 4, augment=Augment(8))


def test_texts_of_like_length_share_a_batch_and_every_row_comes_once():
    words = np.random.default_rng(0).integers(1, 60, 400)
    rows = pd.DataFrame({"id": map(str, range(400)), "label": 0, "text": ["a " * count for count in words]})
    tokenizer = TextEncoder.small(["a b"], width=32, layers=1).tokenizer
    made = {by: Batches(rows, 8, tokenizer=tokenizer, shuffle=True, by_length=by) for by in (False, True)}
    padded = {by: sum(batch["input_ids"].numel() for batch in made[by].epoch(1)) for by in made}
    real = sum(int(batch["attention_mask"].sum()) for batch in made[True].epoch(1))
    assert real < padded[True] < 1.2 * real < 1.5 * real < padded[False]
    orders = [[batch["id"] for batch in made[True].epoch(number)] for number in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(id for batch in orders[0] for id in batch) == sorted(rows["id"])
    lengths = [len(batch["input_ids"][0]) for batch in made[True].epoch(1)]
    assert abs(np.corrcoef(lengths[:16], range(16))[0, 1]) < 0.9, "batches of a pool come in order of length"
    with pytest.raises(ValueError, match="would always leave out long texts"):
        Batches(rows, 7, tokenizer=tokenizer, shuffle=True, by_length=True, drop_last=True)


def test_batches_made_ahead_are_the_same_in_the_same_order_and_errors_come_through(examples):
    made = Batches(examples, 3, shuffle=True, seed=4, extra={"noise": torch.rand(10, 2)})
    for plain, early in zip(made.epoch(2), ahead(made.epoch(2)), strict=True):
        assert plain["id"] == early["id"] and torch.equal(plain["noise"], early["noise"])

    def broken():
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        list(ahead(broken()))
    assert next(ahead(iter([1, 2, 3]))) == 1  # whoever stops early leaves no thread behind
