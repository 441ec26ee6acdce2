"""Do a model's tokens say the words of the data? Control tokens in them, letters without a token, unknown tokens."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import normalize

from components.data import chat
from components.data.samples import control_tokens
from components.run.training_options import DROP, TrainingOptions
from components.shared.options import set_option
from components.shared.problems import Checks, list_some, quote
from components.shared.storage import iter_jsonl

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLES = {"train.jsonl": "row", "held_out.jsonl": "held-out row"}
QUESTIONS = {"gap_questions.jsonl": "gap question", "retention_questions.jsonl": "general question"}
MAX_NAMED = 5


class Words:
    """What was found in the words of a dataset, and where."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", vocabulary: int) -> None:
        """
        Args:
            vocabulary: how many tokens the model has.
        """
        self.tokenizer, self.vocabulary = tokenizer, vocabulary
        self.control: dict[str, list[str]] = {}
        """Places by control token."""
        self.beyond: dict[int, list[str]] = {}
        """Places by token that the model does not have."""
        self.unsaid: dict[str, Counter[str]] = {}
        """By place, how often letters stand there that have no token."""
        self.rows_with_control = 0
        """Of those that are trained on."""

    def read(self, dataset: Path) -> None:
        """Read everything that is trained on or asked."""
        self._read("the system prompt", [(dataset / "system_prompt.txt").read_text(encoding="utf-8")])
        for file, kind in SAMPLES.items():
            for number, row in enumerate(iter_jsonl(dataset / file), 1):
                texts = [message["content"] for message in chat.check_row(row) if message["role"] != "system"]
                has_control = self._read(f"{kind} {number}", texts)
                self.rows_with_control += has_control and file == "train.jsonl"
        for file, kind in QUESTIONS.items():
            for number, row in enumerate(iter_jsonl(dataset / file), 1):
                self._read(f"{kind} {number}", [row["question"], *row.get("choices", ())])

    def _read(self, place: str, texts: list[str]) -> bool:
        messages = [{"role": "user", "content": text} for text in texts if text.strip()]
        found = control_tokens(messages, self.tokenizer)
        for token in found:
            self.control.setdefault(token, []).append(place)
        for message in messages:
            text = message["content"]
            tokens = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            for token in {token for token in tokens if token >= self.vocabulary}:
                self.beyond.setdefault(token, []).append(place)
            said = normalize("NFKC", str(self.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)))
            if unsaid := [letter for letter in normalize("NFKC", text) if letter not in said and not letter.isspace()]:
                self.unsaid.setdefault(place, Counter()).update(unsaid)
        return bool(found)

    def check(self, options: TrainingOptions, gpus: int, checks: Checks) -> None:
        """Add what cannot be trained on."""
        for token, places in self.beyond.items():
            name = quote(self.tokenizer.convert_ids_to_tokens(token))
            checks.add(
                f"the model has no token {token}, {name}, which {_places(places)} would need",
                where="the model's tokenizer, and the dataset",
                rule=f"vocab_size in the model's config.json is {self.vocabulary}: tokens are numbers below it",
                remedy="take these words out of the data, or a model whose embedding fits its tokenizer",
            )
        named = list_some(map(quote, self.control), MAX_NAMED)
        if gpus > 1 and (self.rows_with_control or options.control_tokens == DROP):
            checks.add(
                f"{self.rows_with_control} rows hold control tokens of the model: {named}",
                where="the dataset's train.jsonl",
                rule="with several GPUs mini-trainer trains, which takes words of the data for the control tokens",
                remedy='set gpu.count = "1" in the cluster file, or take these rows out of the data',
            )

    def remarks(self, options: TrainingOptions) -> list[str]:
        """What is worth knowing."""
        lines = []
        if self.control:
            named = list_some(
                (f"{quote(token)} ({_places(places)})" for token, places in self.control.items()), MAX_NAMED
            )
            done = (
                f"{self.rows_with_control} rows with them are not trained on"
                if options.control_tokens == DROP
                else "they are trained on and asked as plain text; to leave such rows out, add "
                + set_option(TrainingOptions, "control_tokens", DROP)
            )
            lines.append(f"words of the data are control tokens of the model: {named}; {done}")
        if self.unsaid:
            letters: Counter[str] = sum(self.unsaid.values(), Counter())
            named = list_some((f"{quote(letter)} {count} times" for letter, count in letters.most_common()), MAX_NAMED)
            lines.append(
                f"the model's tokenizer has no token for {len(letters)} letters of the data, which it cannot learn: "
                f"{named}; in {_places(list(self.unsaid))}"
            )
        return lines


def _places(places: list[str]) -> str:
    return list_some(dict.fromkeys(places), MAX_NAMED)
