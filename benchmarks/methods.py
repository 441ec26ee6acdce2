"""OSFT, LoRA, protected LoRA and plain fine-tuning of one real model on the demonstration's rows, with seeds.

python -m benchmarks.methods prepare INPUTS               the rows and questions, by the product's own steps
python -m benchmarks.methods tune MODEL INPUTS WORK       three learning rates each, asked the tuning questions
python -m benchmarks.methods report MODEL INPUTS WORK     the chosen rate, three seeds, asked the reported questions
python -m benchmarks.methods collect WORK NAME            benchmarks/results/NAME.json

The learning rate of a setting is chosen on questions that are not reported: tuning_questions.csv of the demonstration
and a third of the general questions. Chosen is the rate with the highest mean of the two shares of right answers; of
equal ones the lowest. An audit tells what of the change lies in the directions that OSFT protects at 0.25.
"""

import argparse
import csv
import hashlib
import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks import common, trainings
from benchmarks.trainings import Job, Questions
from components.data import questions
from components.evaluate import audit
from components.format_chat.core import format_chat
from components.ingest_sdg.core import ingest_sdg
from components.run.training_options import TrainingOptions
from components.shared.storage import read_json, write_json
from components.training.rewind import move_between

DATA = Path(__file__).parent.parent / "examples" / "kite-guild"
RATIO = 0.25
COMMON = {"num_epochs": 5, "effective_batch_size": 4, "max_seq_len": 1024, "max_tokens_per_gpu": 2048}
FREE, FROZEN, LORA, PLAIN = [2e-5, 5e-5, 1e-4], [5e-5, 1e-4, 2e-4], [1e-4, 2e-4, 4e-4], [3e-6, 1e-5, 3e-5]
MLP = ("gate_proj", "up_proj", "down_proj")
SETTINGS: dict[str, tuple[dict[str, Any], list[float]]] = {
    **{f"osft {ratio}": ({"unfreeze_rank_ratio": ratio}, FREE) for ratio in (0.1, 0.25, 0.5)},
    **{
        f"osft {ratio}, rest frozen": ({"unfreeze_rank_ratio": ratio, "train_unfactored": False}, FROZEN)
        for ratio in (0.1, 0.25, 0.5)
    },
    "lora r16, all-linear": ({"method": "lora_sft", "lora_r": 16}, LORA),
    "lora r10, MLP": ({"method": "lora_sft", "lora_r": 10, "target_modules": MLP}, LORA),
    "protected lora r16": ({"method": "lora_sft", "lora_r": 16, "lora_protect": True}, LORA),
    "sft": ({"method": "sft"}, PLAIN),
}
REWOUND = {"osft 0.25", "osft 0.25, rest frozen", "lora r16, all-linear", "sft"}
SHARES = (0.75, 0.5)  # of the way from the base model
TUNING_SEED, SEEDS = 0, (1, 2, 3)
BRIEFLY = "Answer in at most ten words."


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["prepare", "tune", "report", "collect"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    given = parser.parse_args()
    if given.what == "prepare":
        prepare(Path(given.paths[0]))
    elif given.what == "collect":
        collect(Path(given.paths[0]), given.paths[1])
    else:
        model, inputs, work = map(Path, given.paths)
        shared = {"model": str(model), "inputs": str(inputs)}
        if given.what == "tune":
            jobs = [
                shared | {"asked": "tuning", "setting": name, "learning_rate": rate, "seed": TUNING_SEED}
                for name in given.settings
                for rate in SETTINGS[name][1]
            ]
        else:
            chosen = choose_rates(trainings.results(work))
            jobs = [
                shared | {"asked": "reported", "setting": name, "learning_rate": chosen[name], "seed": seed}
                for seed in SEEDS
                for name in given.settings
                if name in chosen
            ]
        base = [shared | {"asked": jobs[0]["asked"], "setting": "base"}]
        trainings.run_jobs(base + jobs, do, work, given.workers)


def prepare(folder: Path) -> None:
    """The demonstration's rows as they are trained on, and the questions."""
    work = folder / "work"
    ingest_sdg(
        data=str(DATA / "sdg_output.csv"), questions=str(DATA / "gap_questions.csv"), retention_questions="",
        output=work / "records", review=work / "review.html", options={},
    )  # fmt: skip
    prompt = (DATA / "system_prompt.txt").read_text(encoding="utf-8").strip()
    report = format_chat(records=work / "records", system_prompt=prompt, output=work / "dataset")
    shutil.copyfile(work / "dataset" / "train.jsonl", folder / "train.jsonl")
    general = questions.read_retention_questions("")
    tuning = [entry for entry in general if for_tuning(entry)]
    asked = {
        "tuning": {"gap": questions.read_gap_questions(str(DATA / "tuning_questions.csv")), "general": tuning},
        "reported": {
            "gap": questions.read_gap_questions(str(DATA / "gap_questions.csv")),
            "general": [entry for entry in general if entry not in tuning],
        },
    }
    write_json(folder / "inputs.json", {"system_prompt": prompt, "data_digest": report.data_digest, **asked})
    shutil.rmtree(work)


def for_tuning(entry: dict[str, Any]) -> bool:
    """A third of the general questions, by their words."""
    return hashlib.sha256(entry["question"].encode()).digest()[0] % 3 == 0


def do(job: Job, folder: Path) -> dict[str, Any]:
    """Train and ask; the base model is only asked."""
    base, inputs = Path(job["model"]), Path(job["inputs"])
    given = read_json(inputs / "inputs.json")
    prompt, asked = given["system_prompt"], given[job["asked"]]
    if job["setting"] == "base":
        with trainings.asked(base, prompt) as one:
            brief = {"gap_brief": one.right(asked["gap"], BRIEFLY)}
            return verdicts(one, asked) | brief | {"data_digest": given["data_digest"]} | texts(asked)
    values = COMMON | SETTINGS[job["setting"]][0]
    options = TrainingOptions(**values, learning_rate=job["learning_rate"], seed=job["seed"])
    adapted, training = trainings.train(base, inputs / "train.jsonl", options, folder)
    found: dict[str, Any] = {"training": training}
    with trainings.asked(adapted, prompt) as one:
        found |= verdicts(one, asked)
        if job["asked"] == "reported" and job["setting"] in REWOUND:
            found["rewound"] = {}
            for share in SHARES:
                move_between(one.model, base, adapted, share, options.seed)
                found["rewound"][str(share)] = verdicts(one, asked)
    if job["asked"] == "reported":
        ratio = values.get("unfreeze_rank_ratio", RATIO)
        found["audit"] = audited(base, adapted, ratio)
    return found


def texts(asked: dict[str, Questions]) -> dict[str, Any]:
    """What the verdicts stand for, in their order."""
    return {
        "questions": {
            "gap": [entry["question"] for entry in asked["gap"]],
            "general": [[entry["subject"], bool(entry["choices"]), entry["question"]] for entry in asked["general"]],
        }
    }


def verdicts(one: trainings.Asked, asked: dict[str, Questions]) -> dict[str, Any]:
    """What a model gets right, and how well it finds ordinary text."""
    return {
        "gap": one.right(asked["gap"]),
        "general": one.right(asked["general"]),
        "perplexity": one.perplexity(),
    }


def audited(base: Path, adapted: Path, ratio: float) -> dict[str, Any]:
    """Where the change of the weights lies."""
    found = audit.audit(base, adapted, ratio, audit.default_patterns(base))
    return {
        "word": found.word,
        "unfreeze_rank_ratio": ratio,
        "protected_change_ratio": found.protected_change_ratio,
        "rounding_ratio": found.rounding_ratio,
        "unprotected_share": found.unprotected_share,
    }


def share(right: list[bool]) -> float:
    return sum(right) / len(right)


def choose_rates(done: list[dict[str, Any]]) -> dict[str, float]:
    """The learning rate of each setting, by what it got right of the tuning questions."""
    scores: dict[str, list[tuple[float, float]]] = {}
    for found in done:
        if found["job"]["asked"] == "tuning" and found["job"]["setting"] != "base":
            score = statistics.mean([share(found["gap"]), share(found["general"])])
            scores.setdefault(found["job"]["setting"], []).append((score, -found["job"]["learning_rate"]))
    return {name: -max(tried)[1] for name, tried in scores.items()}


def collect(work: Path, name: str) -> None:
    """All results with their origin, as one file; verdicts as strings of 1 and 0."""
    done = trainings.results(work)
    chosen = choose_rates(done)
    for found in done:
        for holder in [found, *found.get("rewound", {}).values()]:
            for kind in ("gap", "gap_brief", "general"):
                if kind in holder:
                    holder[kind] = "".join("01"[right] for right in holder[kind])
        for path in ("model", "inputs"):
            found["job"][path] = Path(found["job"][path]).name
    done.sort(key=lambda found: [str(found["job"].get(key, "")) for key in ("asked", "setting", "seed")])
    with (DATA / "sdg_output.csv").open(encoding="utf-8", newline="") as file:
        rows = len(list(csv.DictReader(file)))
    settings = {name: {**COMMON, **values, "rates": rates} for name, (values, rates) in SETTINGS.items()}
    result = {
        "memory_cap_gib": trainings.MEMORY_GIB, "rows_read": rows, "settings": settings, "chosen": chosen,
        "results": done,
    }  # fmt: skip
    common.write_result(
        name, result, " ... (its first lines say how)", "methods", measured_on=read_json(work / trainings.ORIGIN)
    )


if __name__ == "__main__":
    main()
