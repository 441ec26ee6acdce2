"""Tasks of EleutherAI's lm-evaluation-harness on a model that is loaded already. The package comes with no image."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from components.shared import progress
from components.shared.problems import problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def check_installed(tasks: list[str]) -> None:
    """Raises:
    Problems: when tasks are asked for and the harness is not there.
    """
    if tasks and find_spec("lm_eval") is None:
        raise problem(
            f"lm_eval_tasks asks for {', '.join(tasks)}, and lm-evaluation-harness is not installed",
            where="parameter lm_eval_tasks",
            rule="the harness and its tasks' data must be in the image, or reachable",
            remedy="build the GPU image with the extra `harness`, or leave the parameter empty",
        )


def scores(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", tasks: list[str], who: str
) -> dict[tuple[str, str], float]:
    """The numbers that the harness reports, by task and metric.

    Raises:
        Problems: when a task is unknown, or its data cannot be had.
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
    except Exception as error:  # whatever the harness, its tasks or their data raise
        raise problem(
            f"lm-evaluation-harness failed: {type(error).__name__}: {error}",
            where="parameter lm_eval_tasks",
            rule="the tasks are known to the harness, and their data is in the image or reachable",
            remedy="correct the names, or leave the parameter empty",
        ) from error
    return {
        (task, metric.removesuffix(",none")): value
        for task, metrics in found["results"].items()
        for metric, value in metrics.items()
        if isinstance(value, float) and "stderr" not in metric
    }
