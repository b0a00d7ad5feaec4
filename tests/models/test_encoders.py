"""Encoders: shapes, normalisation, what is frozen and what learns, pooling, Hindi signs, layers taken apart."""

import copy

import pytest
import timm
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn

from mmutils.methods.supervised import Supervised
from mmutils.models import weights
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import CachedEncoder, masked_mean
from mmutils.models.fusion import FusedEncoder, Gated
from mmutils.models.image import ImageEncoder, _WholeMap
from mmutils.models.text import TextEncoder
from mmutils.models.transformer import add_prefix, layer_list, lost_marks, new_model

TEXTS = ["a grinning face", "red heart", "हँसता हुआ चेहरा", "लाल दिल और बड़ी मुस्कान"]


def tokenize(encoder, texts=TEXTS, **options):
    return dict(encoder.tokenizer(texts, padding=True, return_tensors="pt", **options))


def save(encoder, folder):
    """An ordinary Hugging Face folder."""
    encoder.model.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)


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
        ("vit_base_patch32_clip_224.openai", 224, 768, 49),
        ("vit_base_patch16_siglip_224", 224, 768, 196),
        ("vit_small_patch16_224.dino", 224, 384, 196),
        ("vit_small_patch14_dinov2.lvd142m", 518, 384, 1369),
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
        assert encoder.network.pos_embed.shape[1] == tokens + encoder.network.num_prefix_tokens  # the class token
        config = timm.get_pretrained_cfg(name)
        assert torch.equal(encoder.mean.flatten(), torch.tensor(config.mean)) and encoder.std[0] == config.std[0]


def test_image_is_timm_on_normalised_pixels():
    encoder, image = ImageEncoder("resnet18").eval(), torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor(timm.data.IMAGENET_DEFAULT_MEAN), torch.tensor(timm.data.IMAGENET_DEFAULT_STD)
    with torch.inference_mode():
        expected = encoder.network((image - mean[:, None, None]) / std[:, None, None])
        encoded = encoder.encode({"image": image})
    torch.testing.assert_close(encoded.features, expected)
    torch.testing.assert_close(encoded.tokens.mean(dim=1), expected)  # a residual network averages its places


def test_vggs_layer_over_the_whole_map_gives_what_a_convolution_gives():
    with torch.device("meta"):  # 134 million parameters
        layer = ImageEncoder("vgg16").network.pre_logits.fc1
    assert type(layer) is _WholeMap and layer.kernel_size == (7, 7)
    small = _WholeMap(3, 5, 4).double()
    for side in (4, 6):  # a larger map has several places
        image = torch.rand(2, 3, side, side, dtype=torch.float64, requires_grad=True)
        expected = nn.functional.conv2d(image, small.weight, small.bias)
        torch.testing.assert_close(small(image), expected)
        gradients = [torch.autograd.grad(out.square().sum(), small.weight)[0] for out in (small(image), expected)]
        torch.testing.assert_close(*gradients)


def test_image_sizes():
    small = ImageEncoder("vit_tiny_patch16_224", size=64)
    assert small.size == 64 and small.network.pos_embed.shape[1] == 16 + 1
    views = [torch.rand(1, 3, side, side) for side in (32, 64, 96)]
    assert [small.encode({"image": view}).tokens.shape[1] for view in views] == [16, 16, 16]  # resized
    convolutional = ImageEncoder("resnet18", size=64).eval()
    assert [convolutional.encode({"image": view}).tokens.shape[1] for view in views] == [1, 4, 4]


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
        TextEncoder("small", pooling="max", loaded=(text.model, text.tokenizer, "random"))
    monkeypatch.setattr(weights, "get_session", lambda: None)  # no network
    with pytest.raises(FileNotFoundError, match=r"HF_HOME.*efficientnet.*pretrained=False"):
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
    method = Supervised(Classifier(fused, 3))
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
    torch.testing.assert_close(masked_mean(tokens, mask), naive)


def test_padding_changes_nothing(text):
    with torch.inference_mode():
        alone = torch.cat([text(tokenize(text, [one])) for one in TEXTS])
        torch.testing.assert_close(text(tokenize(text)), alone, atol=1e-5, rtol=1e-5)


