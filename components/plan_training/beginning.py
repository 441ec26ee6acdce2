"""Where a training begins: the base model, or the model that was published last under the run's name.

The same data are never trained on twice in a row. A scheduled run whose data have not changed finds them in the model
that was published last, and asks for that model's own run again: there is nothing to do, or only new questions to ask.
"""

import dataclasses
from pathlib import Path

from components.run.lineage import earlier_questions, find_start
from components.run.plan import PUBLISHED, Generation
from components.run.run_key import run_key
from components.run.training_options import TrainingOptions
from components.shared.storage import sha256_of_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a run is, by what it starts from."""

    options: TrainingOptions
    """Those of the published model's run, where that is asked for again."""
    run_key: str
    lineage: list[Generation]
    note: str
    """What was found, in words; empty when the base model was asked for."""
    questions_digest: str
    """Of the earlier runs' questions and answers; empty without any."""


def find_beginning(
    workspace: Path, start_from: str, name: str, data_digest: str, commit: str, options: TrainingOptions, gpus: int
) -> Beginning:
    """What a training on these data starts from, and the run that it therefore is.

    Args:
        start_from: one of STARTS.
        name: under which the run's model is published.
        commit: of the base model.
        options: with all decided that depends on the machine.

    Raises:
        Problems: as `components.run.lineage`.
    """
    lineage: list[Generation] = []
    key, note = "", ""
    start = find_start(workspace, name, commit) if start_from == PUBLISHED else None
    if start is None and start_from == PUBLISHED:
        note = f"no model made from this base model is published as {name} yet: the training starts from the base model"
    elif start is not None and start.plan.data_digest == data_digest:
        key, lineage, options = start.generation.run_key, start.plan.lineage, start.plan.training_options
        note = (
            f"{start.generation.model}, published last as {name}, was trained on these very data, and is not trained "
            "on them again; to train with other options, start from the base model: --start-from base"
        )
    elif start is not None:
        lineage = [*start.plan.lineage, start.generation]
    earlier = earlier_questions(workspace, lineage)
    if lineage and not note:
        note = (
            f"the training starts from {lineage[-1].model}, published as {name} at {lineage[-1].published_at}; "
            f"{len(earlier)} gap questions of earlier runs are asked again"
        )
    return Beginning(
        options=options,
        run_key=key or run_key(data_digest, commit, options, gpus, lineage[-1].model if lineage else ""),
        lineage=lineage,
        note=note,
        questions_digest=sha256_of_json([dataclasses.asdict(one) for one in earlier]) if earlier else "",
    )
