"""Questions of MMLU: those that lm-evaluation-harness shows models as examples, five for each of 57 subjects.

They lie in its wheel (MIT), one file a subject, so nothing is fetched:

    dataset_name: astronomy
    fewshot_config:
      samples:
      - question: "You are pushing a truck along a road. ... (A) the same (B) more (C) less (D) none"
        target: "Let's think step by step. ... The answer is (A)."
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from components.shared.problems import problem

NAME = "mmlu"
FOLDER = Path("tasks", NAME, "flan_cot_fewshot")
LETTER = re.compile(r"\s*\(([A-J])\)\s*")
ANSWER = re.compile(r"answer is \(?([A-J])\b")


def read() -> list[dict[str, Any]]:
    """Each as `read_retention_questions` gives them; a question that two subjects share is one.

    Raises:
        Problems: when the harness is not installed, or does not have them.
    """
    found = find_spec("lm_eval")
    folders = found.submodule_search_locations if found and found.submodule_search_locations else []
    files = sorted(file for folder in folders for file in Path(folder, FOLDER).glob("mmlu_*.yaml"))
    if not files:
        raise problem(
            "MMLU's questions are not installed",
            where="parameter retention_questions",
            rule="they come with lm-evaluation-harness, the extra `harness`, which no image has",
            remedy="leave retention_questions empty, or: pip install '.[harness]' (for a cluster: docs/images.md)",
        )
    questions: dict[str, dict[str, Any]] = {}
    for file in files:
        task = yaml.safe_load(file.read_text(encoding="utf-8"))
        for sample in task["fewshot_config"]["samples"]:
            question, *choices = LETTER.split(sample["question"].strip())
            letters, texts = choices[::2], choices[1::2]
            right = texts[letters.index(ANSWER.findall(sample["target"])[-1])]
            questions.setdefault(question, {
                "question": question,
                "reference": right,
                "choices": list(dict.fromkeys([right, *texts])),
                "subject": task["dataset_name"].replace("_", " "),
            })  # fmt: skip
    return list(questions.values())
