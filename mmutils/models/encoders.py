"""Encoders: modules from a batch to features (B, D), for pictures (timm), text (Hugging Face), both, or cached ones.

An encoder takes the whole batch and picks what it needs, so image, text and fused encoders can stand in for each other.
`encode(batch)` gives the tokens beside the features, for fusion by attention. A frozen encoder needs no gradient and
stays in evaluation mode, so that neither weights nor batch-norm statistics move.
"""

import copy
import difflib
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from mmutils.models.hub import image_weights
from mmutils.models.tokens import add_prefix, train_tokenizer, warn_of_lost_marks
from mmutils.models.transformer import cut, last_layers, load_model, new_model, no_progress_bar, pool


class Encoded(NamedTuple):
    """Features (B, D); tokens (B, T, D) or None; mask (B, T) bool, True for real tokens, None when all are."""

    features: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None


class Encoder(nn.Module):
    """What all encoders share. Subclasses set `dim` and define `encode`."""

    dim: int
    frozen = False

    def encode(self, batch: dict) -> Encoded:
        """Features and tokens of a batch."""
        raise NotImplementedError

    def forward(self, batch: dict) -> Tensor:
        """Features (B, D)."""
        return self.encode(batch).features

    def freeze(self) -> "Encoder":
        """Stop learning for good: no gradients, evaluation mode also under train()."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Encoder":
        return super().train(mode and not self.frozen)


def entry(batch: dict, key: str, advice: str):
    """batch[key], or a ValueError that says what to do."""
    if key not in batch:
        raise ValueError(f"the batch has no {key!r}, only {', '.join(batch)}: {advice}")
    return batch[key]


class ImageEncoder(Encoder):
    """Any timm model by its name, without its classification layer.

    pretrained: weights from a package or the hub (`source` says which). weights: a safetensors file with a state dict
    of the timm model instead. size: pixels of the square input, by default the model's own; a transformer's position
    table is resized to it. dynamic: whether a view smaller than `size` is taken as it is (multi-crop; a transformer
    then interpolates its position table) or enlarged to it; by default True for convolutional networks, False for
    models of a fixed input size. A larger view is always shrunk to `size`.

    `encode` also gives tokens (B, T, D): the patches of a transformer without its class token, the places of the last
    feature map of a convolutional network, None where the map has another width than the features (VGG: 512 and 4096).
    Forward expects pixels in [0, 1] and normalises them with the model's own mean and standard deviation.
    ValueError for an unknown name, FileNotFoundError where the weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        frozen: bool = False,
        size: int | None = None,
        dynamic: bool | None = None,
        weights: str | Path | None = None,
    ):
        super().__init__()
        self.name = name
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)
            raise ValueError(
                f"timm has no model {name!r}; near: {', '.join(near) or 'none'}. timm.list_models() has all"
            )
        file, self.source = image_weights(name, pretrained, weights)
        fixed = timm.get_pretrained_cfg(name, allow_unregistered=False).fixed_input_size
        self.dynamic = not fixed if dynamic is None else dynamic
        options = {"pretrained_cfg_overlay": {"file": str(file), "custom_load": False}} if file else {}  # not as .npz
        options |= {"img_size": size} if fixed and size else {}
        options |= {"dynamic_img_size": True} if fixed and self.dynamic else {}
        self.network = timm.create_model(name, pretrained=self.source != "random", num_classes=0, **options)
        config = resolve_model_data_config(self.network)
        self.size = size or config["input_size"][-1]
        self.dim = getattr(self.network, "head_hidden_size", self.network.num_features)
        patch = getattr(getattr(self.network, "patch_embed", None), "patch_size", 1)
        self.patch = patch if isinstance(patch, int) else patch[0]  # pixels
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(config[key]).view(3, 1, 1), persistent=False)
        if frozen:
            self.freeze()

    def save(self, file: str | Path) -> None:
        """Write the timm model's state dict as safetensors; `ImageEncoder(name, weights=file)` loads it."""
        save_file({name: value.contiguous() for name, value in self.network.state_dict().items()}, file)

    def encode(self, batch: dict) -> Encoded:
        image = entry(batch, "image", "give Batches an image_size")
        if not isinstance(image, Tensor):
            raise ValueError(f"the batch has {len(image)} views; encode them one by one: {{**batch, 'image': view}}")
        grid = self.network.forward_features((self.resize(image) - self.mean) / self.std)
        return Encoded(self.network.forward_head(grid), self.tokens(grid))

    def resize(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) at a size that the network takes."""
        largest = side = max(image.shape[-2:])
        if largest > self.size or not self.dynamic:
            side = self.size
        elif largest < self.size:
            side = max(largest - largest % self.patch, self.patch)  # whole patches
        return image if side == largest else F.interpolate(image, (side, side), mode="bilinear", antialias=True)

    def tokens(self, grid: Tensor) -> Tensor | None:
        """Tokens (B, T, D) from what timm's forward_features gives: (B, T, D), (B, D, H, W) or (B, H, W, D)."""
        if grid.ndim == 3:
            return grid[:, getattr(self.network, "num_prefix_tokens", 0) :]
        tokens = grid.flatten(1, 2) if getattr(self.network, "output_fmt", "") == "NHWC" else grid.flatten(2).mT
        return tokens if tokens.shape[-1] == self.dim else None


