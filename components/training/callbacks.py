"""Calls the user's `training_hub` callbacks while the single-device backend trains.

As with the stock backends a failing callback never stops a training: its error is logged, and training continues.
"""

import dataclasses
import itertools
import traceback
from collections.abc import Iterable
from pathlib import Path

from training_hub import TrainingHubCallback, TrainingHubContext, TrainingHubControl

from components.shared import progress
from components.training.loop import StepMetrics


class CallbackCaller:
    """Turns the loop's events into the hooks of `TrainingHubCallback`."""

    def __init__(self, callbacks: Iterable[TrainingHubCallback] | TrainingHubCallback, output: Path) -> None:
        self.callbacks = [callbacks] if isinstance(callbacks, TrainingHubCallback) else list(callbacks)
        self.output = output
        self.last: StepMetrics | None = None
        self.epoch = 0
        self.control = TrainingHubControl()
        """What the callbacks request."""

    def begin(self, last: StepMetrics | None = None) -> None:
        """The training begins, or is resumed after a step."""
        self.last, self.epoch = last, last.epoch if last else 0
        self._call("on_train_begin")

    def step_begins(self, epoch: int) -> None:
        """A step of this epoch, from 1, begins."""
        if self.epoch != epoch:
            if self.epoch:
                self._call("on_epoch_end")
            self.epoch = epoch
            self._call("on_epoch_begin")
        self._call("on_step_begin")

    def step(self, metrics: StepMetrics) -> None:
        """A step is done."""
        self.last = metrics
        self._call("on_log", "on_step_end")

    def end(self) -> None:
        """The adapted model is saved."""
        self._call("on_epoch_end", "on_save", "on_train_end")

    def _call(self, *hooks: str) -> None:
        context = TrainingHubContext(output_dir=str(self.output), control=self.control)
        context.epoch = self.epoch
        if self.last is not None:
            context.step = self.last.step
            context.loss, context.learning_rate = self.last.loss, self.last.learning_rate
            context.metrics = dataclasses.asdict(self.last)
        for hook, callback in itertools.product(hooks, self.callbacks):
            try:
                getattr(callback, hook)(context)
            except Exception:
                name = f"{type(callback).__name__}.{hook}"
                progress.log(f"callback {name} failed, training continues\n{traceback.format_exc()}")
