"""A training whose loss is NaN, infinite or diverging is stopped, with the rows and the advice."""

import math

import pytest

from components.data.samples import Sample
from components.shared.problems import Problems
from components.training.loop import DIVERGED_STEPS, StepMetrics, check_health
from tests.tables import table

LN_300 = math.log(300)


@pytest.mark.parametrize(("losses", "gradient", "said"), table("training_health", "losses"))
def test_losses_stop_a_training_that_cannot_be_right(losses, gradient, said):
    assert DIVERGED_STEPS == 5
    common = {"steps": 20, "epoch": 1, "learning_rate": 1e-3, "tokens": 10, "loss_tokens": 5}
    history = [
        StepMetrics(step=step, loss=loss, gradient_norm=norm, seconds=1.0, peak_memory_gib=0.0, **common)  # type: ignore[arg-type]
        for step, (loss, norm) in enumerate(zip(losses, [*[1.0] * (len(losses) - 1), gradient], strict=True), 1)
    ]
    batch = [Sample([1], [1], row=9), Sample([1], [1], row=4)]

    if said is None:
        check_health(history, batch, vocabulary=300)
        return
    with pytest.raises(Problems) as caught:
        check_health(history, batch, vocabulary=300)
    assert said in str(caught.value)
    assert "rows 4, 9 of the training data" in str(caught.value)
    assert "lower learning_rate (it was 0.001" in str(caught.value)
