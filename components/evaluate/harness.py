"""Tasks of EleutherAI's lm-evaluation-harness on a loaded model. No image contains the package."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from components.shared import progress
from components.shared.problems import problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def check_installed(tasks: list[str]) -> None:
    """Raises:
    Problems: when tasks are named and the harness is not installed.
    """
    if tasks and find_spec("lm_eval") is None:
        raise problem(
            f"lm_eval_tasks names {', '.join(tasks)}, but lm-evaluation-harness is not installed",
            where="parameter lm_eval_tasks",
            rule="the harness comes with the extra `harness`, which no image has",
            remedy="leave lm_eval_tasks empty, or: pip install '.[harness]' (for a cluster: docs/images.md)",
        )


def scores(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", tasks: list[str], who: str
) -> dict[tuple[str, str], float]:
    """The numbers that the harness reports, by task and metric.

    Raises:
        Problems: when a task is unknown, or its data cannot be loaded.
    """
    if not tasks:
        return {}
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    progress.log(f"{who}: {', '.join(tasks)} of lm-evaluation-harness")
    try:
        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16, enable_thinking=False),
            tasks=list(tasks),
            apply_chat_template=True,
        )
    except Exception as error:  # the harness, its tasks and their data sets may raise anything
        raise problem(
            f"lm-evaluation-harness failed: {type(error).__name__}: {error}",
            where="parameter lm_eval_tasks",
            rule="the harness knows the tasks, and their data sets are in the image or can be downloaded",
            remedy="correct the names in lm_eval_tasks, or leave it empty",
            may_pass=isinstance(error, OSError) and not isinstance(error, FileNotFoundError),  # a server that is away
        ) from error
    return {
        (task, metric.removesuffix(",none")): value
        for task, metrics in found["results"].items()
        for metric, value in metrics.items()
        if isinstance(value, float) and "stderr" not in metric
    }
