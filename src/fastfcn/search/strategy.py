"""How trials are chosen, and which of them end early."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from fastfcn.errors import UserError

Sampler = Literal["tpe", "random"]
Pruner = Literal["median", "halving", "hyperband", "none"]


class Strategy(NamedTuple):
    """How trials are chosen and stopped; it may change between two calls of a search.

    Attributes:
        sampler: ``tpe`` or ``random``.
        pruner: ``median``, ``halving`` (successive halving), ``hyperband`` or ``none``.
        seed: of the sampler.
        startup_trials: drawn at random by TPE, and ended before the median stops any.
        prune_after: epochs that every trial is given.
        epochs: of a whole trial; None where it has no set number.
    """

    sampler: str = "tpe"
    pruner: str = "median"
    seed: int = 0
    startup_trials: int = 5
    prune_after: int = 1
    epochs: int | None = None

    def check(self) -> None:
        """Refuse what there is not.

        Raises:
            UserError: a name is unknown or a number too small.
        """
        if self.sampler not in get_args(Sampler):
            more = "; every combination is what sweep=grid trains" if self.sampler == "grid" else ""
            raise UserError(f"hydra.sweeper.sampler={self.sampler}: choose one of {_or(Sampler)}{more}.")
        if self.pruner not in get_args(Pruner):
            raise UserError(f"hydra.sweeper.pruner={self.pruner}: choose one of {_or(Pruner)}.")
        if self.pruner == "hyperband" and self.epochs is None:
            raise UserError(
                "hydra.sweeper.pruner=hyperband deals out the epochs of a trial: give trainer.max_epochs=..."
            )
        for name, least in (("seed", 0), ("startup_trials", 1), ("prune_after", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"hydra.sweeper.{name}={value}: give a whole number from {least} on.")

    def make_sampler(self, seed: int) -> BaseSampler:
        """The sampler of one trial."""
        if self.sampler == "random":
            return RandomSampler(seed=seed)
        # Trials that still run count as bad ones, or those side by side would all try the same place.
        return TPESampler(n_startup_trials=self.startup_trials, constant_liar=True, seed=seed)


def make_pruner(*, pruner: str, startup_trials: int, prune_after: int, epochs: int | None) -> BasePruner:
    """The pruner by the fields of a strategy that it depends on."""
    if pruner == "median":
        return MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=prune_after)
    if pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=prune_after, reduction_factor=3)
    if pruner == "hyperband":
        most = max(epochs or prune_after, prune_after)
        return HyperbandPruner(min_resource=prune_after, max_resource=most, reduction_factor=3)
    return NopPruner()


def _or(names: object) -> str:
    return ", ".join(get_args(names))