class TextEncoder(Encoder):
    """Any Hugging Face encoder by name or local folder, with its own tokenizer.

    pooling: "mean" over the real tokens; "cls", the first token; or "own", as CLIP (the state at the text's end) and
    SigLIP (a layer on the last place) were trained, their default. max_length: tokens, for whoever tokenises.
    prefix: written before every text by the tokenizer; by default "query: " for intfloat's e5 models, as in training.
    train_layers: train only the last n layers; embeddings and lower layers are frozen. pretrained=False: random weights
    for the model's configuration. `source` says where the weights came from.
    UserWarning where the tokenizer loses Hindi vowel signs; FileNotFoundError where the model cannot be had.
    """

    def __init__(
        self,
        name: str | Path,
        pretrained: bool = True,
        frozen: bool = False,
        pooling: str | None = None,
        max_length: int = 64,
        prefix: str | None = None,
        train_layers: int | None = None,
    ):
        super().__init__()
        self.model, self.tokenizer, self.source = load_model(str(name), pretrained)
        if prefix is None:
            prefix = "query: " if str(name).startswith("intfloat/") and "e5-" in str(name) else ""
        if prefix:
            add_prefix(self.tokenizer, prefix)
        self._settle(str(name), pooling, max_length)
        self.train_layers = train_layers
        if train_layers is not None:
            self.model.requires_grad_(False)
            last_layers(self.model, train_layers).requires_grad_(True)
        if frozen:
            self.freeze()

    def _settle(self, name: str, pooling: str | None, max_length: int) -> None:
        self._name, kind = name, self.model.config.model_type  # no setting: the same model may lie in two places
        known = ("own", "mean") if kind in ("clip_text_model", "siglip_text_model") else ("mean", "cls")
        pooling = pooling or known[0]
        if pooling not in known:
            raise ValueError(f"pooling={pooling!r} is unknown; {kind} has {' and '.join(map(repr, known))}")
        self.fills = kind == "siglip_text_model"  # trained on texts filled up to the last place, and without a mask
        self.pooling, self.max_length, self.dim = pooling, max_length, self.model.config.hidden_size
        warn_of_lost_marks(self.tokenizer, name)

    @property
    def name(self) -> str:
        """Where it came from: name or folder."""
        return self._name

    @classmethod
    def small(
        cls,
        texts,
        *,
        architecture: str = "bert",
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        vocabulary: int = 4000,
        pooling: str = "mean",
        max_length: int = 64,
    ) -> "TextEncoder":
        """A small transformer with random weights and a tokenizer trained on `texts` (those of the train split).

        architecture: a Hugging Face model type, as "bert", "distilbert", "electra"; width: D; vocabulary: most pieces.
        """
        encoder = cls.__new__(cls)
        Encoder.__init__(encoder)
        encoder.tokenizer = train_tokenizer(texts, vocabulary, max_length)
        config = transformers.AutoConfig.for_model(
            architecture,
            vocab_size=len(encoder.tokenizer),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=max_length,
            pad_token_id=encoder.tokenizer.pad_token_id,
        )
        setattr(config, "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size", 4 * width)
        encoder.model = new_model(config)
        encoder.source, encoder.train_layers = "random", None
        encoder._settle(f"small {architecture}", pooling, max_length)
        return encoder

    def save(self, folder: str | Path) -> None:
        """Write an ordinary Hugging Face folder; `TextEncoder(folder)` loads it, pooling and length are given again."""
        with no_progress_bar():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def encode(self, batch: dict) -> Encoded:
        ids = entry(batch, "input_ids", "give Batches this encoder's tokenizer")
        mask = batch["attention_mask"]
        if self.fills:
            rest = (0, self.model.config.max_position_embeddings - ids.shape[1])
            ids, mask = F.pad(ids, rest, value=self.tokenizer.pad_token_id), F.pad(mask, rest)
        found = self.model(input_ids=ids, attention_mask=None if self.fills else mask)
        tokens, mask = found.last_hidden_state, mask.bool()  # (B, T, D), (B, T)
        return Encoded(found.pooler_output if self.pooling == "own" else pool(tokens, mask, self.pooling), tokens, mask)

    def train(self, mode: bool = True) -> "TextEncoder":
        """As for any encoder; with train_layers only these layers leave evaluation mode."""
        super().train(mode)
        if self.train_layers is not None and self.training:
            self.model.eval()
            last_layers(self.model, self.train_layers).train()
        return self

    def split(self, layers: int, key: str = "text") -> tuple["TextEncoder", "UpperLayers"]:
        """(lower, upper): a frozen encoder up to the last `layers` layers, and an encoder of these on its tokens.

        Compute the tokens once, `features(lower, batches, tokens=True)`, give them to Batches as extra `<key>_tokens`
        and `<key>_mask`, and train `upper`. Together they are this encoder and share its weights; lower is frozen.
        To train `upper` several times from the same start, deepcopy it.
        """
        below, above = cut(self.model, layers)
        lower = copy.copy(self)
        lower._modules, lower.train_layers = {"model": below}, None
        upper = UpperLayers(above.requires_grad_(True), key, self.pooling)
        return lower.freeze(), upper


