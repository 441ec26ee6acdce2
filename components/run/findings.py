"""What an evaluation finds, part by part; components/run/evaluation.py puts the parts together."""

import dataclasses

FEW_QUESTIONS = 30  # below this a report says how little can be shown
SIGNIFICANT = 0.05
GOOD, NOT_GOOD, NOT_SHOWN = "good", "not good", "not shown"
MET, FAILED = "met", "failed"
KEPT, IN_DOUBT, BROKEN = "kept", "in doubt", "broken"
REFERENCE_RULES = "the reference rules"  # as a grader's name


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
    right: bool | None
    """None when nobody graded it; the question then counts for neither model."""
    reason: str
    """The grader's own words; empty when it gave none."""
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
    base_brief: GradedAnswer
    """The base model's answer when asked for at most ten words."""
    adapted: GradedAnswer
    in_training: bool = False
    """Whether the training data holds the question: it then counts for neither model."""
    base_phrases: float = 0.0
    """Share of the answer's three-word phrases that appear in the training data's answers."""
    adapted_phrases: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it says something: not trained on, and every answer graded."""
        return not self.in_training and self.graded

    @property
    def graded(self) -> bool:
        return None not in (self.base.right, self.base_brief.right, self.adapted.right)

    @property
    def base_either(self) -> bool:
        """Whether the base model is right, as asked or in brief."""
        return bool(self.base.right or self.base_brief.right)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceResult:
    """A multiple-choice question and the statement that each model finds most likely."""

    question: str
    subject: str
    right: str
    base: str
    """Empty when the likelihood of a statement is NaN or infinite."""
    adapted: str
    base_unprompted: str
    """Asked without the training's system prompt."""
    adapted_unprompted: str
    in_training: bool = False

    @property
    def counts(self) -> bool:
        return not self.in_training


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlierResult:
    """A gap question of an earlier run in the lineage, and what its model and this one answer."""

    question: str
    reference: str
    run_key: str
    """Of the run that asked it."""
    then: GradedAnswer
    """That run's model; graded again, by whoever grades now."""
    now: GradedAnswer

    @property
    def counts(self) -> bool:
        return None not in (self.then.right, self.now.right)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewindTrial:
    """What the gate says of a share of the training's change."""

    share: float
    verdict: str
    findings: list[str]
    """Of the conditions that are not met."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rewind:
    """How much of the training's change was kept."""

    share: float
    """1 when no smaller one passed: all else is then about the whole change."""
    shares: int
    """How many could be tried below 1: each had that part of the gate's chance to err."""
    trials: list[RewindTrial]
    """The whole change, and the shares that were tried, in their order."""


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
class Agreement:
    """How a grader's verdicts agree with the labels of answers that ship with the project."""

    answers: int
    """Those that it graded."""
    ungraded: int
    accuracy: float
    """Share of the graded answers."""
    kappa: float
    """Cohen's: 0 for chance, 1 for all."""
    kappa_low: float
    """Ends of its 95 % interval, by a bootstrap over the questions."""
    kappa_high: float
    falsely_right: int
    falsely_wrong: int
    languages: dict[str, float]
    """Accuracy by ISO 639-1 code."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grading:
    """Who graded the answers, and how far that can be trusted."""

    grader: str
    """As in "graded by the model NAME at an endpoint"."""
    agreement: Agreement
    adaptations: list[str]
    """What an endpoint did not take and is not asked for, in words."""
    refused: dict[str, Agreement]
    """Graders that were tried and agree too little, by name."""
    unread: list[str]
    """Languages of questions that the reference rules do not read; their answers are not graded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """What of the closed gap questions is only an answer in fewer words."""

    closed_as_asked: int
    """Closed when the base model's answers in brief do not count."""
    closed_by_style: int
    """Of those, the ones that the base model answers right in brief."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition of a good model."""

    name: str
    state: str
    """MET, FAILED or NOT_SHOWN."""
    finding: str
    """What was measured and what is asked, in one sentence."""
    advice: list[str]
    """What to try when it is not met."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gate:
    """Whether the adapted model is good: all conditions are met."""

    conditions: list[Condition]

    @property
    def verdict(self) -> str:
        """GOOD, NOT_GOOD when a condition failed, NOT_SHOWN when there is too little to say."""
        states = {condition.state for condition in self.conditions}
        return NOT_GOOD if FAILED in states else NOT_SHOWN if NOT_SHOWN in states else GOOD

    @property
    def good(self) -> bool:
        return self.verdict == GOOD

    @property
    def unmet(self) -> list[Condition]:
        return [condition for condition in self.conditions if condition.state != MET]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """Where the change of the weights lies."""

    word: str
    """KEPT, IN_DOUBT or BROKEN; empty when no matrix was protected."""
    promised: bool
    """Whether the training's method promises to keep out of these directions."""
    unfreeze_rank_ratio: float
    """It was measured by."""
    protected_change_ratio: float
    """Share of the change's norm in the directions that OSFT protects, over all protected matrices."""
    rounding_ratio: float
    """The share that rounding the saved weights alone would cause; an estimate."""
    unprotected_share: float
    """Share of the whole change's square in tensors that have no protected directions: embeddings, norms."""
    worst: str
    """The matrix with the most change in protected directions beyond rounding; empty without one."""
    identical: bool
    """Both models have the very same weights."""
    matrices: list[MatrixAudit]
