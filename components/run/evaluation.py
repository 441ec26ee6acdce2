"""The result of an evaluation: the dataclasses of `summary.json`, which docs/evaluation.md documents."""

import dataclasses
from pathlib import Path

from components.run.training_report import TrainingReport
from components.shared.storage import from_dict, read_json
from components.shared.workspace import SUMMARY

FEW_QUESTIONS = 30  # below this a report says how little can be shown
SIGNIFICANT = 0.05
BY_REFERENCE = "the references"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed between base and adapted model; differences are adapted minus base, in percentage points."""

    questions: int
    base_right: int
    adapted_right: int
    closed: int
    """Answered wrong by the base model and right by the adapted one."""
    regressed: int
    """The reverse."""
    unchanged: int
    p_value: float
    """Of the exact two-sided McNemar test: whether closed and regressed questions differ by chance only."""
    difference: float
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    detectable: float | None
    """The smallest true difference that a test on this many questions detects with 80 % power, if nothing regressed."""

    @property
    def base_percent(self) -> float:
        return 100 * self.base_right / self.questions

    @property
    def adapted_percent(self) -> float:
        return 100 * self.adapted_right / self.questions

    @property
    def few(self) -> bool:
        """Too few questions to detect anything but a large effect."""
        return self.questions < FEW_QUESTIONS

    @property
    def significant(self) -> bool:
        return self.p_value < SIGNIFICANT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """A question that appears in the training data."""

    question: str
    row: int
    """Of the training data, from 1; the one that is most like it."""
    where: str
    """question or response: of the row."""
    how: str
    """similarity of the passage and the question, or containment of the question in a longer text."""
    score: float
    """1 for the same words."""
    passage: str
    """Of the row; of a longer text the words without case and punctuation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixAudit:
    """One tensor of the model."""

    name: str
    protected: bool
    """Whether OSFT protects directions of it; embeddings and norms are trained freely."""
    relative_change: float
    """||D|| / ||W_base||; 1 for a tensor of zeros that changed"""
    protected_change_ratio: float
    """Share of the change's norm in the protected directions; 0 for a tensor that has none or did not change."""
    rounding_ratio: float
    """The share that rounding the saved weights alone would cause; an estimate, see `rounding_norm`."""
    change_norm: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradedAnswer:
    """A model's answer to a question with its grade."""

    answer: str
    right: bool
    reason: str
    """The judge model's; empty when graded against the reference."""
    cut: bool
    """Cut off at `max_answer_tokens`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionResult:
    """An open-ended question and both models' answers."""

    question: str
    reference: str
    subject: str
    others: dict[str, bool]
    """Whether other approaches answered it right, by their name; only gap questions have them."""
    base: GradedAnswer
    adapted: GradedAnswer
    base_phrases: float = 0.0
    """Share of the answer's three-word phrases that appear in the training data's answers."""
    adapted_phrases: float = 0.0

    @property
    def answered_by(self) -> list[str]:
        """Who answers it right, in the order in which they were tried."""
        others = [name for name, right in self.others.items() if right]
        return [*(["base"] if self.base.right else []), *others, *(["adapted"] if self.adapted.right else [])]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceResult:
    """A multiple-choice question and the statement that each model finds most likely."""

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
    """How likely each model finds the answers of held-out rows."""

    answers: int
    """How many were scored."""
    base_perplexity: float
    adapted_perplexity: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gate:
    """Whether the adapted model meets the run's acceptance thresholds."""

    good_enough: bool
    reasons: list[str]
    """One for each threshold that is not met."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All results of comparing a base model with an adapted one."""

    judged_by: str
    """`the model NAME`, or BY_REFERENCE."""
    gap: Comparison
    gap_answers: list[QuestionResult]
    contamination: list[Match]
    """Gap questions found in the training data."""
    clean_gap: Comparison | None
    """The gap questions without those; None when none was found, or none is left."""
    choices: Comparison | None
    """General multiple-choice questions with the training's system prompt; None when there are none."""
    choices_unprompted: Comparison | None
    """The same without it."""
    choice_answers: list[ChoiceResult]
    open: Comparison | None
    """General open-ended questions; None when there are none."""
    open_answers: list[QuestionResult]
    base_phrases: float | None
    """Mean share of the training's phrases in the open-ended answers; None without training data or such questions."""
    adapted_phrases: float | None
    base_perplexity: float
    adapted_perplexity: float
    held_out: HeldOut | None
    """None when no rows were held out."""
    scores: list[Score]
    protected_change_ratio: float
    """Share of the change's norm in the directions that OSFT protects, over all protected matrices."""
    rounding_ratio: float
    """The share that rounding the saved weights alone would cause; an estimate."""
    audit: list[MatrixAudit]
    gate: Gate

    @property
    def graded(self) -> str:
        """As in "Answers graded against the references"."""
        return f"graded {'against' if self.judged_by == BY_REFERENCE else 'by'} {self.judged_by}"

    def comparisons(self) -> list[tuple[str, Comparison]]:
        """All comparisons that were made, by what a reader calls them."""
        named = (
            ("Gap questions", self.gap),
            ("Gap questions not in the training data", self.clean_gap),
            ("General questions, multiple choice", self.choices),
            ("The same without the system prompt", self.choices_unprompted),
            ("General questions, open-ended", self.open),
        )
        return [(name, compared) for name, compared in named if compared]

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
    good_enough: bool
    metrics: dict[str, float]
    """The numbers that the dashboard shows."""
    evaluation: Evaluation

    @classmethod
    def read(cls, run: Path) -> "Summary":
        """The summary in a run's folder."""
        return from_dict(cls, read_json(run / SUMMARY))
