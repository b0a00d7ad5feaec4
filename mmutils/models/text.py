"""Text encoder: any Hugging Face encoder by its name, and what stands for a frozen one in training."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch.nn.functional as F
import transformers
from torch import nn

from mmutils.batches import Batches
from mmutils.models.encoder import CachedEncoder, Encoded, Encoder, entry
from mmutils.models.features import features
from mmutils.models.standardise import Standardise
from mmutils.models.tokens import add_prefix, train_tokenizer, warn_of_lost_marks
from mmutils.models.transformer import cut, last_layers, load_model, new_model, no_progress_bar, pool


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


class StandardisedEncoder(Encoder):
    """An encoder whose features are standardised: those of pretrained text models point nearly all the same way."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder, self.standardise, self.dim = encoder, Standardise(encoder.dim), encoder.dim

    def encode(self, batch: dict) -> Encoded:
        return Encoded(self.standardise(self.encoder(batch)))


def load_text_encoder(texts: Sequence[str], name: str = "", frozen: bool = True) -> TextEncoder:
    """The text encoder `name`, frozen or not, or without a name a small one from scratch, made for these texts."""
    return TextEncoder(name, frozen=frozen) if name else TextEncoder.small(texts)


def cached_text_encoder(text: TextEncoder) -> Encoder:
    """What stands for the text encoder in a method: itself, or its standardised cached features if it is frozen."""
    return StandardisedEncoder(CachedEncoder("text", text.dim)) if text.frozen else text


def text_inputs(text: TextEncoder, examples: pd.DataFrame) -> dict:
    """What Batches must be given for `text_side`: the tokenizer, or the frozen encoder's features as `extra`."""
    tokens = {"tokenizer": text.tokenizer, "max_length": text.max_length}
    return {"extra": {"text": features(text, Batches(examples, 64, **tokens))["features"]}} if text.frozen else tokens
