"""Encoders: shapes, normalisation, what is frozen and what learns, pooling, Hindi signs, layers taken apart."""

import pytest
import timm
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn

from mmutils import hub
from mmutils.classifier import Classifier
from mmutils.encoders import CachedEncoder, FusedEncoder, ImageEncoder, TextEncoder
from mmutils.fusion import Gated
from mmutils.methods.supervised import Supervised
from mmutils.tokens import lost_marks
from mmutils.transformer import pool

TEXTS = ["a grinning face", "red heart", "हँसता हुआ चेहरा", "लाल दिल और बड़ी मुस्कान"]


def tokenize(encoder, texts=TEXTS, **options):
    return dict(encoder.tokenizer(texts, padding=True, return_tensors="pt", **options))


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(0)
    return TextEncoder.small(TEXTS, width=32, layers=3, heads=2, vocabulary=300).eval()


@pytest.mark.parametrize(
    ("name", "size", "dim", "tokens"),
    [
        ("resnet18", 224, 512, 49),
        ("resnet50", 224, 2048, 49),
        ("vgg16", 224, 4096, None),
        ("inception_v3", 299, 2048, 64),
        ("vit_base_patch16_224", 224, 768, 196),
        ("vit_base_patch16_384", 384, 768, 576),
    ],
)
def test_image_shapes(name, size, dim, tokens):
    encoder = ImageEncoder(name).eval()
    assert (encoder.size, encoder.dim, encoder.source) == (size, dim, "random")
    with torch.inference_mode():
        encoded = encoder.encode({"image": torch.rand(1, 3, size, size)})
    assert encoded.features.shape == (1, dim)
    assert encoded.tokens is None if tokens is None else encoded.tokens.shape == (1, tokens, dim)
    assert not any("aux" in part.lower() for part in encoder.state_dict())
    if name.startswith("vit"):
        assert encoder.network.pos_embed.shape[1] == tokens + 1  # the class token


def test_image_is_timm_on_normalised_pixels():
    encoder, image = ImageEncoder("resnet18").eval(), torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor(timm.data.IMAGENET_DEFAULT_MEAN), torch.tensor(timm.data.IMAGENET_DEFAULT_STD)
    with torch.inference_mode():
        expected = encoder.network((image - mean[:, None, None]) / std[:, None, None])
        encoded = encoder.encode({"image": image})
    torch.testing.assert_close(encoded.features, expected)
    torch.testing.assert_close(encoded.tokens.mean(dim=1), expected)  # a residual network averages its places


def test_image_sizes():
    small = ImageEncoder("vit_tiny_patch16_224", size=64)
    assert small.size == 64 and small.network.pos_embed.shape[1] == 16 + 1
    views = [torch.rand(1, 3, side, side) for side in (32, 64, 96)]
    assert [small.encode({"image": view}).tokens.shape[1] for view in views] == [16, 16, 16]  # resized
    crops = ImageEncoder("vit_tiny_patch16_224", size=64, dynamic=True)
    assert [crops.encode({"image": view}).tokens.shape[1] for view in views] == [4, 16, 16]
    convolutional = ImageEncoder("resnet18", size=64).eval()
    assert [convolutional.encode({"image": view}).tokens.shape[1] for view in views] == [1, 4, 4]


def test_image_weights_from_file(tmp_path):
    trained = ImageEncoder("vit_tiny_patch16_224", size=64)
    trained.save(tmp_path / "weights.safetensors")
    encoder = ImageEncoder("vit_tiny_patch16_224", size=96, weights=tmp_path / "weights.safetensors")
    torch.testing.assert_close(encoder.network.blocks[3].mlp.fc1.weight, trained.network.blocks[3].mlp.fc1.weight)
    assert encoder.network.pos_embed.shape[1] == 36 + 1 and encoder.source.startswith("file ")
    with pytest.raises(FileNotFoundError, match="is no file"):
        ImageEncoder("resnet18", weights=tmp_path / "other.safetensors")


def test_errors_say_what_to_do(text, monkeypatch):
    with pytest.raises(ValueError, match="resnet18"):
        ImageEncoder("resnet_18")
    with pytest.raises(ValueError, match="image_size"):
        ImageEncoder("resnet18")({"label": torch.zeros(1)})
    with pytest.raises(ValueError, match="tokenizer"):
        text({"label": torch.zeros(1)})
    with pytest.raises(ValueError, match="views"):
        ImageEncoder("resnet18")({"image": [torch.rand(1, 3, 64, 64)] * 2})
    with pytest.raises(ValueError, match="pooling"):
        TextEncoder.small(TEXTS, pooling="max")
    monkeypatch.setattr(hub, "reachable", lambda: False)
    with pytest.raises(FileNotFoundError, match=r"HF_HOME.*efficientnet.*weights=.*pretrained=False"):
        ImageEncoder("vgg19", pretrained=True)
    with pytest.raises(FileNotFoundError, match=r"HF_HOME.*multilingual-e5-small.*folder.*TextEncoder.small"):
        TextEncoder("nobody/no-such-model")


