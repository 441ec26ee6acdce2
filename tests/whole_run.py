"""A run's steps one after the other in this process, on a few rows: what a model comes to."""

from pathlib import Path

from components.evaluate.core import evaluate
from components.format_chat.core import format_chat
from components.ingest_sdg.core import ingest_sdg
from components.plan_training.core import plan_training
from components.snapshot_model.core import snapshot_model
from components.train_osft.core import train_osft

SYSTEM_PROMPT = "Be brief."
COLOURS = ("red", "blue", "green", "white")


def write_dataset(folder: Path) -> Path:
    """What format_chat makes of four rows and two questions."""
    folder.mkdir(parents=True, exist_ok=True)
    data, gaps, general = (folder / name for name in ("data.csv", "gaps.csv", "general.csv"))
    rows = "".join(f"Who wears the {colour} sash?,The {colour} master.,YES\n" for colour in COLOURS)
    data.write_text("question,response,faithfulness_judgment\n" + rows, encoding="utf-8")
    gaps.write_text("question,reference\nWhich bird?,heron\n", encoding="utf-8")
    general.write_text(
        "question,reference,distractors,statement\nWhat flies?,heron,raven | owl | swan,It is the {}.\n",
        encoding="utf-8",
    )
    ingest_sdg(
        data=str(data),
        questions=str(gaps),
        retention_questions=str(general),
        output=folder / "records",
        review=folder / "review.html",
        options={},
    )
    format_chat(records=folder / "records", system_prompt=SYSTEM_PROMPT, output=folder / "dataset")
    return folder / "dataset"


def take(model: Path, folder: Path) -> Path:
    """The step `snapshot_model`; gives its note."""
    snapshot_model(
        model=str(model),
        revision="main",
        workspace=folder / "workspace",
        note=folder / "snapshot",
        system_prompt=SYSTEM_PROMPT,
    )
    return folder / "snapshot"


def train_and_evaluate(snapshot: Path, dataset: Path, folder: Path) -> Path:
    """The steps after it; gives the adapted model's folder."""
    paths = {"dataset": dataset, "snapshot": snapshot, "workspace": folder / "workspace"}
    plan = plan_training(
        **paths,
        options={"learning_rate": 1e-2, "num_epochs": 1, "max_seq_len": 256},
        further_options={},
        evaluation={"retention_margin": 10.0},
        further_evaluation={"max_answer_tokens": 8, "grader": "rules"},
        gpus=0,
        gpu_memory_gib=0.0,
        gpu_product="",
        publish_as="",
        registry="",
        start_from="base",
        snapshot_seconds=0.0,
        output=folder / "plan.json",
        page=folder / "plan.html",
    )
    train_osft(**paths, plan=folder / "plan.json", note=folder / "adapted")
    evaluate(
        **paths,
        plan=folder / "plan.json",
        adapted=folder / "adapted",
        page=folder / "report.html",
        summary=folder / "report.md",
    )
    return folder / "workspace" / "adapted" / plan.run_key
