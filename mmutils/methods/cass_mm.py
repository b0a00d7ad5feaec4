"""CASS-MM: CASS for posts. Each branch reads picture and text: a CNN or a vision transformer, and words.

It has no loss of its own: it is CASS on two fused encoders, whose features are a layer of 256 units on picture and text
side by side.
"""

from collections.abc import Mapping, Sequence

from mmutils.methods.cass import CASS
from mmutils.models.fusion import Concatenation, FusedEncoder
from mmutils.models.image import ImageEncoder
from mmutils.models.text import load_text_encoder


def cass_mm(
    networks: Mapping[str, int],
    texts: Sequence[str],
    text_encoder: str = "",
    pretrained: bool = False,
    shared_text: bool = False,
    hidden: float = 0.0,
    cure: str = "contrastive",
) -> CASS:
    """A new CASS-MM of which every layer is trained.

    Args:
        networks: the timm models of the two branches with their pixels, CNN first.
        texts: those of the pretraining, for the tokenizer of a text encoder from scratch.
        text_encoder: a Hugging Face model; empty for a small one from scratch.
        pretrained: whether the image networks start from ImageNet weights.
        shared_text: one text encoder for both branches, else one each.
        hidden: share of the examples of which a branch is not shown picture or text, drawn anew for each branch.
    """
    images = [ImageEncoder(name, pretrained, size=size) for name, size in networks.items()]
    first = load_text_encoder(texts, text_encoder, frozen=False)
    second = first if shared_text else load_text_encoder(texts, text_encoder, frozen=False)
    branches = []
    for image, text in zip(images, (first, second), strict=True):
        branches.append(FusedEncoder(image, text, Concatenation(image.dim, text.dim, (256,), dropout=0.0, hide=hidden)))
    return CASS(*branches, cure=cure)
