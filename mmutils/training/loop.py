"""The training loop, one for all methods: `fit(method, batches, TrainConfig(...))`.

AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) with a linear warm-up and a cosine. Learning rate
and weight decay are functions of progress, the trained fraction in [0, 1), and an epoch's randomness is seeded from
(seed, epoch). So weights, optimizer and history are all there is to save, and a run that was killed at any moment
ends with the weights of an uninterrupted one.

accelerate finds the device. In bfloat16 (precision.py says where that is) only the modules of method.encoders() run;
heads, softmaxes and losses stay in float32, since whole steps of self-supervised methods in bfloat16 were seen to end
in NaN.

Started by `accelerate launch` in several processes it trains one model in all of them (distributed.py says how):
batch_size stays that of the whole batch, evaluation is done by each process alike, the first one writes checkpoints.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import Tensor, nn
from tqdm.auto import tqdm

from mmutils.batches import Batches, derived_seed
from mmutils.models import features
from mmutils.runs import identity
from mmutils.training import distributed
from mmutils.training.checkpoint import TrainingState, locked
from mmutils.training.precision import PRECISIONS, exact_small_maps, resolved

CHECK_EVERY = 50  # steps between looks at whether the loss is finite: each look waits for the device
LOOP = (
    "mmutils.training.loop",
    "mmutils.batches",
    "mmutils.batches.augment",
    "mmutils.batches.pixels",
    "mmutils.training.precision",
    "mmutils.training.distributed",
)
ADVICE = 'Try a lower learning rate, a longer warm-up, a smaller clip, or precision="no".'


@dataclass(frozen=True)
class TrainConfig:
    """How to train. ValueError for values out of range."""

    epochs: int
    learning_rate: float = 1e-3  # peak
    encoder_learning_rate: float | None = None  # peak for parameters inside method.encoders(); None: learning_rate
    weight_decay: float = 0.05  # of parameters with two or more axes
    weight_decay_end: float | None = None  # reached by a cosine; None: constant
    warmup: float = 0.1  # fraction of training in which the learning rate rises from 0
    final: float = 0.0  # fraction of the peak that the cosine falls to
    clip: float | None = 1.0  # largest norm of the whole gradient
    precision: str = "auto"  # of the encoders: "bf16", "no" for float32, or bfloat16 where the machine computes it
    seed: int = 0

    def __post_init__(self):
        if self.epochs < 1 or not 0 <= self.warmup < 1 or self.seed < 0:
            raise ValueError(f"need epochs >= 1, warmup in [0, 1) and seed >= 0; given {self}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip is a norm above 0, or None; given {self.clip}")


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine: start at progress 0, the mean of both at 0.5, end at 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def warmup_cosine(progress: float, peak: float, warmup: float = 0.0, final: float = 0.0) -> float:
    """0 at the start, `peak` at progress == warmup, final * peak at 1."""
    if progress < warmup:
        return peak * progress / warmup
    return cosine((progress - warmup) / (1 - warmup), peak, final * peak)


def fit(
    method: nn.Module,
    batches: Batches,
    config: TrainConfig,
    *,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    select: str | None = None,
    checkpoint: str | Path | None = None,
    evaluated_on: Mapping[str, Batches] | None = None,
) -> list[dict]:
    """Train the method in place and return the history, a dict per epoch; the method is left in eval mode.

    A row has epoch (from 1), progress, loss (mean over examples), learning_rate (of the heads, at the last step),
    precision ("bf16" or "no"), seconds, what evaluate(method) returns (called in eval mode after each epoch) and what
    method.monitor() returns. With `select`, the name of such a score, the weights of the epoch where it is largest are
    put back at the end. With `checkpoint`, a folder, the state is saved after each epoch and a second call goes on
    from there, or returns at once if all epochs are done; evaluated_on: the batches that `evaluate` reads, so that a
    checkpoint is not continued with others. FloatingPointError if a loss or a weight is not finite; ValueError for a
    checkpoint of another training or a damaged one, an unknown score, or batches of one example for batch norms.
    """
    device = features.device()
    config = replace(config, precision=resolved(config.precision, device))
    method.to(device).train()
    batches.device = device
    _check_batches(method, batches)
    distributed.share_statistics(list(method.encoders().values()), device)
    distributed.same_start(method)
    optimizer = _optimizer(method, config)
    with locked(checkpoint):
        depends_on = _identity(method, batches, config, select, evaluated_on or {}) if checkpoint is not None else {}
        state = TrainingState(method, optimizer, select, checkpoint, depends_on)
        done, hidden = len(state.history), not distributed.is_main()
        bar = {"total": config.epochs * len(batches), "initial": done * len(batches), "desc": "training", "delay": 2}
        with tqdm(**bar, disable=hidden) as bar:
            for epoch in range(done, config.epochs):
                started = time.perf_counter()
                row = _train_epoch(method, optimizer, batches, config, epoch, bar)
                row |= {"precision": config.precision, "seconds": time.perf_counter() - started}
                method.eval()
                scores = (evaluate(method) if evaluate else {}) | method.monitor()
                state.end_epoch(row | {name: float(score) for name, score in scores.items()})
        state.finish()
    method.eval()
    return state.history


def _train_epoch(method, optimizer, batches: Batches, config: TrainConfig, epoch: int, bar: tqdm) -> dict:
    """One pass over the batches; the loop."""
    torch.manual_seed(derived_seed(config.seed, epoch, *filter(None, [distributed.rank()])))
    method.train()
    losses, sizes, steps = [], [], len(batches)
    with _as_trained(method, config.precision, batches.device):
        for step, batch in enumerate(batches.epoch(epoch)):
            progress = (epoch * steps + step) / (config.epochs * steps)
            _schedule(optimizer, config, progress)
            optimizer.zero_grad(set_to_none=True)
            loss = method.loss(batch, progress)  # (), mean over the batch
            losses.append(loss.detach())
            sizes.append(len(batch["id"]))
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
                _check_finite(losses, epoch)
            loss.backward()
            distributed.average_gradients(method)
            method.before_step(progress)
            if config.clip is not None:
                nn.utils.clip_grad_norm_(method.parameters(), config.clip)
            optimizer.step()
            method.after_step(progress)
            bar.update()
    if not all(parameter.isfinite().all() for parameter in method.parameters()):  # the last step's doing
        raise FloatingPointError(f"weights are not finite after epoch {epoch + 1}. {ADVICE}")
    mean = float(torch.stack(losses).cpu().double() @ torch.tensor(sizes).double() / sum(sizes))  # over examples
    rate = warmup_cosine(progress, config.learning_rate, config.warmup, config.final)
    return {"epoch": epoch + 1, "progress": (epoch + 1) / config.epochs, "loss": mean, "learning_rate": rate}


def _optimizer(method: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over method.parameter_groups(), whose marks `encoder` and `decay` say how each group is scheduled."""
    groups = []
    for group in method.parameter_groups():
        if parameters := [parameter for parameter in group["params"] if parameter.requires_grad]:
            groups.append({**group, "params": parameters})
    if not groups:
        raise ValueError("the method has no parameter that requires a gradient: nothing to train")
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, fused=True)  # one pass over memory: 3 times as fast


