"""Verdicts by a language model on this machine, by default the base model itself.

It reads the rubric and one case, and is asked for one word. The word is not generated: what counts is how much likelier
`right` is than `wrong`, by the first token that parts them, averaged over both orders of the rubric. Nothing is sampled
and no text is parsed, so the same case has the same verdict. A model leans to one of the words whatever it reads, so
the verdict is `right` above a threshold, which is set on labelled answers before the judge counts
(components/grading/trial.py).
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch

from components.data.chat import Message
from components.data.packs import packs
from components.data.samples import IGNORED, Sample, prompt_tokens, render
from components.grading.cases import Case, OnVerdict, Verdict, ignore
from components.grading.rubric import ONE_WORD, VERDICTS
from components.run.evaluation_options import RULES, EvaluationOptions
from components.shared import progress
from components.shared.options import set_option
from components.shared.problems import Problems, problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_TOKENS = 4096  # per forward pass
USER: Message = {"role": "user", "content": "What?"}
GROUP = 16  # cases whose verdicts come together; of similar length, so that packs are full


class LocalJudge:
    """A loaded model as a judge."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", name: str, fingerprint: str
    ) -> None:
        """
        Args:
            name: of the model, for the report.
            fingerprint: changes with the model's files.

        Raises:
            Problems: when the two verdicts begin with the same token.
        """
        self.model, self.tokenizer = model, tokenizer
        self.name = f"the local judge {name}"
        self.identity = hashlib.sha256("\n".join(("local", fingerprint, *ONE_WORD)).encode()).hexdigest()
        right, wrong = (tokenizer(word, add_special_tokens=False)["input_ids"] for word in VERDICTS)
        parted = next((place for place, pair in enumerate(zip(right, wrong, strict=False)) if pair[0] != pair[1]), None)
        if parted is None:
            raise problem(
                f"the local judge {name} cannot tell its verdicts apart: one begins with the tokens of the other",
                where=f"tokenizer of {name}",
                rule=f"{' and '.join(VERDICTS)} are different tokens",
                remedy=f"name another judge_model, or add {set_option(EvaluationOptions, 'grader', RULES)}",
            )
        self.begin: list[int] = right[:parted]  # what both begin with: a tokenizer may put a blank before words
        self.tokens = (right[parted], wrong[parted])
        self.has_system_role = self._renders([{"role": "system", "content": "Be brief."}, USER])
        self.threshold = 0.0

    def verdicts(self, cases: Iterable[Case], on_verdict: OnVerdict = ignore) -> dict[Case, Verdict]:
        """A verdict on each case; see components.grading.cases."""
        found: dict[Case, Verdict] = {}
        for case, leaning in self.leanings(cases):
            right = leaning > self.threshold if math.isfinite(leaning) else None
            found[case] = Verdict(right, "" if right is not None else "the judge's likelihood is NaN or infinite")
            on_verdict(case, found[case])
        return found

    def leanings(self, cases: Iterable[Case]) -> Iterator[tuple[Case, float]]:
        """For each case, how much likelier `right` is than `wrong`: the difference of their logits."""
        ordered = sorted(
            set(cases), key=lambda case: (len(case.question) + len(case.answer), dataclasses.astuple(case))
        )
        groups = [ordered[start : start + GROUP] for start in range(0, len(ordered), GROUP)]
        for group in progress.track(groups, len(groups), f"batches of {GROUP} answers graded"):
            both = zip(*(self._leanings(rubric, group) for rubric in ONE_WORD), strict=True)
            yield from ((case, sum(two) / len(two)) for case, two in zip(group, both, strict=True))

    @torch.inference_mode()
    def _leanings(self, rubric: str, cases: list[Case]) -> list[float]:
        samples = [self._sample(rubric, case) for case in cases]
        found: list[float] = []
        for pack in packs(samples, MAX_TOKENS, self.model.device):
            logits = self.model(
                input_ids=pack.input_ids,
                position_ids=pack.position_ids,
                logits_to_keep=pack.loss_positions,
                use_cache=False,
            ).logits[0]
            right, wrong = (logits[:, token].float() for token in self.tokens)
            found += (right - wrong).tolist()
        return found

    def _sample(self, rubric: str, case: Case) -> Sample:
        content = f"Question: {case.question}\nReference: {case.reference}\nAnswer: {case.answer}"
        messages = [{"role": "system", "content": rubric}, {"role": "user", "content": content}]
        if not self.has_system_role:
            messages = [{"role": "user", "content": f"{rubric}\n\n{content}"}]
        prompt = [*prompt_tokens(messages, self.tokenizer), *self.begin]
        return Sample([*prompt, self.tokens[0]], [*[IGNORED] * len(prompt), self.tokens[0]])

    def _renders(self, messages: list[Message]) -> bool:
        """Whether the chat template takes these roles."""
        try:
            render(messages, self.tokenizer, add_generation_prompt=True)
        except Problems:
            return False
        return True
