"""The training loop, one for all methods: `fit(method, batches, TrainConfig(...))`.

AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) with a linear warm-up and a cosine. All schedules
are functions of progress, the trained fraction in [0, 1), and an epoch's randomness is seeded from (seed, epoch), so a
resumed run ends with the weights of an uninterrupted one. Only encoders run in bfloat16; losses stay in float32.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import nn
from tqdm.auto import tqdm

from mmutils.batches import Batches, derived_seed
from mmutils.methods import Method
from mmutils.models import features
from mmutils.training import distributed
from mmutils.training.checkpoint import TrainingState, locked
from mmutils.training.precision import PRECISIONS, exact_small_maps, resolved

CHECK_EVERY = 50  # steps between looks at whether the loss is finite: each look waits for the device
ADVICE = 'Try a lower learning rate, a longer warm-up, a smaller clip, or precision="no".'


@dataclass(frozen=True)
class TrainConfig:
    """How to train. ValueError for values out of range."""

    epochs: int
    learning_rate: float = 1e-3  # peak
    encoder_learning_rate: float | None = None  # peak for parameters inside method.encoders(); None: learning_rate
    weight_decay: float = 0.05  # of parameters with two or more axes
    warmup: float = 0.1  # fraction of training in which the learning rate rises from 0
    clip: float | None = 1.0  # largest norm of the whole gradient
    precision: str = "auto"  # of the encoders: "bf16", "no" for float32, or bfloat16 where the machine computes it
    seed: int = 0

    def __post_init__(self):
        if self.epochs < 1 or not 0 <= self.warmup < 1 or self.seed < 0 or (self.clip is not None and self.clip <= 0):
            raise ValueError(f"need epochs >= 1, warmup in [0, 1), seed >= 0, and clip > 0 or None; given {self}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {self.precision!r}")


def fit(
    method: Method,
    batches: Batches,
    config: TrainConfig,
    *,
    evaluate: Callable[[Method], dict[str, float]] | None = None,
    select: str | None = None,
    checkpoint: str | Path | None = None,
    evaluated_on: Mapping[str, Batches] | None = None,
) -> list[dict]:
    """Train the method in place; it is left in evaluation mode. FloatingPointError: a loss or a weight is not finite.

    Args:
        evaluate: gives scores of the method after each epoch.
        select: the score by which the best epoch is chosen, whose weights are kept. None: those of the last epoch.
        checkpoint: folder in which the state is saved after an epoch, every few seconds, for a second call to go on.
        evaluated_on: the batches that `evaluate` reads, so that a checkpoint is not continued with others.

    Returns:
        The history, a dict per epoch: epoch (from 1), progress, loss (mean over examples), learning_rate (of the heads,
        at the last step), precision ("bf16" or "no"), seconds, the scores, and what method.watch collected.
    """
    device = features.device()
    config = replace(config, precision=resolved(config.precision, device))
    method.to(device).train()
    batches.device = device
    norms = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    if norms and batches.smallest() < 2:
        problem = f"{len(batches.examples)} examples in batches of {batches.batch_size}"
        raise ValueError(f"{problem}: a batch norm needs at least 2 in each, so take a larger one, or more examples")
    distributed.share_statistics(list(method.encoders().values()), device)
    distributed.same_start(method)
    groups = [{**group, "weight_decay": config.weight_decay * group["decay"]} for group in method.parameter_groups()]
    if not groups:
        raise ValueError("the method has no parameter that requires a gradient: nothing to train")
    optimizer = torch.optim.AdamW(groups, lr=0.0, fused=True)  # one pass over memory
    with locked(checkpoint):
        state = TrainingState(method, optimizer, batches, asdict(config), select, checkpoint, evaluated_on or {})
        done, steps, hidden = len(state.history), len(batches), not distributed.is_main()
        with tqdm(total=config.epochs * steps, initial=done * steps, desc="training", delay=2, disable=hidden) as bar:
            for epoch in range(done, config.epochs):
                started = time.perf_counter()
                row = _train_epoch(method, optimizer, batches, config, epoch, bar)
                row |= {"precision": config.precision, "seconds": time.perf_counter() - started}
                method.eval()
                scores = (evaluate(method) if evaluate else {}) | method.watch.read()
                state.end_epoch(row | {name: float(score) for name, score in scores.items()})
        state.finish()
    method.eval()
    return state.history


def _train_epoch(method: Method, optimizer, batches: Batches, config: TrainConfig, epoch: int, bar: tqdm) -> dict:
    """One pass over the batches: the loop."""
    rank = distributed.rank()
    torch.manual_seed(derived_seed(config.seed, epoch, *([rank] if rank else [])))
    method.train()
    losses, sizes, steps = [], [], len(batches)
    encoder_peak = config.learning_rate if config.encoder_learning_rate is None else config.encoder_learning_rate
    with _prepared_encoders(method, config.precision, batches.device):
        for step, batch in enumerate(batches.epoch(epoch)):
            progress = (epoch * steps + step) / (config.epochs * steps)
            for group in optimizer.param_groups:
                peak = encoder_peak if group["encoder"] else config.learning_rate
                group["lr"] = warmup_cosine(progress, peak, config.warmup)
            optimizer.zero_grad(set_to_none=True)
            loss = method.loss(batch, progress)  # (), mean over the batch
            losses.append(loss.detach())
            sizes.append(len(batch["id"]))
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
                finite = torch.stack(losses).isfinite().tolist()
                if not all(finite):
                    place = f"epoch {epoch + 1}, step {finite.index(False) + 1}"
                    raise FloatingPointError(f"the loss is {losses[finite.index(False)].item()} in {place}. {ADVICE}")
            loss.backward()
            distributed.average_gradients(method)
            method.before_step(progress)
            if config.clip is not None:
                nn.utils.clip_grad_norm_(method.parameters(), config.clip)
            optimizer.step()
            method.after_step(progress)
            bar.update()
    if not all(parameter.isfinite().all() for parameter in method.parameters()):  # after the last step
        raise FloatingPointError(f"weights are not finite after epoch {epoch + 1}. {ADVICE}")
    mean = float(torch.stack(losses).cpu().double() @ torch.tensor(sizes).double() / sum(sizes))  # over examples
    rate = warmup_cosine(progress, config.learning_rate, config.warmup)
    return {"epoch": epoch + 1, "progress": (epoch + 1) / config.epochs, "loss": mean, "learning_rate": rate}


def warmup_cosine(progress: float, peak: float, warmup: float) -> float:
    """Linear from 0 at the start to `peak` at progress == warmup, then half a cosine to 0 at 1."""
    if progress < warmup:
        return peak * progress / warmup
    falling = (progress - warmup) / (1 - warmup)  # in [0, 1]
    return peak * (1 + math.cos(math.pi * falling)) / 2


def _prepared_encoders(method: Method, precision: str, device: torch.device) -> ExitStack:
    """A context in which the encoders run in bfloat16, with float32 results, and split over the processes."""
    stack = ExitStack()
    for encoder in dict.fromkeys(method.encoders().values()):
        forward = encoder.forward
        if precision == "bf16":  # as accelerate's prepare_model does
            stack.enter_context(exact_small_maps(encoder))
            forward = convert_outputs_to_fp32(torch.autocast(device.type, torch.bfloat16)(forward))
        encoder.forward = distributed.split(forward)
        stack.callback(delattr, encoder, "forward")  # the method of its class shows again
    return stack
