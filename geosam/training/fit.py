"""How anything is trained: the loop over epochs, its checkpoints, its end."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geosam.errors import TrainingError
from geosam.training.history import draw_history, write_history
from geosam.training.recipe import FitRecipe
from geosam.training.schedule import StepSchedule
from geosam.training.team import Team
from geosam.training.trainee import Trainee

STATE = "state.pt"
BEST, LAST = "best", "last"
"""Folders of the two checkpoints."""
_ORDER = 2
"""Keeps the order of the items apart from what else is drawn in an epoch."""


@dataclass
class Progress:
    """How far a training has come; written after every epoch."""

    epoch: int = 0
    """Epochs done."""

    step: int = 0
    """Steps of the optimizer done."""

    best_epoch: int = 0
    """The epoch whose checkpoint is the best; 0 is before the first."""

    best: float = math.nan
    """Its figure, higher is better."""

    rows: list[dict[str, float]] = field(default_factory=list)
    """Figures of each epoch, the untrained network's first."""


@dataclass(frozen=True)
class Watch:
    """Who is told how a training goes."""

    step: Callable[[], Any] = lambda: None
    """Called after every step."""

    epoch: Callable[[Mapping[str, float]], Any] = lambda row: None
    """Called with the figures of every epoch."""


def fit(
    trainee: Trainee,
    plan: FitRecipe,
    folder: Path,
    *,
    names: Sequence[str] = (),
    resume: bool = False,
    watch: Watch | None = None,
    team: Team | None = None,
) -> Progress:
    """Train, and keep the best and the last network.

    Into `folder` go ``best/``, ``last/``, ``metrics.csv``, ``curves.png`` and ``state.pt``. After
    every epoch they are complete; a training that was cut goes on from there and ends as if it had
    not been. The network as it is before the first step counts as epoch 0, and may stay the best.

    Parameters
    ----------
    trainee
        What is trained.
    plan
        Epochs, rates, patience and the like.
    folder
        Exists already.
    names
        What the items are called in errors; their numbers without it.
    resume
        Whether to go on from what is in the folder, if there is anything.
    watch
        Who is told how it goes.
    team
        The processes that train together.

    Raises
    ------
    TrainingError
        If a loss or gradient is not finite: it says at which step and on which items. The
        checkpoints of the epochs before stay.
    """
    loop = Loop(trainee, plan, folder, tuple(names), watch or Watch(), team or Team())
    if resume and (folder / STATE).is_file():
        loop.restore()
    else:
        loop.record({})
    while loop.progress.epoch < plan.epochs and not loop.is_patient_no_more:
        loop.run_epoch()
    return loop.progress