def test_small_keeps_hindi_and_reloads(text, tmp_path, recwarn):
    assert lost_marks(text.tokenizer, [*TEXTS, "क्षत्रिय ज़मीन गाँव", "unseen: ñandú"]) == {"\u0303", "\u0301"}
    save(text, tmp_path)
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
    save(text, tmp_path)
    encoder = TextEncoder(tmp_path)
    add_prefix(encoder.tokenizer, "query: ")
    expected = text.tokenizer([f"query: {one}" for one in TEXTS])["input_ids"]
    assert encoder.tokenizer(TEXTS)["input_ids"] == expected
    save(encoder, tmp_path / "again")
    assert TextEncoder(tmp_path / "again").tokenizer(TEXTS)["input_ids"] == expected


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "electra"])
def test_the_last_layers_of_any_architecture_learn(architecture):
    """A gradient reaches the last layer alone, and the features are those of the whole encoder."""
    whole = TextEncoder.small(TEXTS, architecture=architecture, width=32, layers=3, heads=2, vocabulary=300).eval()
    batch, expected = tokenize(whole), whole(tokenize(whole))
    with pytest.raises(ValueError, match="has 3 layers: let its last 1 to 2 learn"):
        whole.train_last(3)
    whole.train_last(1).train()
    resting = [name for name, module in whole.named_modules() if name and not module.training]
    assert any("embed" in name for name in resting) and any(name.endswith("layer.1") for name in resting)
    whole(batch).sum().backward()
    learned = {name for name, parameter in whole.named_parameters() if parameter.grad is not None}
    assert learned and all(".2." in name for name in learned)
    torch.testing.assert_close(whole.eval()(batch), expected)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "electra", "modernbert", "xlm-roberta"])
def test_layers_below_are_computed_once_for_each_text(architecture):
    """In all batches of kept texts, modes and copies; features, gradients and names of weights stay the same."""
    encoder = TextEncoder.small(TEXTS, architecture=architecture, width=32, layers=3, heads=2, vocabulary=300)
    plain = copy.deepcopy(encoder.train_last(1))
    encoder.keep_lower([tokenize(encoder, TEXTS[:2]), tokenize(encoder, TEXTS[2:3])])
    assert encoder.training
    computed, expected = [], None
    layer_list(encoder.model)[1][0].register_forward_hook(lambda layer, given, _: computed.append(len(given[0])))
    with torch.inference_mode():
        encoder(tokenize(encoder, TEXTS[:2]))
    for one in (encoder.eval(), copy.deepcopy(encoder).eval(), plain.eval()):
        batches = [tokenize(one, texts) for texts in (TEXTS[:3], TEXTS[2::-1], TEXTS[:1], TEXTS)]
        features = torch.cat([one(batch) for batch in batches])
        features.square().sum().backward()
        gradients = [parameter.grad for parameter in one.parameters() if parameter.requires_grad]
        expected = expected or (features, gradients)
        torch.testing.assert_close((features, gradients), expected)
    assert computed == [4, 4], "only a batch with a text that was not kept"
    assert list(encoder.state_dict()) == list(plain.state_dict())


def test_layers_that_need_more_than_states_are_computed_in_every_epoch(text):
    """An architecture whose first layer hands something on is seen by its other answer."""
    encoder = copy.deepcopy(text)
    first, *_, last = layer_list(encoder.model)[1]
    first.register_forward_hook(lambda layer, *_: vars(last).__setitem__("scale", 2.0))
    last.register_forward_hook(lambda layer, given, states: states * vars(layer).pop("scale", 1.0))
    batch, expected = tokenize(encoder), encoder(tokenize(encoder))
    encoder.train_last(1).keep_lower([batch])
    torch.testing.assert_close(encoder(batch), expected)


