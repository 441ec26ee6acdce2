"""Seconds and memory of ingest_sdg and format_chat on a million rows, beside a plain pandas script that does the same.

python -m benchmarks.ingest WORK_FOLDER [ROWS]

Each runs in a process of its own, twice, and the run with less processor time counts: other work on the machine
disturbs that less than the clock (`load` is the mean of processes that wanted a core). Memory is the peak of the
resident set. The pandas script does not look for near duplicates. BOILERPLATE_ROWS rows with one common passage are the
worst case for near duplicates; what a million of them would take is extrapolated from these.
"""

import csv
import json
import os
import platform
import random
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"  # benchmarks.common imports torch, whose memory children would inherit
SYSTEM_PROMPT = "You are an expert on our documents. Answer precisely and briefly."
BOILERPLATE_ROWS = 20_000
SHARES = {"unfaithful": 0.08, "duplicate": 0.05, "near duplicate": 0.05, "conflict": 0.02, "empty": 0.005}
HEADER = ("document", "domain", "question", "response", "faithfulness_explanation", "faithfulness_judgment")
OURS = """
import sys
from pathlib import Path
from components.format_chat.core import format_chat
from components.ingest_sdg.core import ingest_sdg
data, questions, output, near, held_out = sys.argv[1:]
out = Path(output)
ingest_sdg(data=data, questions=questions, retention_questions="", output=out / "records", review=out / "review.html",
           options={"near_duplicates": float(near), "held_out_share": float(held_out)})
format_chat(records=out / "records", system_prompt=SYSTEM_PROMPT, output=out / "dataset")
"""
PANDAS = """
import hashlib, json, sys, unicodedata
from pathlib import Path
import pandas as pd
data, questions, output, *_ = sys.argv[1:]
table = pd.read_csv(data, dtype=str, keep_default_na=False, usecols=["question", "response", "faithfulness_judgment"])
for name in ("question", "response"):
    table[name] = table[name].str.replace("\\r\\n", "\\n").str.normalize("NFC").str.strip()
out = Path(output)
out.mkdir()
table["reason"] = ""
judged = table["faithfulness_judgment"].str.strip().str.upper() == "YES"
table.loc[~judged, "reason"] = "judged unfaithful"
table.loc[(table["reason"] == "") & (table["question"] == ""), "reason"] = "empty question"
table.loc[(table["reason"] == "") & (table["response"] == ""), "reason"] = "empty response"
for name in ("question", "response"):
    table["same_" + name] = table[name].str.casefold().str.split().str.join(" ")
gap = pd.read_csv(questions, dtype=str)["question"].str.casefold().str.split().str.join(" ")
table.loc[(table["reason"] == "") & table["same_question"].isin(gap), "reason"] = "gap question"
left = table[table["reason"] == ""]
twice = left.duplicated(["same_question", "same_response"])
table.loc[left.index[twice], "reason"] = "duplicate"
left = left[~twice]
table.loc[left.index[left.duplicated("same_question", keep=False)], "reason"] = "conflict"
kept = table[table["reason"] == ""]
table[table["reason"] != ""].to_json(out / "dropped.jsonl", orient="records", lines=True, force_ascii=False)
digests = []
with (out / "train.jsonl").open("w", encoding="utf-8") as file:
    for question, response in zip(kept["question"], kept["response"]):
        said = zip(("system", "user", "assistant"), (SYSTEM_PROMPT, question, response))
        messages = [{"role": role, "content": content} for role, content in said]
        line = json.dumps({"messages": messages}, ensure_ascii=False)
        digests.append(hashlib.sha256(line.encode()).digest())
        file.write(line + "\\n")
print(hashlib.sha256(b"".join(sorted(digests))).hexdigest())
print(table["reason"].value_counts().to_dict())
"""


