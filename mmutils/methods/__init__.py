"""Methods: a training objective with its networks, one module each. They share the contract `Method`."""

from collections import defaultdict

from torch import Tensor, nn

from mmutils.evaluation.collapse import Watch
from mmutils.models.fusion import Fusion


class Method(nn.Module):
    """What the training loop needs of a method. `progress` in [0, 1) is the trained fraction."""

    minimum_batch = 8  # examples that `check_batch` asks for

    def __init__(self):
        super().__init__()
        self.watch = Watch()  # collects in each step what the history says of an epoch beside the loss

    def loss(self, batch: dict, progress: float) -> Tensor:
        """The scalar to minimise."""
        raise NotImplementedError

    def before_step(self, progress: float) -> None:
        """Called after backward and before the optimizer's step."""

    def after_step(self, progress: float) -> None:
        """Called after the optimizer's step."""

    def encoders(self) -> dict[str, nn.Module]:
        """The encoders by name: they run in reduced precision, and are evaluated and kept."""
        raise NotImplementedError

    def check_batch(self, size: int) -> None:
        """ValueError for a batch of fewer than `minimum_batch` examples, on which the loss would say little."""
        if size < self.minimum_batch:
            problem = f"{type(self).__name__} was given a batch of {size} examples, fewer than {self.minimum_batch}"
            raise ValueError(f"{problem}: take a larger batch_size, and drop_last=True")

    def parameter_groups(self) -> list[dict]:
        """What is trained: `params`, `encoder` (in one, but not in its fusion) and `decay` (neither a bias nor 1-D)."""
        inside = [module for encoder in self.encoders().values() for module in encoder.modules()]
        fused = {id(p) for module in inside if isinstance(module, Fusion) for p in module.parameters()}
        in_encoder = {id(p) for module in inside for p in module.parameters(recurse=False)} - fused
        groups = defaultdict(list)
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                decay = parameter.ndim > 1 and not name.endswith("bias")
                groups[id(parameter) in in_encoder, decay].append(parameter)
        return [{"params": groups[key], "encoder": key[0], "decay": key[1]} for key in sorted(groups)]