def test_word_vectors_stay_where_a_pretrained_model_learns_whole(text, tmp_path):
    save(text, tmp_path)
    for encoder, learn in ((copy.deepcopy(text), True), (TextEncoder(tmp_path), False)):
        encoder.train_last(-1)
        resting = [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
        assert resting == ([] if learn else ["model.embeddings.word_embeddings.weight"])


PUBLISHED = {  # hub name: configuration as published, its parameters without a pooling layer
    "distilbert-base-uncased": ("distilbert", {"vocab_size": 30522}, 66_362_880),
    "distilbert-base-multilingual-cased": ("distilbert", {"vocab_size": 119547}, 134_734_080),
    "google/muril-base-cased": ("bert", {"vocab_size": 197285}, 236_965_632),
    "xlm-roberta-base": (
        "xlm-roberta",
        {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1},
        277_453_056,
    ),
    "monsoon-nlp/hindi-bert": (  # an ELECTRA-small; here with the English one's vocabulary
        "electra",
        {"vocab_size": 30522, "embedding_size": 128, "hidden_size": 256, "intermediate_size": 1024},
        13_483_008,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_hub_architectures(name, text, tmp_path):
    """At full size without memory for the weights; with them and run, from a folder, with two layers and 300 pieces."""
    kind, options, parameters = PUBLISHED[name]
    if kind == "electra":
        options = options | {"num_attention_heads": 4}
    with torch.device("meta"):
        whole = new_model(transformers.AutoConfig.for_model(kind, **options))
    assert sum(p.numel() for p in whole.parameters()) == parameters
    layers = {"n_layers" if kind == "distilbert" else "num_hidden_layers": 2, "vocab_size": len(text.tokenizer)}
    config = transformers.AutoConfig.for_model(kind, **options | layers, pad_token_id=text.tokenizer.pad_token_id)
    saved = transformers.AutoModel.from_config(config).eval()
    saved.save_pretrained(tmp_path)
    text.tokenizer.save_pretrained(tmp_path)
    encoder = TextEncoder(tmp_path).eval()
    batch = tokenize(encoder)
    with torch.inference_mode():
        expected = saved(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        torch.testing.assert_close(encoder.encode(batch).tokens, expected)
    assert encoder.pooling == "mean" and encoder(batch).shape == (4, config.hidden_size)


def test_new_models_run_no_code_of_others(monkeypatch):
    options = []
    make = lambda config, **given: options.append(given)  # noqa: E731
    monkeypatch.setattr(transformers.AutoModel, "from_config", make)
    new_model(transformers.AutoConfig.for_model("bert"))
    assert options[0]["trust_remote_code"] is False


def clip_tokenizer():
    """CLIP's own, from the vocabulary that open_clip carries."""
    open_clip = pytest.importorskip("open_clip")
    words = open_clip.tokenizer.SimpleTokenizer()
    merges = sorted(words.bpe_ranks, key=words.bpe_ranks.get)
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    vocabulary = {piece.replace("<start_of_text>", ends["bos_token"]): i for piece, i in words.encoder.items()}
    vocabulary = {piece.replace("<end_of_text>", ends["eos_token"]): i for piece, i in vocabulary.items()}
    return transformers.CLIPTokenizer(vocabulary, merges, **ends), words


def two_sides(kind, **text):
    """CLIP or SigLIP with a tiny image side and the published text side, random weights."""
    tiny = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, text_config=text, vision_config=tiny)
    return transformers.AutoModel.from_config(config).eval()


def test_clip_text(tmp_path):
    """openai/clip-vit-base-patch32's text side at full size (63 M parameters), with its own tokenizer."""
    tokenizer, reference = clip_tokenizer()
    model = two_sides("clip", bos_token_id=49406, eos_token_id=49407, pad_token_id=49407)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = TextEncoder(tmp_path).eval()
    assert not lost_marks(encoder.tokenizer, TEXTS)
    assert sum(p.numel() for p in encoder.model.parameters()) == 63_165_952
    for one in TEXTS:
        ids = encoder.tokenizer(one)["input_ids"]
        assert ids == [i for i in reference(one)[0].tolist() if i], one
    batch = tokenize(encoder)
    with torch.inference_mode():
        expected = model.text_model(**batch)
        ends = (batch["input_ids"] == 49407).int().argmax(dim=1)
        torch.testing.assert_close(encoder(batch), expected.last_hidden_state[torch.arange(4), ends])
        torch.testing.assert_close(torch.cat([encoder(tokenize(encoder, [one])) for one in TEXTS]), encoder(batch))
    save(encoder, tmp_path / "again")
    again = TextEncoder(tmp_path / "again").eval()
    assert again.pooling == "own" and torch.equal(again(batch), encoder(batch))
    with pytest.raises(ValueError, match="'own' and 'mean'"):
        TextEncoder(tmp_path, pooling="cls")


def test_siglip_text(text, tmp_path):
    """SigLIP's text side at its published width, with two layers and 300 pieces: it reads texts filled up to 64."""
    last = {"vocab_size": len(text.tokenizer), "pad_token_id": text.tokenizer.pad_token_id, "num_hidden_layers": 2}
    model = two_sides("siglip", **last)
    model.save_pretrained(tmp_path)
    text.tokenizer.save_pretrained(tmp_path)
    encoder = TextEncoder(tmp_path).eval()
    full = encoder.tokenizer(TEXTS, padding="max_length", max_length=64, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = model.text_model(input_ids=full).pooler_output
        torch.testing.assert_close(encoder(tokenize(encoder)), expected)
    save(encoder, tmp_path / "again")
    assert torch.equal(TextEncoder(tmp_path / "again").eval()(tokenize(encoder)), encoder(tokenize(encoder)))


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
