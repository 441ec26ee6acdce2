"""What an evaluation found, in sentences: for the page, its short form, the terminal and the notification.

No sentence says more than its numbers do: an answer is graded right, and may still be wrong; what was not found may be
there. Names come from users and files: `show` makes them safe for where the sentence goes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from components.grading.trial import MIN_KAPPA
from components.run.evaluation import Evaluation
from components.run.findings import (
    GOOD,
    NOT_GOOD,
    NOT_SHOWN,
    REFERENCE_RULES,
    Agreement,
    Audit,
    ChoiceResult,
    Comparison,
    Grading,
    HeldOut,
    QuestionResult,
    Rewind,
)
from components.run.statistics import p_value_words
from components.shared.progress import printable

Show = Callable[[str], str]

HEADLINES = {GOOD: "Good", NOT_GOOD: "Not good", NOT_SHOWN: "Not shown"}


def headline(found: Evaluation) -> str:
    """Good, Not good or Not shown."""
    return HEADLINES[found.gate.verdict]


def verdict(found: Evaluation) -> str:
    """The result in one sentence."""
    unmet = [condition.finding for condition in found.gate.unmet]
    what = "; ".join([*unmet, gap_changes(found)]) if unmet else changes(found)
    grading = found.grading
    share = f" with {100 * found.share:g} % of the training's change" if found.share < 1 else ""
    return f"{headline(found)}{share}: {what}; graded by {printable(grading.grader)}, {kappa(grading.agreement)}"


def changes(found: Evaluation) -> str:
    """What changed."""
    general = [
        f"{name} {compared.difference:+.1f} points (95 % interval {compared.low:+.1f} to {compared.high:+.1f})"
        for name, compared in (("multiple choice", found.choices), ("open-ended", found.open))
        if compared
    ]
    return f"{gap_changes(found)}; general questions: {', '.join(general)}" if general else gap_changes(found)


def gap_changes(found: Evaluation) -> str:
    """What changed on gap questions."""
    gap = found.gap
    if gap is None:
        return "no gap question could be compared"
    return (
        f"closed {gap.closed} of the {gap.questions - gap.base_right} gap questions on which the base model is graded "
        f"wrong, {gap.regressed} regressed (p {p_value_words(gap.p_value)})"
    )


def cautions(found: Evaluation, show: Show = str) -> list[str]:
    """What a reader has to know before the numbers."""
    grading, words = found.grading, []
    rules = grading.grader == REFERENCE_RULES
    for name, agreement in grading.refused.items():
        words.append(
            f"Refused as a grader: {show(name)}, which reaches {kappa(agreement)} on the labelled answers, where at "
            f"least {MIN_KAPPA} is asked. Graded instead by {show(grading.grader)}"
            f"{', a check of short answers' if rules else ''}."
        )
    if grading.agreement.kappa < MIN_KAPPA:
        words.append(
            f"Every verdict is weak evidence: {show(grading.grader)} reach only {kappa(grading.agreement)} on the "
            f"labelled answers; below {MIN_KAPPA} a judge would be refused."
        )
    if grading.unread:
        words.append(
            f"Answers to questions in these languages are not graded, because the reference rules do not read them: "
            f"{show(', '.join(grading.unread))}."
        )
    if found.audit.identical:
        words.append(
            "Base and adapted model have identical weights: nothing was trained, or the same model was named twice."
        )
    if found.differences:
        words.append(
            f"Beside their weights the models differ in {show(', '.join(found.differences))}: what changed may come "
            "from that as well."
        )
    return words


def kappa(agreement: Agreement) -> str:
    """Cohen's kappa with its interval."""
    return f"kappa {agreement.kappa:.2f} (95 % interval {agreement.kappa_low:.2f} to {agreement.kappa_high:.2f})"


def graded_by(grading: Grading, show: Show = str) -> str:
    """Who graded, and how far it agrees with people's labels."""
    agreement = grading.agreement
    languages = ", ".join(f"{name} {100 * share:.0f} %" for name, share in agreement.languages.items())
    kind = ", a check of short answers" if grading.grader == REFERENCE_RULES else ""
    without = f" and {agreement.ungraded} left without a verdict" if agreement.ungraded else ""
    adapted = f" Adapted to the endpoint: {'; '.join(map(show, grading.adaptations))}." if grading.adaptations else ""
    return (
        f"Graded by {show(grading.grader)}{kind}. Tried on {agreement.answers} labelled answers that come with the "
        f"project: {100 * agreement.accuracy:.0f} % graded as labelled, {kappa(agreement)}; {agreement.falsely_right} "
        f"falsely graded right, {agreement.falsely_wrong} falsely wrong{without}; by language: {languages or 'none'}. "
        f"On this evaluation's answers it may err more or less often.{adapted}"
    )


