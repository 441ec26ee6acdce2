"""Is the adapted model good? Three answers: good, not good, and not shown, when there are too few questions to say.

- Gap questions: the 95 % interval of the difference lies above 0, and at most a share of them regressed.
- General questions, multiple choice and open-ended each: a loss of the margin or more is excluded (non-inferiority,
  one-sided 95 %).
- Earlier questions, where the training started from a published model: of what the runs before in its lineage answered
  right, at most a share is wrong now.
- The method kept its guarantee, where it gives one: OSFT, protected adapters.

Where several models are tried until one passes, each has its part of the chance to err (Bonferroni), so that together
they err no more often than one.

A condition that the numbers contradict has failed; one that they neither support nor contradict is not shown. How often
the gate errs, by the number of questions: benchmarks/gate.py.
"""

from components.run.evaluation_options import EvaluationOptions
from components.run.findings import (
    BROKEN,
    FAILED,
    KEPT,
    MET,
    NOT_SHOWN,
    Audit,
    Comparison,
    Condition,
    Gate,
)
from components.run.statistics import interval

TAIL = 0.05  # of a one-sided 95 % bound; a gain is shown by the lower end of a two-sided one
MAX_UNGRADED = 0.1  # share of the questions without a verdict, above which nothing is shown

MORE_GAP = "ask more gap questions that are not in the training data"
LEARN_MORE = ["train more epochs, or at a higher learning_rate", "add rows that put the same facts in other words"]
LEARN_LESS = [
    "train fewer epochs, or at a lower learning_rate",
    "choose a smaller unfreeze_rank_ratio",
    "add general questions and answers to the training data",
]
READ_AUDIT = "look at the worst matrix in the report; compare with the model that it was trained from, by its ratio"


def decide(
    gap: Comparison | None,
    general: dict[str, Comparison | None],
    ungraded: tuple[int, int],
    audit: Audit,
    options: EvaluationOptions,
    earlier: Comparison | None = None,
    earlier_asked: int = 0,
    trials: int = 1,
) -> Gate:
    """Whether the adapted model is good.

    Args:
        gap: on the gap questions that count; None when there are none.
        general: comparisons on general questions, by their names; None where there are none.
        ungraded: how many of the questions nobody graded, and how many were answered.
        earlier: the answers of earlier runs in the lineage against those of now; None when none of them counts.
        earlier_asked: how many questions of earlier runs were asked again.
        trials: how many models are tried, of which the first good one is taken.
    """
    tail = TAIL / trials
    conditions = [*_gap(gap, options, tail), *_general(general, options, tail)]
    if earlier_asked:
        conditions.append(_earlier(earlier, options))
    without, answered = ungraded
    if without > MAX_UNGRADED * answered:
        conditions.append(
            Condition(
                name="grading",
                state=NOT_SHOWN,
                finding=f"{without} of {answered} questions have an answer that was not graded, "
                f"at most {100 * MAX_UNGRADED:.0f} % may",
                advice=["name a judge that grades them: judge_url and judge_model, or judge_model alone"],
            )
        )
    if audit.word and audit.promised:
        state = MET if audit.word == KEPT else FAILED if audit.word == BROKEN else NOT_SHOWN
        finding = f"the guarantee to change nothing in protected directions is {audit.word}"
        advice = [] if state == MET else [READ_AUDIT]
        conditions.append(Condition(name="audit", state=state, finding=finding, advice=advice))
    return Gate(conditions=conditions)


def _gap(gap: Comparison | None, options: EvaluationOptions, tail: float) -> list[Condition]:
    if gap is None:
        nothing = "no gap question is left that is graded and not in the training data"
        return [Condition(name="gap questions closed", state=NOT_SHOWN, finding=nothing, advice=[MORE_GAP])]
    found = f"{gap.closed} closed and {gap.regressed} regressed of {gap.questions} gap questions"
    low, high = interval(gap.closed, gap.regressed, gap.questions, tail / 2)
    could_show = interval(gap.questions - gap.base_right, 0, gap.questions, tail / 2)[0] > 0
    if low > 0:
        closed = Condition(name="gap questions closed", state=MET, finding=f"{found}: a gain", advice=[])
    elif gap.difference <= 0 and could_show:
        closed = Condition(name="gap questions closed", state=FAILED, finding=f"{found}: no gain", advice=LEARN_MORE)
    else:
        closed = Condition(
            name="gap questions closed",
            state=NOT_SHOWN,
            finding=f"{found}: by chance alone it could be so, too ({_percent(tail)} interval {100 * low:+.1f} to "
            f"{100 * high:+.1f} points)",
            advice=[MORE_GAP, *(LEARN_MORE if could_show else [])],
        )
    share = gap.regressed / gap.questions
    most = options.regressed_share_max
    regressed = Condition(
        name="gap questions regressed",
        state=MET if share <= most else FAILED,
        finding=f"{100 * share:.1f} % of the gap questions regressed, at most {100 * most:g} % allowed",
        advice=[] if share <= most else LEARN_LESS,
    )
    return [closed, regressed]


def _earlier(earlier: Comparison | None, options: EvaluationOptions) -> Condition:
    name = "earlier questions"
    if earlier is None or not earlier.base_right:
        nothing = "no question of an earlier run is left whose answer of then is graded right"
        return Condition(name=name, state=NOT_SHOWN, finding=nothing, advice=["start from the base model"])
    share = earlier.regressed / earlier.base_right
    most = options.regressed_share_max
    return Condition(
        name=name,
        state=MET if share <= most else FAILED,
        finding=f"{earlier.regressed} of the {earlier.base_right} questions that earlier runs answered right are wrong "
        f"now, at most {100 * most:g} % allowed",
        advice=[] if share <= most else [*LEARN_LESS[:2], "add rows of the earlier data to the training data"],
    )


def _percent(tail: float) -> str:
    """The confidence that leaves this chance to err."""
    return f"{100 * (1 - tail):.3g} %"


def _general(general: dict[str, Comparison | None], options: EvaluationOptions, tail: float) -> list[Condition]:
    compared = {name: found for name, found in general.items() if found}
    if not compared:
        nothing = "no general question is left that is graded and not in the training data"
        advice = ["leave retention_questions empty: the project brings some"]
        return [Condition(name="general questions", state=NOT_SHOWN, finding=nothing, advice=advice)]
    margin = options.retention_margin
    conditions = []
    for name, found in compared.items():
        bound = 100 * interval(found.closed, found.regressed, found.questions, tail)[0]
        what = (
            f"{name}: {found.difference:+.1f} points on {found.questions} questions, at worst {bound:+.1f} "
            f"(one-sided {_percent(tail)}); a loss of {margin:g} or more must be excluded"
        )
        if bound > -margin:
            conditions.append(Condition(name=name, state=MET, finding=what, advice=[]))
        elif found.difference <= -margin:
            conditions.append(Condition(name=name, state=FAILED, finding=what, advice=LEARN_LESS))
        else:
            conditions.append(Condition(name=name, state=NOT_SHOWN, finding=what, advice=[f"ask more {name}"]))
    return conditions
