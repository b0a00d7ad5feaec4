"""Cached features equal fresh ones, follow their content, and are refused where rows would not match."""

import pandas as pd
import pytest
import torch
from PIL import Image

import mmutils.models.features as module
from mmutils.batches import Batches
from mmutils.models import saving
from mmutils.models.features import features
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder

TEXTS = ["a", "two words", "three words here", "लाल दिल", "one more for the road"]


@pytest.fixture
def examples(tmp_path, monkeypatch):
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path / "cache"))
    for row in range(5):
        Image.new("RGB", (40, 40), (50 * row, 90, 10)).save(tmp_path / f"{row}.png")
    images = [str(tmp_path / f"{row}.png") for row in range(5)]
    table = {"id": list("abcde"), "group": list("abcde"), "image": images, "text": TEXTS, "label": 0}
    return pd.DataFrame(table)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return TextEncoder.small(TEXTS, width=16, layers=2, heads=2, vocabulary=300)


@pytest.fixture
def computed(monkeypatch):
    """The number of times that features were really computed."""
    calls = []
    monkeypatch.setattr(module, "compute", lambda *given, real=module.compute: calls.append(1) or real(*given))
    return calls


def test_equal_to_the_encoder_row_by_row(examples, encoder, computed):
    batches = Batches(examples, 2, tokenizer=encoder.tokenizer)
    first, second = (features(encoder.train(), batches, tokens=True) for _ in range(2))
    assert len(computed) == 1 and encoder.training
    assert all(torch.equal(first[key], second[key]) for key in ("features", "tokens", "mask"))
    encoder.eval()
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            alone = encoder.encode(encoder.tokenizer([text], return_tensors="pt"))
        length = alone.tokens.shape[1]
        torch.testing.assert_close(first["features"][row], alone.features[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(first["tokens"][row, :length], alone.tokens[0], atol=1e-5, rtol=1e-5)
        assert first["mask"][row].sum() == length and not first["tokens"][row, length:].any()


def test_follow_weights_texts_and_settings(examples, encoder, computed):
    def run(table=examples):
        return features(encoder, Batches(table, 2, tokenizer=encoder.tokenizer))["features"]

    first = run()
    with torch.no_grad():
        encoder.model.encoder.layer[0].output.dense.bias[3] += 0.5
    assert not torch.equal(run(), first) and len(computed) == 2
    encoder.freeze()
    again = run()
    encoder.load_state_dict({name: 2 * value for name, value in encoder.state_dict().items()})
    assert not torch.equal(run(), again) and len(computed) == 3
    computed.clear()
    changed = run(examples.assign(text=["b", *TEXTS[1:]]))
    assert len(computed) == 1 and not torch.equal(changed[0], run()[0]) and torch.equal(changed[4], run()[4])
    encoder.pooling = "cls"
    run()
    assert len(computed) == 2
    run(examples.assign(label=1))
    assert len(computed) == 2  # labels do not matter


def test_do_not_depend_on_the_folder_that_an_encoder_lies_in(examples, encoder, computed, tmp_path):
    names = set()
    for place in ("here", "elsewhere"):
        saving.save_encoders({"words": encoder}, tmp_path / place / "run")
        loaded = saving.load_encoder(tmp_path / place / "run", "words")
        features(loaded, Batches(examples, 2, tokenizer=loaded.tokenizer))
        names.add(loaded.name)
    assert len(computed) == 1 and names == {"run/words-text"}


def test_pictures(examples, computed):
    torch.manual_seed(0)
    encoder = ImageEncoder("resnet18", size=32, frozen=True)
    first = features(encoder, Batches(examples, 2, image_size=32), tokens=True)
    assert first["features"].shape == (5, 512) and first["tokens"].shape == (5, 1, 512) and first["mask"].all()
    Image.new("RGB", (44, 40), (0, 255, 0)).save(examples["image"][0])
    second = features(encoder, Batches(examples, 2, image_size=32), tokens=True)
    assert len(computed) == 2 and not torch.equal(first["features"][0], second["features"][0])
    torch.testing.assert_close(first["features"][1:], second["features"][1:])


def test_result_can_be_trained_on(examples, encoder):
    found = features(encoder, Batches(examples, 2, tokenizer=encoder.tokenizer))["features"]
    layer = torch.nn.Linear(16, 2)
    layer(found).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("options", [{"shuffle": True}, {"drop_last": True}, {"augment": lambda image, _: image / 255}])
def test_refused(examples, encoder, options):
    batches = Batches(examples, 2, tokenizer=encoder.tokenizer, image_size=32, **options)
    with pytest.raises(ValueError, match="without augment, shuffle and drop_last"):
        features(encoder, batches)


def test_no_tokens(examples):
    encoder = ImageEncoder("mobilenetv3_small_050", size=32, frozen=True)
    with pytest.raises(ValueError, match="no tokens"):
        features(encoder, Batches(examples, 5, image_size=32), tokens=True)


def test_large_tokens_are_halved(examples, encoder, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 100)
    found = features(encoder, Batches(examples, 2, tokenizer=encoder.tokenizer), tokens=True)
    assert found["tokens"].dtype == torch.float16 and found["features"].dtype == torch.float32
