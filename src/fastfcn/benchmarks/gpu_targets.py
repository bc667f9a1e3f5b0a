"""The targets that only a GPU can reach: shares of the roofline, and the paper's ratios at batch 16."""

from __future__ import annotations

from fastfcn.benchmarks import training
from fastfcn.benchmarks.bench import Bench
from fastfcn.benchmarks.inference import measure_group
from fastfcn.benchmarks.inference_arms import rows
from fastfcn.benchmarks.judging import Target
from fastfcn.benchmarks.measuring import Measured
from fastfcn.benchmarks.models_measured import Named, chosen
from fastfcn.benchmarks.rates import Rates

#: Images of a call.
BATCH = 16

#: The paper's ratios of FPS, JPU over the dilated model with the Encoding head (Table 2), by depth.
RATIOS = {50: 2.0, 101: 3.05}

#: The arm in the arithmetic of the paper's time, as near as today's chips come to it.
TF32 = "as it is, channels_last, TF32"

_INFERENCE = f"share of the op-by-op roofline, inference at batch {BATCH}"
_TRAINING = f"share of the op-by-op roofline, training step at batch {BATCH}"


def gpu_targets(
    bench: Bench, rates: Rates, *, size: tuple[int, int], train_size: tuple[int, int], compiled: bool
) -> tuple[list[Target], dict[str, list[Measured]]]:
    """Judge them, or tell that they need a GPU.

    Args:
        bench: Models, device, protocol.
        rates: Of every precision of `rows`.
        size: (height, width) of predictions.
        train_size: (height, width) of a training step.
        compiled: Whether compiled steps are tried.

    Returns:
        The targets, and the tables that they were read from.
    """
    if bench.device.type != "cuda":
        names = [(_INFERENCE, 0.6), (_TRAINING, 0.5)]
        names += [(_ratio_name(depth), ratio) for depth, ratio in RATIOS.items()]
        return [Target(name, wanted, None, "needs a GPU") for name, wanted in names], {}
    [found] = measure_group(bench, [chosen(bench)], rows(bench.device), rates, size=size, batch=BATCH).values()
    step = training.step(bench, rates, batch=BATCH, size=train_size, compiled=compiled)
    tables = {f"Inference, {chosen(bench).label}, batch {BATCH}": found, step.title: step.found}
    targets = [_share(_INFERENCE, 0.6, found), _share(_TRAINING, 0.5, step.found)]
    [tf32] = [row for row in rows(bench.device) if row.name == TF32]
    for depth, wanted in RATIOS.items():
        pair = [Named(f"resnet{depth}s", upsample, "encoding") for upsample in ("none", "jpu")]
        measured = measure_group(bench, pair, [tf32], rates, size=size, batch=BATCH)
        dilated, ours = (measured[named][0].renamed(f"{named.label}: {TF32}") for named in pair)
        tables[f"JPU over dilated, ResNet-{depth}, batch {BATCH}, TF32"] = [dilated, ours]
        ratio = None if dilated.seconds is None or ours.seconds is None else dilated.seconds / ours.seconds
        targets.append(Target(_ratio_name(depth), wanted, ratio, TF32 if ratio else dilated.note or ours.note))
    return targets, tables


def _ratio_name(depth: int) -> str:
    return f"JPU over dilated, ResNet-{depth}, batch {BATCH}, TF32"


def _share(what: str, wanted: float, found: list[Measured]) -> Target:
    """Of the arm that comes nearest to its own roofline, of those that agree."""
    known = [
        (each.roofline_share, each.name)
        for each in found
        if each.roofline_share is not None and (each.agreement is None or each.agreement.fine)
    ]
    return Target(what, wanted, *max(known)) if known else Target(what, wanted, None, "no arm was timed")
