"""What an evaluation found: the dataclasses of `summary.json`, which docs/evaluation.md documents."""

import dataclasses
from pathlib import Path

from components.run.training_report import TrainingReport
from components.shared.storage import from_dict, read_json
from components.shared.workspace import SUMMARY

FEW_QUESTIONS = 30  # below this a report says how little can be shown
SIGNIFICANT = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed between base and adapted model; differences are adapted minus base, in percentage points."""

    questions: int
    base_right: int
    adapted_right: int
    closed: int
    """Wrong before, right after."""
    regressed: int
    """Right before, wrong after."""
    unchanged: int
    p_value: float
    """Exact two-sided McNemar test: that closed and regressed questions differ by chance only."""
    difference: float
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    detectable: float | None
    """The smallest true difference that this many questions would show with 80 % probability, if nothing regressed."""

    @property
    def base_percent(self) -> float:
        return 100 * self.base_right / self.questions

    @property
    def adapted_percent(self) -> float:
        return 100 * self.adapted_right / self.questions

    @property
    def few(self) -> bool:
        """Too few questions to tell anything but a large effect."""
        return self.questions < FEW_QUESTIONS

    @property
    def significant(self) -> bool:
        return self.p_value < SIGNIFICANT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """A gap question that stands in the training data."""

    question: str
    row: int
    """Of the training data, from 1: the most similar one."""
    trained_question: str
    similarity: float
    """1 for the same words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixAudit:
    """One tensor of the model."""

    name: str
    protected: bool
    """OSFT protects directions of it; embeddings and norms are trained freely."""
    relative_change: float
    """||D|| / ||W_base||; 1 for a tensor of zeros that changed"""
    protected_change_ratio: float
    """Share of the change's norm in the protected directions; 0 for a tensor that has none or did not change."""
    rounding_ratio: float
    """The same share, if the change were none but for the saved numbers' rounding; estimated, see `rounding_norm`."""
    change_norm: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """A model's answer to a question, judged."""

    answer: str
    right: bool
    reason: str
    """The judge's; empty when judged by reference."""
    cut: bool
    """The answer had not ended after `max_answer_tokens`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """A question that both models answered in full."""

    question: str
    reference: str
    subject: str
    others: dict[str, bool]
    """Verdicts of other approaches by their name; only gap questions have them."""
    base: Said
    adapted: Said
    base_phrases: float = 0.0
    """Share of the answer's three-word phrases that stand in the training's answers."""
    adapted_phrases: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """A multiple-choice question: the statement that each model finds most likely."""

    question: str
    subject: str
    right: str
    base: str
    adapted: str
    base_unprompted: str
    """Asked without the training's system prompt."""
    adapted_unprompted: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """A number of lm-evaluation-harness for both models."""

    task: str
    metric: str
    base: float
    adapted: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How likely each model finds the answers of the rows that were set aside."""

    answers: int
    """That were scored."""
    base_perplexity: float
    adapted_perplexity: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gate:
    """Is the adapted model good enough, by the bar that the user set?"""

    good_enough: bool
    reasons: list[str]
    """A sentence for each condition that does not hold."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found."""

    judged_by: str
    gap: Comparison
    gap_answers: list[Answered]
    contamination: list[Match]
    """Gap questions found in the training data."""
    clean_gap: Comparison | None
    """The gap questions without those; None when none was found, or nothing is left."""
    choices: Comparison | None
    """General multiple-choice questions, asked with the training's system prompt; None when there are none."""
    choices_unprompted: Comparison | None
    """The same, asked without it."""
    choice_answers: list[Chosen]
    open: Comparison | None
    """General questions answered in full; None when there are none."""
    open_answers: list[Answered]
    base_phrases: float | None
    """Mean share of the training's phrases in the open answers; None without training data or open questions."""
    adapted_phrases: float | None
    base_perplexity: float
    adapted_perplexity: float
    held_out: HeldOut | None
    """None when nothing was set aside."""
    scores: list[Score]
    protected_change_ratio: float
    """Share of the change's norm in the directions that OSFT protects, over all its matrices."""
    rounding_ratio: float
    """The same share, if the change were none but for the rounding of the saved numbers; an estimate."""
    audit: list[MatrixAudit]
    gate: Gate

    def metrics(self) -> dict[str, float]:
        """The numbers for KFP's metrics."""
        numbers: dict[str, float] = {
            "gap_questions": self.gap.questions,
            "base_correct": self.gap.base_right,
            "adapted_correct": self.gap.adapted_right,
            "closed": self.gap.closed,
            "regressed": self.gap.regressed,
            "mcnemar_p": self.gap.p_value,
            "base_perplexity": self.base_perplexity,
            "adapted_perplexity": self.adapted_perplexity,
            "protected_change_ratio": self.protected_change_ratio,
            "good_enough": float(self.gate.good_enough),
        }
        for name, found in (("choices", self.choices), ("unprompted", self.choices_unprompted), ("open", self.open)):
            if found:
                numbers |= {
                    f"{name}_base_percent": found.base_percent,
                    f"{name}_adapted_percent": found.adapted_percent,
                }
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
    verdict: str
    """The result in a sentence."""
    base: str
    """Folder of the base model."""
    adapted: str
    report_path: str
    evaluation_key: str
    """Hash of what was asked; empty outside of a run."""
    training: TrainingReport | None
    """The adapted model's training_report.json; None when it has none."""
    seconds: float
    good_enough: bool
    metrics: dict[str, float]
    """The numbers that the dashboard shows."""
    evaluation: Evaluation

    @classmethod
    def read(cls, run: Path) -> "Summary":
        """The summary in a run's folder."""
        return from_dict(cls, read_json(run / SUMMARY))
