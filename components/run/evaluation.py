"""The result of an evaluation: the dataclasses of `summary.json`, which docs/evaluation.md documents."""

import dataclasses
from pathlib import Path

from components.run.findings import (
    Audit,
    ChoiceResult,
    Comparison,
    EarlierResult,
    Gate,
    Grading,
    HeldOut,
    Match,
    QuestionResult,
    Rewind,
    Score,
    Style,
)
from components.run.plan import TrainingPlan
from components.run.training_report import TrainingReport
from components.shared.storage import from_dict, read_json
from components.shared.workspace import SUMMARY, TRAINING_REPORT, adapted_folder, run_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All results of comparing a base model with an adapted one.

    In the comparisons count the questions that are not in the training data and whose answers were graded.
    """

    grading: Grading
    gap: Comparison | None
    """Base, the better of as asked and in brief for each question, against adapted; None when no question counts."""
    style: Style
    gap_answers: list[QuestionResult]
    approaches: dict[str, Comparison]
    """Each other approach (in place of base) against adapted, on the gap questions that count."""
    trained_rows: int
    """Rows of the training data that the questions were looked for in; 0 when none were given."""
    contamination: list[Match]
    """Questions, gap and general, found in the training data."""
    contaminated_gap: Comparison | None
    """The gap questions found there; None without any."""
    choices: Comparison | None
    """General multiple-choice questions with the training's system prompt; None when there are none."""
    choices_unprompted: Comparison | None
    """The same without it."""
    choice_answers: list[ChoiceResult]
    open: Comparison | None
    """General open-ended questions; base in the style that it answers better in; None when there are none."""
    open_in_brief: bool
    """Whether that style is "in brief"."""
    open_answers: list[QuestionResult]
    differences: list[str]
    """How the models differ as a pair, beside their weights: tokenizer, chat template, end tokens."""
    base_phrases: float | None
    """Mean share of the training's phrases in the open-ended answers; None without training data or such questions."""
    adapted_phrases: float | None
    base_perplexity: float
    adapted_perplexity: float
    held_out: HeldOut | None
    """None when no rows were held out."""
    scores: list[Score]
    audit: Audit
    gate: Gate
    earlier: Comparison | None = None
    """The gap questions of the runs before in the lineage: the answers of then, in place of base, against adapted."""
    earlier_answers: list[EarlierResult] = dataclasses.field(default_factory=list)
    rewind: Rewind | None = None
    """None when no share of the change was tried."""

    @property
    def share(self) -> float:
        """Of the training's change, in the model that this evaluation is about."""
        return self.rewind.share if self.rewind else 1.0

    def comparisons(self) -> list[tuple[str, Comparison]]:
        """All comparisons of base and adapted that were made, by what a reader calls them."""
        named = (
            ("Gap questions", self.gap),
            ("Gap questions in the training data", self.contaminated_gap),
            ("General questions, multiple choice", self.choices),
            ("The same without the system prompt", self.choices_unprompted),
            ("General questions, open-ended", self.open),
        )
        return [(name, compared) for name, compared in named if compared]

    def metrics(self) -> dict[str, float]:
        """The numbers for KFP's metrics."""
        numbers: dict[str, float] = {
            "good": float(self.gate.good),
            "gap_questions": self.gap.questions if self.gap else 0,
            "closed": self.gap.closed if self.gap else 0,
            "regressed": self.gap.regressed if self.gap else 0,
            "grader_kappa": self.grading.agreement.kappa,
            "base_perplexity": self.base_perplexity,
            "adapted_perplexity": self.adapted_perplexity,
            "protected_change_ratio": self.audit.protected_change_ratio,
        }
        if self.gap:
            numbers |= {
                "base_correct": self.gap.base_right,
                "adapted_correct": self.gap.adapted_right,
                "mcnemar_p": self.gap.p_value,
            }
        for name, found in (("choices", self.choices), ("unprompted", self.choices_unprompted), ("open", self.open)):
            if found:
                numbers |= {
                    f"{name}_base_percent": found.base_percent,
                    f"{name}_adapted_percent": found.adapted_percent,
                }
        if self.earlier:
            numbers |= {"earlier_right": self.earlier.base_right, "earlier_regressed": self.earlier.regressed}
        if self.rewind:
            numbers["share_of_change"] = self.rewind.share
        if self.held_out:
            numbers |= {
                "held_out_base_perplexity": self.held_out.base_perplexity,
                "held_out_adapted_perplexity": self.held_out.adapted_perplexity,
            }
        return numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """`summary.json`."""

    schema: int
    date: str
    """ISO 8601, UTC."""
    verdict: str
    """The result in one sentence."""
    base: str
    """Folder of the base model."""
    adapted: str
    report_path: str
    evaluation_key: str
    """Hash of the questions and options; empty outside of a run."""
    training: TrainingReport | None
    """The adapted model's training_report.json; None when it has none."""
    seconds: float
    good: bool
    """All conditions of the gate are met."""
    metrics: dict[str, float]
    """The numbers that the dashboard shows."""
    evaluation: Evaluation

    @property
    def model(self) -> str:
        """The evaluated model's folder below adapted/."""
        return Path(self.adapted).name

    @classmethod
    def read(cls, run: Path) -> "Summary":
        """The summary in a run's folder."""
        return from_dict(cls, read_json(run / SUMMARY))


def find_evaluation(workspace: Path, plan: TrainingPlan) -> Summary | None:
    """A planned run's evaluation with the planned questions and options; None without one, where another release
    wrote it, and where its model is gone."""
    try:
        found = Summary.read(run_folder(workspace, plan.run_key))
    except (OSError, ValueError):
        return None
    is_there = (adapted_folder(workspace, found.model) / TRAINING_REPORT).is_file()
    return found if found.evaluation_key == plan.evaluation_key and is_there else None