def test_frozen_does_not_move():
    encoder = ImageEncoder("resnet18", frozen=True)
    classifier = Classifier(encoder, 3)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    method = Supervised(classifier).train()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        method.loss({"image": torch.rand(4, 3, 64, 64), "label": torch.tensor([0, 1, 2, 0])}, 0.0).backward()
        optimizer.step()
    assert not encoder.training and classifier.head.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())  # batch norm as well
    assert classifier.head[1].weight.grad is not None


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "electra"])
def test_gradient_reaches_everything(architecture):
    encoder = TextEncoder.small(TEXTS, architecture=architecture, width=32, layers=2, heads=2, vocabulary=300)
    fused = FusedEncoder(ImageEncoder("vit_tiny_patch16_224", size=64), encoder, Gated(192, 32, dim=16))
    method = Supervised(Classifier(fused, 3), label_smoothing=0.1, class_weights=[1, 2, 3])
    batch = tokenize(encoder) | {"image": torch.rand(4, 3, 64, 64), "label": torch.tensor([0, 1, 2, 0])}
    method.loss(batch, 0.0).backward()
    assert not [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    groups = method.parameter_groups()
    assert sum(len(group["params"]) for group in groups) == len(list(method.parameters()))
    heads = {id(p) for group in groups if not group["encoder"] for p in group["params"]}
    assert heads == {id(p) for p in [*fused.fusion.parameters(), *method.classifier.head.parameters()]}
    assert all(p.ndim < 2 for group in groups if not group["decay"] for p in group["params"])


def test_masked_mean_is_the_naive_one():
    tokens, lengths = torch.randn(3, 5, 4), [5, 2, 1]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    naive = torch.stack([row[:length].mean(dim=0) for row, length in zip(tokens, lengths, strict=True)])
    torch.testing.assert_close(pool(tokens, mask, "mean"), naive)
    torch.testing.assert_close(pool(tokens, mask, "cls"), tokens[:, 0])


def test_padding_changes_nothing(text):
    with torch.inference_mode():
        alone = torch.cat([text(tokenize(text, [one])) for one in TEXTS])
        torch.testing.assert_close(text(tokenize(text)), alone, atol=1e-5, rtol=1e-5)


def test_small_keeps_hindi_and_reloads(text, tmp_path, recwarn):
    assert lost_marks(text.tokenizer, [*TEXTS, "क्षत्रिय ज़मीन गाँव", "unseen: ñandú"]) == {"\u0303", "\u0301"}
    text.save(tmp_path)
    again = TextEncoder(tmp_path).eval()
    assert again.source == f"folder {tmp_path}" and not recwarn.list
    with torch.inference_mode():
        torch.testing.assert_close(again(tokenize(again)), text(tokenize(text)))


def test_warning_where_signs_are_lost(text, tmp_path):
    vocabulary = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", *(chr(c) for c in range(0x900, 0x980))])}
    vocabulary |= {"##" + piece: len(vocabulary) + i for i, piece in enumerate(list(vocabulary)[2:])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=True, lowercase=True)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    assert {"\u0941", "\u094d", "\u0902"} <= lost_marks(fast, ["हिन्दुओं"])
    text.model.save_pretrained(tmp_path)
    fast.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="Hindi"):
        TextEncoder(tmp_path)


def test_prefix_is_part_of_the_tokenizer(text, tmp_path):
    text.save(tmp_path)
    encoder = TextEncoder(tmp_path, prefix="query: ")
    expected = text.tokenizer([f"query: {one}" for one in TEXTS])["input_ids"]
    assert encoder.tokenizer(TEXTS)["input_ids"] == expected
    encoder.save(tmp_path / "again")
    assert TextEncoder(tmp_path / "again").tokenizer(TEXTS)["input_ids"] == expected


def test_train_layers(text, tmp_path):
    text.save(tmp_path)
    encoder = TextEncoder(tmp_path, train_layers=1).train()
    encoder(tokenize(encoder)).sum().backward()
    learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning and all(".layer.2." in name for name in learning)
    assert [layer.training for layer in encoder.model.encoder.layer] == [False, False, True]
    assert not encoder.model.embeddings.dropout.training
    with pytest.raises(ValueError, match="1 to 3"):
        TextEncoder(tmp_path, train_layers=4)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "electra"])
def test_split_equals_the_whole(architecture):
    whole = TextEncoder.small(TEXTS, architecture=architecture, width=32, layers=3, heads=2, vocabulary=300).eval()
    batch = tokenize(whole)
    lower, upper = whole.freeze().split(1)
    with torch.inference_mode():
        expected, cached = whole.encode(batch), lower.encode(batch)
    assert not torch.allclose(cached.features, expected.features, atol=1e-3)
    given = {"text_tokens": cached.tokens.clone(), "text_mask": cached.mask.clone()}
    encoded = upper.eval().encode(given)
    torch.testing.assert_close(encoded.features, expected.features, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded.tokens, expected.tokens, atol=1e-5, rtol=0)
    upper.train()(given).sum().backward()
    assert all(p.grad is not None for p in upper.parameters()) and not any(p.requires_grad for p in lower.parameters())
    parts = {id(p) for p in [*lower.parameters(), *upper.parameters()]}
    assert parts == {id(p) for p in whole.parameters()}  # shared, so that the whole learns with the upper part
    with pytest.raises(ValueError, match="1 to 2"):
        whole.split(3)


def test_cached_encoder():
    encoder = CachedEncoder("photo", 4)
    batch = {"photo": torch.randn(2, 4), "photo_tokens": torch.randn(2, 3, 4).half(), "photo_mask": torch.ones(2, 3)}
    encoded = encoder.encode(batch)
    assert encoded.tokens.dtype == torch.float32 and encoded.mask.dtype == torch.bool
    assert torch.equal(encoder({"photo": batch["photo"]}), batch["photo"])
    with pytest.raises(ValueError, match="extra"):
        encoder({"label": torch.zeros(2)})
    with pytest.raises(ValueError, match="4 dimensions"):
        CachedEncoder("photo", 5)(batch)


def test_supervised_is_cross_entropy():
    method = Supervised(Classifier(CachedEncoder("x", 4), 5))
    nn.init.zeros_(method.classifier.head[1].weight), nn.init.zeros_(method.classifier.head[1].bias)
    loss = method.loss({"x": torch.randn(6, 4), "label": torch.arange(6) % 5}, 0.0)
    assert loss.item() == pytest.approx(torch.log(torch.tensor(5.0)).item())