class Loop:
    """One training, from epoch to epoch."""

    def __init__(
        self,
        trainee: Trainee,
        plan: FitRecipe,
        folder: Path,
        names: tuple[str, ...],
        watch: Watch,
        team: Team,
    ) -> None:
        self.trainee, self.plan, self.folder = trainee, plan, folder
        self.names, self.watch, self.team = names, watch, team
        self.progress = Progress()
        self.free = dict(trainee.parameters())
        self.optimizer = torch.optim.AdamW(
            self.free.values(), lr=plan.lr, weight_decay=plan.weight_decay
        )
        device = next(iter(self.free.values())).device.type
        self.scaler = torch.amp.GradScaler(device, enabled=plan.precision == "fp16")
        per_epoch = math.ceil(len(trainee.items) / plan.batch)
        self.schedule = StepSchedule(plan.lr, per_epoch * plan.epochs, plan.warmup, plan.schedule)

    @property
    def is_patient_no_more(self) -> bool:
        """Whether the last better epoch lies too far back."""
        waited = self.progress.epoch - self.progress.best_epoch
        return 0 < self.plan.patience <= waited

    def run_epoch(self) -> None:
        """Show every item once, validate, and keep what came of it."""
        epoch = self.progress.epoch + 1
        # Dropout and the like; items seed themselves.
        torch.manual_seed(self.plan.seed * 100_003 + epoch)
        self.trainee.train()
        sums: dict[str, float] = {}
        for batch in self._batches(epoch):
            for name, value in self._step(batch, epoch).items():
                sums[f"train_{name}"] = sums.get(f"train_{name}", 0.0) + value
        self.progress.epoch = epoch
        n = len(self.trainee.items)
        self.record({name: value / n for name, value in sums.items()})

    def _batches(self, epoch: int) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.plan.seed, epoch, _ORDER])
        order = [int(i) for i in rng.permutation(np.asarray(self.trainee.items))]
        for start in range(0, len(order), self.plan.batch):
            yield order[start : start + self.plan.batch]

    def _step(self, batch: list[int], epoch: int) -> dict[str, float]:
        """Learn from one batch; return the sum of each loss over its items, as they are logged."""
        rate = self.schedule.rate(self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        # A process without items of its own keeps in step with one that does not count.
        mine = list(self.team.share(batch))
        counts = float(bool(mine))
        losses = dict(self.trainee.losses(mine or batch[:1], epoch))
        optimised = next(iter(losses.values()))
        self._check_items(optimised, mine or batch[:1], epoch)
        self.scaler.scale(counts * optimised.sum() / len(batch)).backward()
        self.team.add_gradients(self.free.values())
        self._apply(batch, epoch)
        self.progress.step += 1
        self.watch.step()
        return {
            name: float(self.team.total(counts * v.detach().sum())) for name, v in losses.items()
        }

    def _apply(self, batch: list[int], epoch: int) -> None:
        """Let the optimizer step with clipped gradients."""
        self.scaler.unscale_(self.optimizer)
        limit = self.plan.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.free.values(), limit)
        # A scaled gradient may overflow: the scaler then skips the step and halves its scale.
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            self._fail("gradient", float(norm), batch, epoch)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _check_items(self, values: torch.Tensor, items: list[int], epoch: int) -> None:
        wrong = [i for i, value in zip(items, values.detach(), strict=True) if not value.isfinite()]
        if wrong:
            first = float(values.detach()[items.index(wrong[0])])
            self._fail("loss", first, wrong, epoch)

    def _fail(self, what: str, value: float, items: Sequence[int], epoch: int) -> None:
        named = ", ".join(self.names[i] if self.names else str(i) for i in items)
        raise TrainingError(
            f"The {what} became {value} at step {self.progress.step + 1} (epoch {epoch}) on {named}. "
            f"The checkpoints of epoch {self.progress.epoch} stay in {self.folder}. Lower --lr, or "
            "look at these items."
        )

    def record(self, means: Mapping[str, float]) -> None:
        """Validate, and write checkpoints, table, picture and state of an epoch."""
        progress = self.progress
        figures = self.trainee.validate()
        rate = self.optimizer.param_groups[0]["lr"] if means else 0.0
        row = {"epoch": float(progress.epoch), "step": float(progress.step), "lr": rate}
        row |= {**means, **figures}
        progress.rows.append(row)
        worth = self._worth(row)
        better = math.isnan(progress.best) or worth > progress.best
        if better:
            progress.best, progress.best_epoch = worth, progress.epoch
        if self.team.leads:
            self._write(better)
        self.team.wait()
        self.watch.epoch(row)

    def _worth(self, row: Mapping[str, float]) -> float:
        """Return how good an epoch is, higher is better.

        Without a validation part it is the training loss; before the first epoch there is none.
        """
        value = row.get(self.plan.best_by, math.nan)
        if not math.isnan(value):
            return -value if self.plan.best_by == "loss" else value
        loss = row["loss"] if not math.isnan(row["loss"]) else row.get("train_total", math.inf)
        return -loss

    def _write(self, better: bool) -> None:
        self._save(LAST)
        if better:
            self._save(BEST)
        write_history(self.folder / "metrics.csv", self.progress.rows)
        draw_history(self.folder / "curves.png", self.progress.rows)
        partial = self.folder / f"{STATE}.unfinished"
        torch.save(self._state(), partial)
        partial.replace(self.folder / STATE)

    def _save(self, name: str) -> None:
        """Write a checkpoint beside the one it replaces, so that there is always a whole one."""
        fresh, old = self.folder / f"{name}.unfinished", self.folder / name
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        self.trainee.save(fresh)
        shutil.rmtree(old, ignore_errors=True)
        fresh.rename(old)

    def _state(self) -> dict[str, Any]:
        return {
            "progress": vars(self.progress),
            "trained": {name: p.detach().cpu() for name, p in self.free.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self) -> None:
        """Go back to the end of the last complete epoch."""
        state = torch.load(self.folder / STATE, weights_only=True, map_location="cpu")
        if set(state["trained"]) != set(self.free):
            raise TrainingError(
                f"{self.folder} holds the training of another network or part. Use --overwrite."
            )
        with torch.no_grad():
            for name, parameter in self.free.items():
                parameter.copy_(state["trained"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
