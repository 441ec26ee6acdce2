"""Part of the way back: the largest share of the training's change that passes the gate.

Only where the whole change does not pass on all questions. Half of the questions, by their digests, chooses the share;
the other half says whether it is good. Were one set to do both, the share that looks good by chance would be chosen.
"""

import dataclasses
import gc
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from components.evaluate.asking import Model, Outputs
from components.run.evaluation import Evaluation
from components.run.findings import ALL, CHOOSING, REPORTING, Rewind, RewindTrial
from components.run.training_report import TrainingReport
from components.shared import progress
from components.shared.workspace import METRICS, TRAINING_REPORT, check_workspace, folder_bytes, rewound_folder
from components.training.rewind import save_between

if TYPE_CHECKING:
    from components.evaluate.pairwise import Inputs, Pair


def rewind(pair: "Pair", before: Outputs, whole: Evaluation, shares: list[float], rewound: Path) -> Evaluation:
    """Try shares of the change, the largest first, until one passes on the half that chooses.

    If it passes on the other half as well, the model is written, and the evaluation is of it on that half. Otherwise it
    stays that of the whole change on all questions.

    Args:
        before: what the base model answered.
        whole: the evaluation of the whole change.
        shares: of the change, the largest first.
        rewound: where the model is written, the share behind its name.

    Raises:
        Problems: as `evaluate_models`.
    """
    inputs = pair.inputs
    choosing = choosing_half(inputs)
    reporting = _questions(inputs) - choosing
    trials = [_trial(1.0, ALL, whole)]
    found = whole
    for share in shares:
        model = Model(
            who=f"{share:g} of the change", folder=inputs.adapted, start=inputs.start, share=share, seed=inputs.seed
        )
        after = pair.ask(model)
        graded = pair.grade(before, after)
        tried = pair.conclude(before, after, *graded, whole.audit, set_aside=reporting)
        trials.append(_trial(share, CHOOSING, tried))
        if not tried.gate.good:
            continue
        reported = pair.conclude(before, after, *graded, whole.audit, set_aside=choosing)
        if reported.gate.good:
            folder = _write(inputs, share, rewound)
            reported = pair.conclude(before, after, *graded, pair.audit(folder), set_aside=choosing)
        trials.append(_trial(share, REPORTING, reported))
        found = reported if reported.gate.good else whole
        break
    kept = trials[-1].share if found is not whole else 1.0
    said = Rewind(share=kept, choosing=len(choosing), reporting=len(reporting), trials=trials)
    return dataclasses.replace(found, rewind=said)


def choosing_half(inputs: "Inputs") -> set[str]:
    """The questions that choose: of each kind every second one in the order of their digests.

    So the halves are even, and do not depend on the order of the questions.
    """
    chosen: set[str] = set()
    seen: set[str] = set()
    for kind in _kinds(inputs):
        new = sorted(set(kind) - seen, key=lambda question: hashlib.sha256(question.encode()).digest())
        chosen |= set(new[::2])
        seen |= set(new)
    return chosen


def _kinds(inputs: "Inputs") -> list[list[str]]:
    kinds: dict[str, list[str]] = {"gap": [entry["question"] for entry in inputs.gap], "choices": [], "open": []}
    for entry in inputs.retention:
        kinds["choices" if entry["choices"] else "open"].append(entry["question"])
    return [*kinds.values(), [one.question for one in inputs.earlier]]


def _questions(inputs: "Inputs") -> set[str]:
    return {question for kind in _kinds(inputs) for question in kind}


def _trial(share: float, questions: str, found: Evaluation) -> RewindTrial:
    unmet = [condition.finding for condition in found.gate.unmet]
    progress.log(f"{share:g} of the change, {questions} of the questions: {found.gate.verdict}")
    return RewindTrial(share=share, questions=questions, verdict=found.gate.verdict, findings=unmet)


def _write(inputs: "Inputs", share: float, rewound: Path) -> Path:
    """The model with a share of the change, as a folder of its own; one of an earlier attempt is complete."""
    folder = rewound_folder(rewound, share)
    if folder.is_dir():
        return folder
    check_workspace(folder.parent, folder_bytes(inputs.adapted))
    records: dict[str, Any] = {}
    if (inputs.adapted / TRAINING_REPORT).exists():
        report = TrainingReport.read(inputs.adapted)
        records[METRICS] = (inputs.adapted / METRICS).read_text(encoding="utf-8")
        records[TRAINING_REPORT] = dataclasses.asdict(dataclasses.replace(report, path=str(folder), rewound=share))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    save_between(inputs.start, inputs.adapted, share, inputs.seed, device, folder, records)
    gc.collect()
    progress.log(f"the model with {share:g} of the change is in {folder}")
    return folder
