"""Answers of a model in Granite-3.2-8B's exact shape, in batches against one question at a time.

    python -m benchmarks.answering TOKENIZER_FOLDER WORK_FOLDER

The weights are random, so nearly every answer is as long as it may be; what is compared is the same work.
"""

import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import common
from components.evaluate.answering import BATCH_SIZE, answer

TOKENS = 64  # of an answer
ALONE = 12  # questions asked one at a time; more would only take longer
SYSTEM_PROMPT = "You are an expert on our documents. Answer precisely and briefly."


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], padding_side="left")
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(common.config("granite-3.2-8b"), dtype=torch.bfloat16).eval()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    questions = [f"What is written on page {number} about the guild?" for number in range(BATCH_SIZE)]

    def seconds_an_answer(asked: list[list[str]]) -> float:
        torch.cuda.synchronize()
        started = time.monotonic()
        for batch in asked:
            answer(model, tokenizer, SYSTEM_PROMPT, batch, TOKENS, "benchmark")
        torch.cuda.synchronize()
        return (time.monotonic() - started) / sum(map(len, asked))

    seconds_an_answer([questions[:2]])  # warm
    alone = seconds_an_answer([[question] for question in questions[:ALONE]])
    together = seconds_an_answer([questions])
    common.write_result(
        "answering",
        {
            "shape": "granite-3.2-8b",
            "batch_size": BATCH_SIZE,
            "tokens": TOKENS,
            "questions_one_by_one": ALONE,
            "seconds_an_answer_one_by_one": alone,
            "seconds_an_answer_in_batches": together,
            "ratio": alone / together,
            "peak_memory_gib": torch.cuda.max_memory_allocated() / common.GIB,
        },
    )


if __name__ == "__main__":
    main()
