"""A training whose loss is NaN, infinite or diverging is stopped, with the rows and the advice."""

import math

import pytest

from components.data.samples import Sample
from components.shared.problems import Problems
from components.training.loop import DIVERGED_STEPS, StepMetrics, check_health

LN_300 = math.log(300)


@pytest.mark.parametrize(
    ("losses", "gradient", "said"),
    [
        ([2.0] * 9, 1.0, None),
        ([2.0, *[LN_300 + 0.1] * 4], 1.0, None),  # not yet
        ([2.0, *[LN_300 + 0.1] * 5], 1.0, "the loss diverges: 5.80 to 5.80 in steps 2 to 6, 2.00 in the first"),
        ([2.0, *[LN_300 + 0.1] * 4, 2.0, *[LN_300 + 0.1] * 4], 1.0, None),  # not in a row
        ([4.0, *[7.9] * 9], 1.0, None),  # worse than guessing, not than twice the first
        ([4.0, *[8.1] * 5], 1.0, "the loss diverges"),
        ([8.0] * 9, 1.0, None),  # began worse than guessing
        ([2.0, math.nan], 1.0, "step 2 of 20 has loss nan and gradient norm 1"),
        ([2.0, math.inf], 1.0, "step 2 of 20 has loss inf"),
        ([2.0], math.nan, "step 1 of 20 has loss 2 and gradient norm nan"),
        ([2.0], math.inf, "gradient norm inf"),
    ],
)
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
