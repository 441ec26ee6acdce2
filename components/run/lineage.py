"""The published model that a run continues from, and what the runs before it asked.

Everything is read from the folders of runs, which stay when models are pruned:

    runs/6fdfa8e78ea3eea2/published.json    {"name": "granite-osft", "version": "6fdfa8e78ea3eea2-0.75", ...}
    runs/6fdfa8e78ea3eea2/summary.json      the training with its plan, the questions and the answers to them
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from components.run.evaluation import Summary
from components.run.plan import BASE, PUBLISHED, STARTS, Generation, TrainingPlan
from components.run.publication import Published, read_publication
from components.shared.problems import Problems, problem, quote
from components.shared.workspace import PUBLISHED as NOTE
from components.shared.workspace import SUMMARY, TRAINING_REPORT, adapted_folder, run_folder

AFRESH = "or start from the base model: --start-from base (on a cluster: start_from=base)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The model that a run continues from."""

    plan: TrainingPlan
    """Of the run that made it."""
    generation: Generation


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlierQuestion:
    """A gap question of an earlier run, with its model's answer."""

    question: str
    reference: str
    run_key: str
    answer: str
    right: bool
    cut: bool


def check_start(start_from: str) -> None:
    """Raises Problems when it is nothing that a training can start from."""
    if start_from not in STARTS:
        raise problem(
            f"start_from is {quote(start_from)}",
            where="parameter start_from",
            rule=f"one of {', '.join(STARTS)}",
            remedy=f"for instance --start-from {BASE} (on a cluster: start_from={BASE}), the default",
        )


def find_start(workspace: Path, name: str, commit: str) -> Start | None:
    """The model that was published last under a name, of those that came from this base model; None without any.

    Raises:
        Problems: when a publication or its run's summary cannot be read, or the model is gone.
    """
    published = [(note.parent.name, _publication(workspace, note)) for note in workspace.glob(f"runs/*/{NOTE}")]
    named = [(key, found) for key, found in published if found.name == name]
    for key, found in sorted(named, key=lambda one: one[1].time, reverse=True):
        training = _summary(workspace, key).training
        if training is None or training.plan.model_commit != commit:
            continue
        model = adapted_folder(workspace, found.version)
        if not (model / TRAINING_REPORT).is_file():
            raise problem(
                f"the model published last as {name} is not there any more",
                where=str(model),
                rule=f"with start_from={PUBLISHED} the training starts from it",
                remedy=f"restore the folder, {AFRESH}",
            )
        generation = Generation(
            run_key=key,
            model=found.version,
            data_digest=training.plan.data_digest,
            data_source=training.plan.data_source,
            samples=training.plan.samples,
            published_at=found.published_at,
        )
        return Start(plan=training.plan, generation=generation)
    return None


def start_folder(workspace: Path, plan: TrainingPlan, base: Path) -> Path:
    """The model that a planned training starts from. Raises Problems when it is gone."""
    if not plan.lineage:
        return base
    folder = adapted_folder(workspace, plan.starts_from)
    if not (folder / TRAINING_REPORT).is_file():
        raise problem(
            f"the model that run {plan.run_key} started from is not there any more",
            where=str(folder),
            rule="a model is trained from it, and its change measured against it",
            remedy=f"restore the folder, {AFRESH}",
        )
    return folder


def earlier_questions(workspace: Path, lineage: Iterable[Generation]) -> list[EarlierQuestion]:
    """The gap questions of the runs in a lineage, each once: with the answer of the last run that was right on it, or
    that asked it. Without those that were in a run's training data or not graded.

    Raises:
        Problems: when a run's summary cannot be read.
    """
    found: dict[str, EarlierQuestion] = {}
    for generation in lineage:
        for one in _summary(workspace, generation.run_key).evaluation.gap_answers:
            if one.in_training or one.adapted.right is None:
                continue
            if one.question in found and found[one.question].right and not one.adapted.right:
                continue
            found[one.question] = EarlierQuestion(
                question=one.question,
                reference=one.reference,
                run_key=generation.run_key,
                answer=one.adapted.answer,
                right=one.adapted.right,
                cut=one.adapted.cut,
            )
    return list(found.values())


def _publication(workspace: Path, note: Path) -> Published:
    try:
        found = read_publication(workspace, note.parent.name)
        assert found is not None  # the note is there
        _ = found.time
        return found
    except (OSError, ValueError):
        raise _unreadable(note) from None


def _summary(workspace: Path, key: str) -> Summary:
    run = run_folder(workspace, key)
    try:
        return Summary.read(run)
    except (OSError, ValueError):
        raise _unreadable(run / SUMMARY) from None


def _unreadable(file: Path) -> Problems:
    return problem(
        f"{file.name} of run {file.parent.name} cannot be read",
        where=str(file),
        rule="a run that continues from a published model asks what the runs before it asked, and reads it there",
        remedy=f"restore the file, {AFRESH}",
    )
