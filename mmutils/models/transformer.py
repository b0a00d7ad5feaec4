"""What text encoders need of Hugging Face transformers: loading by name, pooling, and cutting off the last layers."""

import copy
import inspect
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import transformers
from torch import Tensor, nn
from transformers.utils import logging

from mmutils.models import hub
from mmutils.models.encoder import masked_mean
from mmutils.models.tokens import add_prefix
from mmutils.models.weights import packaged

TEXT_SIDES = {  # model types of which AutoModel would load the image side as well
    "clip_text_model": transformers.CLIPTextModel,
    "siglip_text_model": transformers.SiglipTextModel,
}


class TextModel(NamedTuple):
    """A transformer in float32 without a pooling layer, its tokenizer, and a line on where the weights came from."""

    model: nn.Module
    tokenizer: transformers.PreTrainedTokenizerFast
    source: str


def load_model(name: str, pretrained: bool) -> TextModel:
    """The model of that name or folder, or a new one of its configuration. Its tokenizer writes the prefix of e5."""
    place, source = name, "hub"
    if Path(name).is_dir():
        source = f"folder {name}"
    elif weights := packaged(name):
        place, source = weights

    def load(local_files_only: bool) -> TextModel:
        options = {"local_files_only": local_files_only, "trust_remote_code": False}
        config = transformers.AutoConfig.from_pretrained(place, **options)
        config = config.text_config if config.model_type in ("clip", "siglip") else config
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options)
        if not pretrained:
            return TextModel(new_model(config), tokenizer, "random")
        model_class = TEXT_SIDES.get(config.model_type, transformers.AutoModel)
        with no_progress_bar():
            model = _without_pooler(model_class.from_pretrained, place, config=config, **options)
        return TextModel(model.float(), tokenizer, source)

    advice = hub.PACKAGED, hub.FOLDER, "use TextEncoder.small(texts) for random weights"
    loaded = hub.local_first(load, place, *advice)
    if name.startswith("intfloat/") and "e5-" in name:  # as these models were trained
        add_prefix(loaded.tokenizer, "query: ")
    return loaded


def new_model(config: transformers.PretrainedConfig) -> nn.Module:
    """A model with random weights, without a pooling layer."""
    if config.model_type in TEXT_SIDES:
        return TEXT_SIDES[config.model_type](config)
    return _without_pooler(transformers.AutoModel.from_config, config, trust_remote_code=False)


def _without_pooler(make: Callable, *arguments, **options) -> nn.Module:
    """make(...) with add_pooling_layer=False where the model has it: BERT's pooling layer would get no gradient."""
    try:
        return make(*arguments, **options, add_pooling_layer=False)
    except TypeError:
        return make(*arguments, **options)


@contextmanager
def no_progress_bar():
    """Without transformers' bar, which is shown even for what takes no time."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def pool(tokens: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Features (B, D) from tokens (B, T, D) and mask (B, T): the first token, or the mean of the real ones."""
    return tokens[:, 0] if pooling == "cls" else masked_mean(tokens, mask)


def cut(model: nn.Module, count: int) -> tuple[nn.Module, nn.Module]:
    """Two models that share the parameters: one without the last `count` layers, and one of these layers alone.

    The second takes hidden states as inputs_embeds. ValueError for a model that is built otherwise, or has no more
    than `count` layers.
    """
    total = model.config.num_hidden_layers
    lists = {path: part for path, part in model.named_modules() if isinstance(part, nn.ModuleList)}
    path = next((path for path, layers in lists.items() if len(layers) == total), None)
    if path is None or "inputs_embeds" not in inspect.signature(model.forward).parameters:
        need = f"a list of {total} layers, and inputs_embeds"
        raise ValueError(f"a {type(model).__name__} cannot be cut: that takes {need}; train it whole")
    if not 0 < count < total:
        raise ValueError(f"cannot cut {count} of {total} layers off: choose 1 to {total - 1}")
    below, above = (_with_layers(model, path, part) for part in (slice(total - count), slice(total - count, None)))
    above.embeddings = IdentityEmbeddings()
    if hasattr(above, "embeddings_project"):  # ELECTRA
        above.embeddings_project = nn.Identity()
    return below, above


def _with_layers(model: nn.Module, path: str, part: slice) -> nn.Module:
    """A copy of the model with a part of the layers at `path`; it has its own modules and the model's parameters."""
    copied = copy.deepcopy(model)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        _replace(copied, name, parameter)
    _replace(copied, path, copied.get_submodule(path)[part])
    copied.config.num_hidden_layers = len(copied.get_submodule(path))
    return copied


def _replace(module: nn.Module, path: str, value: nn.Module | nn.Parameter) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, value)


class IdentityEmbeddings(nn.Module):
    """In the place of a model's embeddings: returns the inputs_embeds that the model was called with."""

    def forward(self, input_ids=None, inputs_embeds=None, *_, **__) -> Tensor:
        return inputs_embeds
