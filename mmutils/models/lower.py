"""Layers of a text encoder below those that learn: they are computed once for each text, not in every epoch.

They stay as they are and are in evaluation mode, so what they make of a text never changes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmutils.models.transformer import layer_list

MOST = 2**31  # bytes of states that are kept
Text = tuple[int, ...]  # by its tokens


class LowerLayers:
    """The first `count` layers of a Hugging Face encoder; all copies of it, whose weights there are equal, share this.

    The hidden states (T, D) of texts are kept in memory. They are computed before a training, in batches of their own:
    states of a text in another batch differ in their last bits, and a training that goes on would as well.
    """

    def __init__(self, count: int):
        self.count, self._states, self._size = count, {}, 0

    def __deepcopy__(self, memo: dict) -> "LowerLayers":
        return self

    @torch.no_grad()
    def keep(self, model: nn.Module, ids: Tensor, mask: Tensor) -> bool:
        """Keep these texts' states; False where no more are kept, or the layers above need more than them."""
        seen: list[Tensor] = []
        with _only(model, slice(self.count + 1)) as layers, _input_of(layers[-1], seen.append):
            model(input_ids=ids, attention_mask=mask)
        first = not self._states
        self._states |= {text: seen[0][row][mask[row].bool()] for row, text in enumerate(_texts(ids, mask))}
        self._size += int(mask.sum()) * seen[0][0, 0].nbytes
        if first:
            outputs = model(input_ids=ids, attention_mask=mask), self.run(model, ids, mask)
            whole, resumed = (output.last_hidden_state[mask.bool()] for output in outputs)
            if not torch.allclose(whole, resumed, rtol=1e-3, atol=1e-4):
                self._states.clear()
                return False
        return self._size < MOST

    def run(self, model: nn.Module, ids: Tensor, mask: Tensor):
        """What model(input_ids=ids, attention_mask=mask) gives; the layers are skipped where all texts are kept."""
        kept = [self._states.get(text) for text in _texts(ids, mask)]
        if any(part is None for part in kept):
            return model(input_ids=ids, attention_mask=mask)
        states = kept[0].new_zeros(*ids.shape, kept[0].shape[-1], device=ids.device)  # (B, T, D)
        states[mask.bool()] = torch.cat(kept).to(ids.device)
        with _only(model, slice(self.count, None)) as layers, _input_of(layers[0], lambda _: states):
            return model(input_ids=ids, attention_mask=mask)


def _texts(ids: Tensor, mask: Tensor) -> list[Text]:
    return [tuple(row[real].tolist()) for row, real in zip(ids.cpu(), mask.cpu().bool(), strict=True)]


@contextmanager
def _only(model: nn.Module, part: slice) -> Iterator[nn.ModuleList]:
    """The model with only these of its layers."""
    path, layers = layer_list(model)
    owner, _, name = path.rpartition(".")
    owner = model.get_submodule(owner)
    setattr(owner, name, layers[part])
    try:
        yield layers[part]
    finally:
        setattr(owner, name, layers)


@contextmanager
def _input_of(layer: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Show `change` the hidden states that go into the layer; what it gives, unless None, goes in instead."""

    def hook(module: nn.Module, arguments: tuple, options: dict) -> tuple[tuple, dict] | None:
        states = change(arguments[0] if arguments else options["hidden_states"])
        if states is None:
            return None
        return ((states, *arguments[1:]), options) if arguments else ((), options | {"hidden_states": states})

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