def write_data(folder: Path, rows: int, seed: int = 0) -> tuple[Path, Path]:
    """SDG output of realistic lengths with what a run leaves in it, and gap questions; gives their paths."""
    choice = random.Random(seed)  # noqa: S311 - data
    letters = "eeeeaaaiiooutnrslhdcmpgbfvkwyzxqj"
    words = ["".join(choice.choices(letters, k=choice.randint(2, 10))) for _ in range(20_000)]

    def text(least: int, most: int) -> str:
        return " ".join(choice.choices(words, k=choice.randint(least, most)))

    documents = [text(15, 30) for _ in range(200)]
    data, questions = folder / "data.csv", folder / "questions.csv"
    recent: list[tuple[str, str]] = []
    kinds, shares = list(SHARES), list(SHARES.values())
    with data.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number in range(rows):
            kind = choice.choices([*kinds, "new"], [*shares, 1 - sum(shares)])[0]
            question = f"{text(7, 16).capitalize()} {number % 9973}?"
            response = f"{text(10, 40).capitalize()}.\n{text(5, 30)}."
            judgment = "NO" if kind == "unfaithful" else "YES"
            if kind == "empty":
                response = "  "
            elif recent and kind in ("duplicate", "near duplicate", "conflict"):
                old = choice.choice(recent)
                question = old[0]
                if kind != "conflict":
                    response = old[1] + (" " if kind == "duplicate" else " so")
            recent = [*recent[-500:], (question, response)] if number % 50 == 0 else recent
            writer.writerow((documents[number % 200], "kites", question, response, text(5, 12), judgment))
    with questions.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "reference"), *((f"{text(7, 12)}?", text(2, 4)) for _ in range(100))])
    return data, questions


def write_boilerplate(folder: Path, rows: int, seed: int = 0) -> Path:
    """SDG output whose answers share 100 words and differ in five."""
    choice = random.Random(seed)  # noqa: S311 - data
    words = ["".join(choice.choices("abcdefghijklmnop", k=choice.randint(3, 9))) for _ in range(3000)]
    passage = " ".join(choice.choices(words, k=100))
    data = folder / "boilerplate.csv"
    with data.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("question", "response", "faithfulness_judgment"))
        for _ in range(rows):
            response = f"Under the rules, {passage}: {' '.join(choice.choices(words, k=5))}."
            writer.writerow((f"What about {' '.join(choice.choices(words, k=2))}?", response, "YES"))
    return data


def measure(name: str, program: str, *arguments: str) -> dict[str, Any]:
    """Run a program in a process of its own: seconds from its start to its end, and its memory."""
    source = f"SYSTEM_PROMPT = {SYSTEM_PROMPT!r}\n{program}"
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", source, *arguments])  # noqa: S606 - our own programs
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - started
    assert status == 0, name
    found = {
        "seconds": seconds,
        "peak_memory_gib": usage.ru_maxrss / 2**20,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
    }
    found["load"] = os.getloadavg()[0]
    print(name, json.dumps(found), flush=True)
    return found


def main() -> None:
    work = Path(sys.argv[1])
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    work.mkdir(parents=True)
    found: dict[str, Any] = {"rows": rows}
    for name, count in (("small", 8), ("large", rows)):
        folder = work / name
        folder.mkdir()
        data, questions = write_data(folder, count)
        found[name] = {"rows": count, "mb": data.stat().st_size / 1e6}
        for repeat in range(2):
            for program, source, near, held_out in (
                ("ours", OURS, "1", "0"),
                ("ours_with_near_duplicates", OURS, "0.95", "0"),
                ("ours_with_hold_out", OURS, "0.95", "0.1"),
                ("pandas", PANDAS, "", ""),
            ):
                out = folder / f"{program}-{repeat}"
                one = measure(f"{name} {program}", source, str(data), str(questions), str(out), near, held_out)
                best = found[name].setdefault(program, one)
                found[name][program] = min(best, one, key=lambda run: run["processor_seconds"])
                report = out / "records" / "report.json"
                if report.exists():
                    written = json.loads(report.read_text(encoding="utf-8"))
                    found[name][program] |= {key: written[key] for key in ("rows_read", "kept", "dropped")}
                subprocess.run(["rm", "-r", str(out)], check=True)  # noqa: S603, S607
    boilerplate = write_boilerplate(work, BOILERPLATE_ROWS)
    runs = [
        measure("boilerplate", OURS, str(boilerplate), str(questions), str(work / f"boilerplate-{repeat}"), "0.95", "0")
        for repeat in range(2)
    ]
    fastest = min(runs, key=lambda run: run["processor_seconds"])
    found["boilerplate"] = {"rows": BOILERPLATE_ROWS, **fastest}
    found["boilerplate"]["processor_seconds_a_million"] = fastest["processor_seconds"] * 1_000_000 / BOILERPLATE_ROWS
    origin = {
        "command": "python -m benchmarks.ingest WORK_FOLDER",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("numpy", "pandas", "pyarrow", "rensa", "xxhash")},
    }
    path = RESULTS / "ingest.json"
    path.write_text(json.dumps({"origin": origin, **found}, indent=2) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
