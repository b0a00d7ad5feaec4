"""What text encoders need of Hugging Face transformers: loading by name, pooling, and taking them apart by layers."""

import copy
import inspect
from contextlib import contextmanager
from pathlib import Path

import transformers
from torch import Tensor, nn
from transformers.utils import logging

from mmutils.models import hub
from mmutils.models.weights import packaged


def load_model(name: str, pretrained: bool) -> tuple[nn.Module, transformers.PreTrainedTokenizerFast, str]:
    """Model without its pooling layer in float32, tokenizer, and a line that says where the weights came from."""
    place, source = name, "hub"
    if Path(name).is_dir():
        source = f"folder {name}"
    elif found := packaged(name):
        place, source = found

    def load(local_files_only: bool):
        options = {"local_files_only": local_files_only, "trust_remote_code": False}  # no model runs code of its own
        config = text_config(transformers.AutoConfig.from_pretrained(place, **options))
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options)
        if not pretrained:
            return new_model(config), tokenizer, "random"
        with no_progress_bar():
            make = model_class(config).from_pretrained
            model = without_pooler(lambda **more: make(place, config=config, **options, **more))
        return model.float(), tokenizer, source

    return hub.local_first(load, place, hub.PACKAGED, hub.FOLDER, "use TextEncoder.small(texts) for random weights")


def new_model(config: transformers.PretrainedConfig) -> nn.Module:
    """A model with random weights, without a pooling layer."""
    make = model_class(config)
    return without_pooler(lambda **more: getattr(make, "from_config", make)(config, **more))


def text_config(config: transformers.PretrainedConfig) -> transformers.PretrainedConfig:
    """The configuration itself, or that of the text side where a model has two, as CLIP and SigLIP."""
    return config.text_config if config.model_type in ("clip", "siglip") else config


def model_class(config: transformers.PretrainedConfig) -> type:
    """The class to load or make a text model with; AutoModel would give CLIP and SigLIP whole, with their pictures."""
    towers = {"clip_text_model": transformers.CLIPTextModel, "siglip_text_model": transformers.SiglipTextModel}
    return towers.get(config.model_type, transformers.AutoModel)


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


def without_pooler(make) -> nn.Module:
    """make(add_pooling_layer=False) where the model knows the option: BERT's pooling layer would get no gradient."""
    try:
        return make(add_pooling_layer=False)
    except TypeError:
        return make()


def pool(tokens: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Features (B, D) from tokens (B, T, D) and mask (B, T): the first token, or the mean of the real ones."""
    if pooling == "cls":
        return tokens[:, 0]
    weight = mask.to(tokens.dtype).unsqueeze(-1)  # (B, T, 1)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def find_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The transformer's list of layers and its path in the model. ValueError for a model that is built otherwise."""
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return path, module
    raise ValueError(f"{type(model).__name__} has no list of {model.config.num_hidden_layers} layers to choose from")


def last_layers(model: nn.Module, count: int) -> nn.ModuleList:
    """The last `count` layers; ValueError for a count that the model does not have."""
    _, layers = find_layers(model)
    if not 0 < count <= len(layers):
        raise ValueError(f"the last {count} layers of {len(layers)}: choose 1 to {len(layers)}")
    return layers[len(layers) - count :]


def cut(model: nn.Module, count: int) -> tuple[nn.Module, nn.Module]:
    """(below, above): two models, one without the last `count` layers and one of these alone, sharing the parameters.

    `above` takes hidden states as inputs_embeds and has no embeddings.
    """
    path, layers = find_layers(model)
    if "inputs_embeds" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"a {type(model).__name__} cannot be cut: it takes no hidden states; train it whole")
    if not 0 < count < len(layers):
        raise ValueError(f"cannot cut {count} of {len(layers)} layers off: choose 1 to {len(layers) - 1}")
    below, above = with_layers(model, path, layers[:-count]), with_layers(model, path, layers[-count:])
    above.embeddings = PassedThrough()
    if hasattr(above, "embeddings_project"):  # ELECTRA
        above.embeddings_project = nn.Identity()
    return below, above


def with_layers(model: nn.Module, path: str, layers: nn.ModuleList) -> nn.Module:
    """A copy of the model that has these layers only. Modules are copied, parameters shared."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)  # what deepcopy finds in its memo it does not copy
    parent, _, name = path.rpartition(".")
    setattr(copied.get_submodule(parent), name, copy.deepcopy(layers, shared))
    copied.config.num_hidden_layers = len(layers)
    return copied


class PassedThrough(nn.Module):
    """Stands in for embeddings: gives back what was passed as inputs_embeds."""

    def forward(self, input_ids=None, inputs_embeds=None, *_, **__) -> Tensor:
        return inputs_embeds
