"""Methods: a training objective with its networks, one module each, found by its name."""

import importlib
import pkgutil
from types import ModuleType

from torch import Tensor, nn

from mmutils.models.fusion import Fusion


def names() -> list[str]:
    """The names of all methods."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of the method, as `load("dino").DINO`; ValueError that lists the methods for an unknown name."""
    if name not in names():
        raise ValueError(f"there is no method {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


class Method(nn.Module):
    """What the training loop needs of a method. `progress` in [0, 1) is the trained fraction."""

    def loss(self, batch: dict, progress: float) -> Tensor:
        """The scalar to minimise."""
        raise NotImplementedError

    def before_step(self, progress: float) -> None:
        """Called after backward and before the optimizer's step."""

    def after_step(self, progress: float) -> None:
        """Called after the optimizer's step."""

    def encoders(self) -> dict[str, nn.Module]:
        """The encoders by name: what is run in reduced precision, evaluated and kept."""
        raise NotImplementedError

    def parameter_groups(self) -> list[dict]:
        """What is trained, as dicts of `params`, `encoder` and `decay`, for learning rate and weight decay.

        `encoder`: inside one of the encoders; a fusion in there is not, for it starts from scratch as heads do.
        `decay`: neither a bias nor 1-D (norms, scales).
        """
        parts = [part for encoder in self.encoders().values() for part in (encoder, *fusions(encoder))]
        inside: set[int] = set()
        for part in parts:  # a fusion comes after the encoder that holds it, and takes its parameters out again
            own = {id(parameter) for parameter in part.parameters()}
            inside = inside - own if isinstance(part, Fusion) else inside | own
        groups: dict[tuple[bool, bool], list] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                key = (id(parameter) in inside, parameter.ndim > 1 and not name.endswith("bias"))
                groups.setdefault(key, []).append(parameter)
        return [{"params": groups[key], "encoder": key[0], "decay": key[1]} for key in sorted(groups)]

    def monitor(self) -> dict[str, float]:
        """What to note about the last epoch beside the loss."""
        return {}


def fusions(encoder: nn.Module) -> list[Fusion]:
    """The fusions inside an encoder."""
    return [module for module in encoder.modules() if isinstance(module, Fusion)]
