"""The trials of a sweep, as Optuna keeps them: opened, drawn, trained one at a time, pruned, given up.

The optimiser is the tree-structured Parzen estimator (Bergstra et al., Algorithms for hyper-parameter optimization,
NIPS 2011), seeded for each trial by (seed, trials so far): what it draws does not depend on kills in between.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neurodense.data.split import Split
from neurodense.errors import Diverged, RunError
from neurodense.screen import Screen
from neurodense.training.checkpoint import Checkpoint
from neurodense.training.execute import new_fit
from neurodense.training.recipe import Recipe
from neurodense.training.sheet import RunSheet
from neurodense.training.space import Space

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner

PrunerName = Literal["median", "hyperband", "none"]


def open_study(out: Path, storage: str | None, name: str, pruner: PrunerName, recipe: Recipe) -> Study:
    """Open the study, or make it.

    Raises:
        RunError: The database cannot be reached.
    """
    import optuna

    url = storage or f"sqlite:///{(out / 'sweep.db').resolve()}"
    try:
        return optuna.create_study(
            storage=url, study_name=name, direction="maximize", load_if_exists=True, pruner=_pruner(pruner, recipe)
        )
    except Exception as error:  # of whatever driver the URL names
        shown = re.sub(r"//[^/@]*@", "//", url)  # without a password
        reason = re.sub(r"//[^/@\s]*@", "//", (str(error).splitlines() or [""])[0])
        raise RunError(
            f"The database {shown} cannot be opened: {type(error).__name__}: {reason}",
            "--storage takes a URL of SQLAlchemy, whose driver must be installed; without it OUT/sweep.db is used.",
        ) from error


def _pruner(name: PrunerName, recipe: Recipe) -> BasePruner:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    quarter = max(1, recipe.epochs // 4)  # a head that has barely begun says little of what follows
    if name == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=quarter + 1)  # the first step that may be pruned
    return HyperbandPruner(quarter, recipe.epochs) if name == "hyperband" else NopPruner()


def sampler_of(study: Study, seed: int, place: str) -> Any:
    """A fresh sampler for the next trial: the same whether the sweep was stopped before it or not."""
    from optuna.samplers import TPESampler

    key = f"{seed}:{len(study.get_trials(deepcopy=False))}:{place}"
    return TPESampler(seed=int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big"))


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, one in space.ranges.items():
        if one.low is None or one.high is None:
            found[key] = CategoricalDistribution(one.labels)
        elif space.is_whole(key):
            found[key] = IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
        else:
            found[key] = FloatDistribution(one.low, one.high, log=one.log, step=one.step)
    return found


class _Pruned(Exception):  # noqa: N818  (what happened to it)
    """The pruner has seen enough."""


class _Curve:
    """What a trial's training is logged to: the study, which may end it."""

    def __init__(self, trial: Trial, epochs: int) -> None:
        self.trial, self.epochs = trial, epochs
        self.last: tuple[float, float, int] | None = None

    def batch(self, step: int, stage: str, epoch: int, loss: float, learning_rate: float) -> None:
        """Nothing: the study knows epochs."""

    def epoch(self, step: int, values: dict[str, Any]) -> None:
        """Report one epoch."""
        self.last = (values["validation_macro_f1"], -values["validation_loss"], values["epoch"])
        self.trial.report(self.last[0], self.last[2])
        if self.last[2] < self.epochs and self.trial.should_prune():
            raise _Pruned

    def flush(self) -> int:
        """Nothing waits."""
        return 0


class _Quiet(Screen):
    """Bars and warnings of a trial without its lines."""

    def say(self, text: str) -> None:
        """Nothing."""


def try_one(
    study: Study, trial: Trial, space: Space, sheet: RunSheet, split: Split, start: Checkpoint, screen: Screen
) -> None:
    """Train one trial, and tell the study how it went."""
    from optuna.trial import TrialState

    began = time.monotonic()
    fit = None
    try:
        recipe = space.recipe(trial.params)
        curve = _Curve(trial, recipe.epochs)
        told = replace(sheet, recipe=recipe.model_dump(mode="json"))
        fit = new_fit(told, split, None, curve, _Quiet(screen.console))
        fit.run(Checkpoint(start.position, dict(start.network)))
    except (_Pruned, Diverged) as error:
        if isinstance(error, Diverged):
            trial.set_user_attr("diverged", error.message)
        _describe(trial, fit.position.best if fit else None, time.monotonic() - began)
        study.tell(trial, state=TrialState.PRUNED)
    except BaseException as error:
        _give_up(study, trial.number, again=isinstance(error, KeyboardInterrupt))
        raise
    else:
        kept = fit.position.best if recipe.keep == "best" else curve.last
        assert kept is not None
        _describe(trial, kept, time.monotonic() - began)
        study.tell(trial, kept[0])
    finally:
        if fit is not None:
            fit.abandon()


def _describe(trial: Trial, kept: tuple[float, float, int] | None, seconds: float) -> None:
    if kept is not None:
        trial.set_user_attr("validation_loss", -kept[1])
        trial.set_user_attr("epoch", kept[2])
    trial.set_user_attr("seconds", round(seconds, 1))


def _give_up(study: Study, number: int, *, again: bool) -> None:
    """Count a trial as failed; its settings come again, as the next trial."""
    from optuna.trial import TrialState

    one = study.get_trials(deepcopy=False)[number]
    study.tell(number, state=TrialState.FAIL)
    if again and one.params:
        study.enqueue_trial(one.params, user_attrs={"again": number})


def give_up_half_trials(study: Study, place: str, *, alone: bool) -> None:
    """Deal with trials whose process was killed. Those of other machines, which may well be running, are left alone.

    Settings that killed the process twice, such as by its memory, are not tried a third time.
    """
    from optuna.trial import TrialState

    for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if alone or one.user_attrs.get("place") == place:
            _give_up(study, one.number, again="again" not in one.user_attrs)


def finished(study: Study) -> list[Any]:
    """The trials that count: those that came to their end, and those that were ended early."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def importances_of(study: Study) -> dict[str, float]:
    """Share of each setting in what the trials differ by; empty where there are too few to say."""
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 10:
        return {}
    try:
        return get_param_importances(study)
    except (ValueError, RuntimeError, ImportError):  # such as when all scores are equal
        return {}