def _schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, progress: float) -> None:
    encoder_peak = config.learning_rate if config.encoder_learning_rate is None else config.encoder_learning_rate
    end = config.weight_decay if config.weight_decay_end is None else config.weight_decay_end
    for group in optimizer.param_groups:
        peak = encoder_peak if group["encoder"] else config.learning_rate
        group["lr"] = warmup_cosine(progress, peak, config.warmup, config.final)
        group["weight_decay"] = cosine(progress, config.weight_decay, end) if group["decay"] else 0.0


def _check_finite(losses: list[Tensor], epoch: int) -> None:
    """Look at all losses of the epoch so far, () each."""
    finite = torch.stack(losses).isfinite().cpu()
    if not finite.all():
        step = int(finite.int().argmin())  # the first that is not
        raise FloatingPointError(f"the loss is {losses[step].item()} in epoch {epoch + 1}, step {step + 1}. {ADVICE}")


@contextmanager
def _as_trained(method: nn.Module, precision: str, device: torch.device):
    """Let the encoders run in bfloat16, with float32 results, and split over the processes; and undo it."""
    encoders = list(dict.fromkeys(method.encoders().values()))
    with ExitStack() as stack:
        for encoder in encoders:
            forward = encoder.forward
            if precision == "bf16":  # as accelerate's prepare_model does
                stack.enter_context(exact_small_maps(encoder))
                forward = convert_outputs_to_fp32(torch.autocast(device.type, torch.bfloat16)(forward))
            encoder.forward = distributed.split(forward)
        try:
            yield
        finally:
            for encoder in encoders:
                del encoder.forward  # the class's own shows again


def _check_batches(method: nn.Module, batches: Batches) -> None:
    """ValueError where a batch norm that learns would see one example."""
    norms = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    if norms and batches.smallest() < 2:
        raise ValueError(
            f"{len(batches.examples)} examples in batches of {batches.batch_size}: a batch norm needs at least 2 in "
            "each; choose a larger batch_size, or more examples"
        )


def _identity(method, batches: Batches, config: TrainConfig, select: str | None, others: Mapping[str, Batches]) -> dict:
    """What must be equal for a checkpoint to be continued."""
    parts = {**asdict(config), "select": select, "method": type(method).__name__, "torch": str(torch.__version__)}
    parts |= identity.of_network(method) | batches.identity()
    parts["code"] = [parts["code"], identity.of_code(LOOP)]
    return parts | {f"{name} split": identity.digest(repr(rows.identity()).encode()) for name, rows in others.items()}