class UpperLayers(Encoder):
    """The last layers of a text encoder, on batch["<key>_tokens"] (B, T, D) and batch["<key>_mask"] (B, T)."""

    def __init__(self, model: nn.Module, key: str, pooling: str):
        super().__init__()
        self.model, self.key, self.pooling, self.dim = model, key, pooling, model.config.hidden_size

    def encode(self, batch: dict) -> Encoded:
        given = entry(batch, f"{self.key}_tokens", "give Batches the lower layers' tokens and mask as extra")
        mask = batch[f"{self.key}_mask"].bool()
        longest = int(mask.sum(dim=1).max())  # of this batch; the cache is padded to the longest of all
        given, mask = given[:, :longest], mask[:, :longest]
        tokens = self.model(inputs_embeds=given.float(), attention_mask=mask.long()).last_hidden_state
        return Encoded(pool(tokens, mask, self.pooling), tokens, mask)


class CachedEncoder(Encoder):
    """Features computed before: batch[key] (B, D), and "<key>_tokens", "<key>_mask" where the batch has them."""

    def __init__(self, key: str, dim: int):
        super().__init__()
        self.key, self.dim = key, dim

    def encode(self, batch: dict) -> Encoded:
        features = entry(batch, self.key, "give Batches these features as extra")
        if features.shape[-1] != self.dim:
            raise ValueError(f"batch[{self.key!r}] has {features.shape[-1]} dimensions, the encoder {self.dim}")
        if f"{self.key}_tokens" not in batch:
            return Encoded(features.float())
        return Encoded(features.float(), batch[f"{self.key}_tokens"].float(), batch[f"{self.key}_mask"].bool())


class FusedEncoder(Encoder):
    """An image encoder, a text encoder and a fusion of both (mmutils.fusion) as one encoder.

    features_only: the fusion sees no tokens, as when it was trained on cached features without them.
    """

    def __init__(self, image: Encoder, text: Encoder, fusion: nn.Module, features_only: bool = False):
        super().__init__()
        self.image, self.text, self.fusion, self.dim = image, text, fusion, fusion.dim
        self.features_only = features_only

    def encode(self, batch: dict) -> Encoded:
        sides = [side.encode(batch) for side in (self.image, self.text)]
        return Encoded(self.fusion(*(Encoded(side.features) if self.features_only else side for side in sides)))

    def head(self, classes: int) -> nn.Module:
        """The fusion's own head from fused features to logits (B, K)."""
        return self.fusion.head(classes)
