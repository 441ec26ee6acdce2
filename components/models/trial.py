"""A model is tried before its weights are fetched, and again before a GPU is asked for.

Configuration, tokenizer and chat template are loaded as transformers loads them, and a conversation is rendered, by
`trial_process` in a process of its own: a template is a stranger's program, and a tokenizer's file goes to a library
that believes it. Whatever that process does, its end is known: a report, an error, too long, too much memory.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.data import chat
from components.shared import progress
from components.shared.problems import Problem, Problems, problem

CPU_SECONDS = 20  # a tokenizer of 256,000 tokens takes three
TEMPLATE_SECONDS = 5  # a conversation takes milliseconds
WALL_SECONDS = 120.0  # on a machine with other things to do, its libraries on a network volume
MEMORY_BYTES = 1 << 31  # beside the pod's own gigabytes
# What the process needs of the environment: no tokens, no keys.
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
OWN_VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "critical",
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
RULE = (
    f"a model's files are read within {CPU_SECONDS} s of computing, a conversation is rendered within "
    f"{TEMPLATE_SECONDS} s, both within {MEMORY_BYTES >> 30} GiB of memory"
)
REMEDY = "correct the file in a copy of the model, and name that folder; or take another model"
QUESTION, ANSWER = "Which colour is the sky?", "The sky is blue."


def conversation(system_prompt: str) -> list[chat.Message]:
    """What a model to be trained is tried with."""
    return list(chat.training_row(system_prompt.strip(), QUESTION, ANSWER)["messages"])


def try_model(folder: Path, where: str, messages: Sequence[chat.Message]) -> list[str]:
    """Load a model's small files and render a conversation.

    Args:
        folder: with the small files, which `check_model_files` accepts.
        where: the model comes from, for errors.
        messages: with an answer at their end, the model can be trained on such rows; without, it can be asked so.

    Returns:
        Remarks: what is mended on the way.

    Raises:
        Problems: naming the file, for whatever goes wrong.
    """
    progress.log("trying configuration, tokenizer and chat template")
    request = {"folder": str(folder), "where": where, "messages": list(messages)}
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | OWN_VARIABLES
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "components.models.trial_process"],
            input=json.dumps(request).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=WALL_SECONDS,
            check=False,
        )
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        code, output = -signal.SIGXCPU, error.stdout or b""
    lines = [json.loads(line) for line in output.splitlines() if line.endswith(b"}")]
    report: dict[str, Any] = lines[-1] if lines else {"at": "the model's files"}
    if "remarks" not in report:
        fault = "takes too long" if code == -signal.SIGXCPU else "takes too much memory, or breaks its library"
        raise problem(f"{report['at']} {fault}", where=f"{where}/{report['at']}", rule=RULE, remedy=REMEDY)
    if report["problems"]:
        raise Problems(Problem(**one) for one in report["problems"])
    return list(report["remarks"])
