"""Where weights come from: a package, the hub's cache, the hub; and whether the hub can be reached at all."""

from collections.abc import Callable
from pathlib import Path

import timm
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session

from mmutils.models.weights import PACKAGES, packaged

FOLDER = "give the folder of a saved model as its name"
PACKAGED = f"take a model whose weights come in a package ({', '.join(PACKAGES)})"


def image_weights(name: str, pretrained: bool) -> tuple[Path | None, str]:
    """File with the weights of a timm model, from a package, the hub's cache or the hub, and a line on their source.

    The file is None for random weights, and where timm downloads them itself.
    """
    if not pretrained:
        return None, "random"
    if package := packaged(name):
        folder, source = package
        return folder / "model.safetensors", source
    config = timm.get_pretrained_cfg(name)
    if not (config.hf_hub_id or config.url):
        raise ValueError(f"timm has no pretrained weights for {name!r}; use pretrained=False")
    for file in ("model.safetensors", "pytorch_model.bin") if config.hf_hub_id else ():
        cached = try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(cached, str):
            return Path(cached), "hub"
    if not reachable():
        raise _not_found(name, PACKAGED, "take pretrained=False for random weights")
    return None, "hub"


def reachable(seconds: float = 5.0) -> bool:
    """Whether the hub answers. One request: the libraries themselves try again and again for up to a minute."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=seconds)
    except Exception:  # whatever the HTTP library in use raises when there is no network
        return False
    return True


def local_first(load: Callable, name: str, *advice: str):
    """load(local_files_only=True), and only where that finds nothing and `name` is no folder, the same from the hub.

    FileNotFoundError with advice where the hub cannot be reached.
    """
    try:
        return load(local_files_only=True)
    except OSError:  # not on this machine
        if Path(name).is_dir():
            raise
    if not reachable():
        raise _not_found(name, *advice)
    return load(local_files_only=False)


def _not_found(name: str, *advice: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"no weights for {name!r}: {constants.ENDPOINT} cannot be reached, and they are not in the cache "
        f"{constants.HF_HUB_CACHE}. Either copy a filled cache here and set HF_HOME; or {'; or '.join(advice)}."
    )
