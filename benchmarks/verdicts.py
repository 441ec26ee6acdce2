"""How often do verdicts against the references agree with hand-made labels? No GPU, no model.

labelled_answers.csv: language,question,reference,answer,kind,right, with about five answers to a question:

    en,What colour are ... ?,crimson,It isn't crimson but blue.,negated,no

The rules of components.grading.reference_rules were tuned on the half "tuned"; of the other, "held_out", sums were
looked at, and a few verdicts that a change had turned, without the answers. A question's answers are all in one half.
blind_answers.csv has the same columns: 240 answers to 80 questions, written and labelled by somebody who had not seen
the rules, in the style of chat models, in six languages. Nothing was tuned on it; Chinese and Japanese are not read.
"key_terms_alone" is the baseline: an answer is right when it contains all key terms of an alternative, words and
numbers in the form in which the rules compare them.

python -m benchmarks.verdicts
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.grading import trial
from components.grading.languages import READ, language_of, words_of
from components.grading.quantities import plain
from components.grading.reference_rules import is_right, key_terms
from components.grading.statements import clause_of
from components.grading.trial import HELD_OUT, TUNED, half_of

LABELLED = Path(__file__).parent / "labelled_answers.csv"
BLIND = Path(__file__).parent / "blind_answers.csv"
Rule = Callable[[str, str, str], bool]


def main() -> None:
    from benchmarks import common  # imports torch, which the tests of the agreement do without

    rows = labelled()
    parts = {half: [row for row in rows if half_of(row["question"]) == half] for half in (TUNED, HELD_OUT)}
    parts["blind"] = [row for row in labelled(BLIND) if row["language"] in READ]
    for name, part in list(parts.items()):
        parts |= {f"{name}, {code}": [row for row in part if row["language"] == code] for code in READ}
    parts["all"] = rows
    rules: dict[str, Rule] = {"verdicts": is_right, "key_terms_alone": holds_key_terms}
    result = {rule: {part: agreement(decide, parts[part]) for part in parts} for rule, decide in rules.items()}
    common.write_result("verdicts", result, arguments="")


def labelled(file: Path = LABELLED) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows))


def holds_key_terms(question: str, reference: str, answer: str) -> bool:
    """The baseline: all key terms of an alternative are somewhere in the answer."""
    found = set(clause_of(plain(answer), words_of(language_of([question]))).forms)
    return any(terms <= found for terms in key_terms(question, reference))


def agreement(rule: Rule, rows: list[dict[str, str]]) -> dict[str, Any]:
    """How a rule agrees with the labels: accuracy, Cohen's kappa, false verdicts, and right ones by kind and label."""
    pairs = [(rule(row["question"], row["reference"], row["answer"]), row["right"] == "yes") for row in rows]
    whole = trial.agreement(rows, [verdict for verdict, _ in pairs])
    kinds: dict[str, dict[str, int]] = {}
    for row, (verdict, label) in zip(rows, pairs, strict=True):
        counts = kinds.setdefault(f"{row['kind']}: {'right' if label else 'wrong'}", {"answers": 0, "agreed": 0})
        counts["answers"] += 1
        counts["agreed"] += verdict == label
    return {
        **{name: value for name, value in vars(whole).items() if name != "languages"},
        "kinds": dict(sorted(kinds.items())),
    }


if __name__ == "__main__":
    main()