def counted(kind: str, answers: Sequence[QuestionResult | ChoiceResult]) -> str:
    """How many of these questions count in the comparisons, and why the others do not."""
    trained = sum(one.in_training for one in answers)
    counting = sum(one.counts for one in answers)
    reasons = {
        "found in the training data": trained,
        "with an answer that was not graded": len(answers) - counting - trained,
    }
    left_out = [f"{count} {why}" for why, count in reasons.items() if count]
    why = f"; left out: {', '.join(left_out)}" if left_out else ""
    return f"{counting} of {len(answers)} {kind} count{why}."


def rewound(found: Rewind) -> str:
    """How much of the training's change was kept, and why."""
    if found.share == 1:
        return (
            f"The whole change did not pass, and none of the {found.shares} smaller shares of it that were tried did: "
            "all that is said here is of the whole change."
        )
    tried = f"{found.shares} shares" if found.shares > 1 else "one share"
    return (
        f"The whole change of the training did not pass. This model holds {100 * found.share:g} % of it, the largest "
        f"share that did, of {tried} to try. Each had to pass by itself with its part of the gate's chance to err; the "
        "numbers of the one that was taken may look a little better than they would on other questions."
    )


def earlier(found: Evaluation) -> str:
    """What became of the answers of earlier runs; empty where there were none."""
    compared, asked = found.earlier, found.earlier_answers
    if not asked:
        return ""
    if compared is None:
        return f"None of the {len(asked)} gap questions of earlier runs counts: their answers were not graded."
    return (
        f"Of the {compared.questions} gap questions of earlier runs that count, {compared.base_right} were answered "
        f"right then and {compared.adapted_right} are now; {compared.regressed} regressed, {compared.closed} closed. "
        "The answers of then were graded again with those of now."
    )


def style(found: Evaluation) -> str:
    """What of the closed gap questions is only style; empty when nothing was closed."""
    closed, only = found.style.closed_as_asked, found.style.closed_by_style
    if not closed:
        return ""
    brief = f"{only} of them are" if only > 1 else "one of them is" if only else "none of them is"
    return (
        f"{closed} gap questions closed, if the base model is only asked as the adapted one is. When it is asked to "
        f"answer in at most ten words, {brief} graded right{': that gain is one of style' if only else ''}. For each "
        f"question its better answer counts, so that {closed - only} closed."
    )


def power(compared: Comparison) -> str:
    """What so many questions can show."""
    count = f"{compared.questions} questions are" if compared.questions > 1 else "One question is"
    if compared.detectable is None:
        return f"{count} too few for any statistical conclusion: p would be above 0.05 even if every answer improved."
    return (
        f"{f'{count} few: ' if compared.few else f'On {compared.questions} gap questions '}a true gain of "
        f"{compared.detectable:.0f} points or more comes out as significant with at least 80 % probability if "
        "nothing regresses; otherwise it has to be larger."
    )


def held_out(held: HeldOut) -> str:
    """What the held-out rows show."""
    change = 100 * (held.adapted_perplexity / held.base_perplexity - 1)
    likelier = "likelier" if change < 0 else "less likely"
    return (
        f"Perplexity on {held.answers} held-out answers, which were not trained on: {held.base_perplexity:.2f} → "
        f"{held.adapted_perplexity:.2f} ({change:+.1f} %): the adapted model finds them {likelier}, in what they say "
        "or in how they say it. They come from the same data as the rows that were trained on."
    )


def audit(found: Audit, show: Show = str) -> str:
    """Where the change of the weights lies."""
    measured = f"measured by unfreeze_rank_ratio {found.unfreeze_rank_ratio:g}"
    if not found.word:
        return f"No matrix was protected, {measured}: all directions of all matrices were free to change."
    if found.identical:
        return "Base and adapted model have identical weights: there is no change to audit."
    worst = next((one for one in found.matrices if one.name == found.worst), None)
    most = (
        f" Most beyond rounding: {show(worst.name)}, {100 * worst.protected_change_ratio:.4f} % (rounding "
        f"{100 * worst.rounding_ratio:.4f} %)."
        if worst
        else ""
    )
    says = (
        f"The guarantee to change nothing in protected directions is {found.word}"
        if found.promised
        else f"The method gives no guarantee against this model; by OSFT's measure it is {found.word}"
    )
    return (
        f"{says}, {measured}: {100 * found.protected_change_ratio:.4f} % of the norm of the "
        "protected matrices' change lies in the directions that it keeps unchanged; rounding the saved weights alone "
        f"would account for about {100 * found.rounding_ratio:.4f} %.{most} {100 * found.unprotected_share:.1f} % of "
        "the whole change (of its square) lies in tensors that it does not protect, as embeddings and norms."
    )


def contamination(found: Evaluation) -> str:
    """What was found of the questions in the training data."""
    if not found.trained_rows:
        return "No training data was given: whether questions stand in it is not known."
    asked = {one.question for one in found.gap_answers}
    gap = sum(match.question in asked for match in found.contamination)
    return (
        f"Of the gap questions {gap} and of the general ones {len(found.contamination) - gap} were found in the "
        f"{found.trained_rows} rows of training data, verbatim or nearly; one that a row asks in quite other words "
        "this search does not find."
    )


def date(text: str) -> str:
    """Of ISO 8601, for reading."""
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
