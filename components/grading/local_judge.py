"""Verdicts by a language model on this machine, by default the base model itself.

It reads the rubric and one case, and is asked for one word. The word is not generated: the verdict is the likelier one
of `right` and `wrong`, by their first tokens, averaged over both orders of the rubric. Nothing is sampled and no text
is parsed, so the same case has the same verdict.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from components.data.samples import IGNORED, Sample, packs, render
from components.grading.cases import Case, OnVerdict, Verdict, ignore
from components.grading.rubric import ONE_WORD, VERDICTS
from components.shared import progress
from components.shared.problems import problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_TOKENS = 4096  # per forward pass


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
        self.key = hashlib.sha256("\n".join(("local", fingerprint, *ONE_WORD)).encode()).hexdigest()
        right, wrong = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in VERDICTS)
        if right == wrong:
            raise problem(
                f"the local judge {name} cannot tell its verdicts apart: both begin with the same token",
                where=f"tokenizer of {name}",
                rule=f"{' and '.join(VERDICTS)} begin with different tokens",
                remedy="name another judge_model, or --evaluation-option grader=rules",
            )
        self.tokens = (right, wrong)

    def verdicts(self, cases: Iterable[Case], on_verdict: OnVerdict = ignore) -> dict[Case, Verdict]:
        """A verdict on each case; see components.grading.cases."""
        found: dict[Case, Verdict] = {}
        ordered = sorted(set(cases), key=dataclasses.astuple)
        # Cases of similar length after each other fill a pack well, and a pack's verdicts come together.
        ordered.sort(key=lambda case: len(case.question) + len(case.answer))
        size = 16
        groups = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        for group in progress.track(groups, len(groups), f"batches of {size} answers graded"):
            leanings = zip(*(self._leanings(rubric, group) for rubric in ONE_WORD), strict=True)
            for case, both in zip(group, leanings, strict=True):
                leaning = sum(both) / len(both)
                verdict = Verdict(leaning > 0, "") if math.isfinite(leaning) else Verdict(None, "no finite likelihood")
                found[case] = verdict
                on_verdict(case, verdict)
        return found

    @torch.inference_mode()
    def _leanings(self, rubric: str, cases: list[Case]) -> list[float]:
        """For each case, how much likelier `right` is than `wrong`: the difference of their logits."""
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
        content = json.dumps(dataclasses.asdict(case), ensure_ascii=False).encode(errors="backslashreplace").decode()
        messages = [{"role": "system", "content": rubric}, {"role": "user", "content": content}]
        text = render(messages, self.tokenizer, add_generation_prompt=True)
        prompt: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Sample([*prompt, self.tokens[0]], [*[IGNORED] * len(prompt), self.tokens[0]])
