"""Text encoder: any Hugging Face encoder by its name, and what replaces a frozen one in training."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch.nn.functional as F
import transformers

from mmutils.models.encoder import CachedEncoder, Encoded, Encoder, check_layers, entry, masked_mean
from mmutils.models.lower import LowerLayers
from mmutils.models.transformer import TextModel, layer_list, load_model, lost_marks, new_model, train_tokenizer

PROBE = "हिन्दी में मात्राएँ: कि की कु कू कृ के कै को कौ कं कः काँ ड़ ज़"


class TextEncoder(Encoder):
    """Any Hugging Face encoder by name or local folder, with its own tokenizer. Its tokens are the last hidden states.

    UserWarning where the tokenizer loses Hindi vowel signs, FileNotFoundError where there are no weights.

    Args:
        pretrained: False: random weights for the model's configuration. The attribute `source` says which they are.
        frozen: never train them; False by default.
        pooling: how tokens become features: "mean" of the real ones; "cls", the first one; or "own", as CLIP (the state
            at the text's end) and SigLIP (a layer on the last place) were trained, and their default.
        max_length: tokens, for whoever tokenizes.
        loaded: a TextModel that is there already; then `name` is only what it is called.
    """

    _lower: LowerLayers | None = None

    def __init__(self, name: str | Path, pretrained=True, frozen=False, pooling=None, max_length=64, loaded=None):
        super().__init__()
        self._name = str(name)
        self.model, self.tokenizer, self.source = loaded or load_model(self._name, pretrained)
        kind = self.model.config.model_type
        poolings = ("own", "mean") if kind in ("clip_text_model", "siglip_text_model") else ("mean", "cls")
        self.pooling, self.max_length, self.dim = pooling or poolings[0], max_length, self.model.config.hidden_size
        if self.pooling not in poolings:
            raise ValueError(f"pooling={pooling!r} is unknown; {kind} has {' and '.join(map(repr, poolings))}")
        self.fills = kind == "siglip_text_model"  # trained on texts filled up to the last place, and without a mask
        if lost := lost_marks(self.tokenizer, [PROBE]):
            signs = f"{len(lost)} Hindi signs ({' '.join('◌' + mark for mark in sorted(lost))})"
            warnings.warn(f"the tokenizer of {self.name!r} loses {signs}: use another for Hindi text", stacklevel=2)
        if frozen:
            self.freeze()

    @property
    def name(self) -> str:
        """What it is called. No plain attribute, since caches must not depend on the folder a model lies in."""
        return self._name

    @classmethod
    def small(
        cls, texts: Iterable[str], *, architecture="bert", width=128, layers=2, heads=4, vocabulary=4000, max_length=64
    ) -> "TextEncoder":
        """A small transformer with random weights and a tokenizer trained on texts, those of the train split.

        It has D = `width` features and at most `vocabulary` pieces; architecture: a Hugging Face model type.
        """
        tokenizer = train_tokenizer(texts, vocabulary, max_length)
        sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
        sizes |= {"vocab_size": len(tokenizer), "max_position_embeddings": max_length}
        config = transformers.AutoConfig.for_model(architecture, **sizes, pad_token_id=tokenizer.pad_token_id)
        setattr(config, "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size", 4 * width)
        loaded = TextModel(new_model(config), tokenizer, "random")
        return cls(f"small {architecture}", max_length=max_length, loaded=loaded)

    def encode(self, batch: dict) -> Encoded:
        ids = entry(batch, "input_ids", "give Batches this encoder's tokenizer")
        mask = batch["attention_mask"]
        if self.fills:
            rest = (0, self.model.config.max_position_embeddings - ids.shape[1])
            ids, mask = F.pad(ids, rest, value=self.tokenizer.pad_token_id), F.pad(mask, rest)
        if self._lower:
            output = self._lower.run(self.model, ids, mask)
        else:
            output = self.model(input_ids=ids, attention_mask=None if self.fills else mask)
        tokens, mask = output.last_hidden_state, mask.bool()  # (B, T, D), (B, T)
        if self.pooling == "own":
            return Encoded(output.pooler_output, tokens, mask)
        return Encoded(tokens[:, 0] if self.pooling == "cls" else masked_mean(tokens, mask), tokens, mask)

    def train_last(self, layers: int) -> "TextEncoder":
        """As in Encoder; with -1 the word vectors of a model by its name stay as they are.

        They are most of multilingual-e5-small's weights; without them a step takes two thirds of the time, and on
        tweets and memes no score moved clearly.
        """
        super().train_last(layers)
        if layers < 0 and self.source.startswith(("package", "hub", "folder")):
            self.model.get_input_embeddings().requires_grad_(False)
        return self

    def keep_lower(self, batches: Iterable[dict]) -> None:
        """Compute the layers below those that learn for these texts, and keep what they give for all trainings."""
        if self.last_layers > 0 and not self.fills:
            self._lower, training = LowerLayers(len(layer_list(self.model)[1]) - self.last_layers), self.training
            all(self._lower.keep(self.model.eval(), batch["input_ids"], batch["attention_mask"]) for batch in batches)
            self.train(training)

    def below(self, layers: int) -> list[str]:
        path, stack = layer_list(self.model)
        rest = check_layers(layers, len(stack), self.name)
        lower = ("embed", *(f"{path}.{number}." for number in range(rest)))
        return [f"model.{name}" for name, _ in self.model.named_parameters() if name.startswith(lower)]


def load_text_encoder(texts: Sequence[str], name: str = "", frozen: bool = True) -> TextEncoder:
    """The text encoder of that name, or without a name a small one from scratch, which learns, for these texts."""
    return TextEncoder(name, frozen=frozen) if name else TextEncoder.small(texts)


def cached_text_encoder(text: TextEncoder, texts: Sequence[str]) -> Encoder:
    """For a new training: a frozen text encoder's standardised cached features, or a new small one for these texts."""
    return CachedEncoder("text", text.dim, standardised=True) if text.frozen else TextEncoder.small(texts)
