"""Part of the way back: the largest share of the training's change that passes the gate.

Only where the whole change does not pass. The shares are tried in a fixed order, the largest first, by all questions;
the first one that passes is taken. So that one out of several does not pass by chance more easily than one alone, each
has its part of the gate's chance to err. A half of the questions that chooses and another one that judges would guard
against that as well, and shows far less (benchmarks/rewinding.py).
"""

import dataclasses
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from components.evaluate.asking import Model, Outputs
from components.run.evaluation import Evaluation
from components.run.findings import Rewind, RewindTrial
from components.run.training_report import TrainingReport
from components.shared import progress
from components.shared.workspace import METRICS, TRAINING_REPORT, check_workspace, folder_bytes, rewound_folder
from components.training.rewind import save_between

if TYPE_CHECKING:
    from components.evaluate.pairwise import Inputs, Pair


def rewind(pair: "Pair", before: Outputs, whole: Evaluation, shares: list[float], rewound: Path) -> Evaluation:
    """Try shares of the change until one passes. Its model is written, and the evaluation is of it; where none passes,
    it stays that of the whole change.

    Args:
        before: what the base model answered.
        whole: the evaluation of the whole change.
        shares: of the change, the largest first.
        rewound: where the model is written, the share behind its name.

    Raises:
        Problems: as `evaluate_models`.
    """
    inputs, found = pair.inputs, whole
    trials = [_trial(1.0, whole)]
    for share in shares:
        who = f"{share:g} of the change"
        model = Model(who=who, folder=inputs.adapted, start=inputs.start, share=share, seed=inputs.seed)
        after = pair.ask(model)
        graded = pair.grade(before, after)
        tried = pair.conclude(before, after, *graded, whole.audit, len(shares))
        if tried.gate.good:
            folder = _write(inputs, share, rewound)
            tried = pair.conclude(before, after, *graded, pair.audit(folder), len(shares))
        trials.append(_trial(share, tried))
        if tried.gate.good:
            found = tried
            break
    share = trials[-1].share if found is not whole else 1.0
    return dataclasses.replace(found, rewind=Rewind(share=share, shares=len(shares), trials=trials))


def _trial(share: float, found: Evaluation) -> RewindTrial:
    progress.log(f"{share:g} of the change: {found.gate.verdict}")
    unmet = [condition.finding for condition in found.gate.unmet]
    return RewindTrial(share=share, verdict=found.gate.verdict, findings=unmet)


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
