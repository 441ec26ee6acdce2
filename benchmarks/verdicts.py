"""How often do verdicts against the references agree with hand-made labels? No GPU, no model.

labelled_answers.csv: language,question,reference,answer,kind,right, with about five answers to a question:

    en,What colour are ... ?,crimson,It isn't crimson but blue.,negated,no

The rules of components.grading.reference_rules were tuned on the half "tuned"; of the other, "held_out", sums were
looked at, and a few verdicts that a change had turned, without the answers. A question's answers are all in one half.
"key_terms_alone" is the baseline: an answer is right when it contains all key terms of an alternative, words and
numbers in the form in which the rules compare them.

python -m benchmarks.verdicts
"""

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.grading.languages import READ, language_of, words_of
from components.grading.quantities import plain
from components.grading.reference_rules import is_right, key_terms
from components.grading.statements import clause_of

HALVES = ("tuned", "held_out")
LABELLED = Path(__file__).parent / "labelled_answers.csv"
Rule = Callable[[str, str, str], bool]


def main() -> None:
    from benchmarks import common  # imports torch, which the tests of the agreement do without

    rows = labelled()
    parts = {"all": rows} | {half: [row for row in rows if half_of(row["question"]) == half] for half in HALVES}
    for language in READ:
        parts |= {f"{half}, {language}": [row for row in parts[half] if row["language"] == language] for half in HALVES}
    rules: dict[str, Rule] = {"verdicts": is_right, "key_terms_alone": holds_key_terms}
    result = {rule: {part: agreement(decide, parts[part]) for part in parts} for rule, decide in rules.items()}
    common.write_result("verdicts", result, arguments="")


def labelled() -> list[dict[str, str]]:
    with LABELLED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def half_of(question: str) -> str:
    """The half that a question belongs to, by its SHA-256."""
    return HALVES[int(hashlib.sha256(question.encode()).hexdigest(), 16) % 2]


def holds_key_terms(question: str, reference: str, answer: str) -> bool:
    """The baseline: all key terms of an alternative are somewhere in the answer."""
    found = set(clause_of(plain(answer), words_of(language_of([question]))).forms)
    return any(terms <= found for terms in key_terms(question, reference))


def agreement(rule: Rule, rows: list[dict[str, str]]) -> dict[str, Any]:
    """How a rule agrees with the labels: accuracy, Cohen's kappa, false verdicts, and right ones by kind and label."""
    pairs = [(rule(row["question"], row["reference"], row["answer"]), row["right"] == "yes") for row in rows]
    accuracy = sum(verdict == label for verdict, label in pairs) / len(pairs)
    said_right, is_labelled_right = (sum(pair[place] for pair in pairs) / len(pairs) for place in (0, 1))
    by_chance = said_right * is_labelled_right + (1 - said_right) * (1 - is_labelled_right)
    kinds: dict[str, dict[str, int]] = {}
    for row, (verdict, label) in zip(rows, pairs, strict=True):
        counts = kinds.setdefault(f"{row['kind']}: {'right' if label else 'wrong'}", {"answers": 0, "agreed": 0})
        counts["answers"] += 1
        counts["agreed"] += verdict == label
    return {
        "answers": len(pairs),
        "accuracy": accuracy,
        "kappa": (accuracy - by_chance) / (1 - by_chance),
        "false_right": sum(verdict and not label for verdict, label in pairs),
        "false_wrong": sum(label and not verdict for verdict, label in pairs),
        "kinds": dict(sorted(kinds.items())),
    }


if __name__ == "__main__":
    main()
