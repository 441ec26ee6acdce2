"""The step: evaluate a run's adapted model, and write the report."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from components.data import chat
from components.data.questions import read_gap_questions, read_retention_questions
from components.data.tables import clean, read_table
from components.evaluate import report
from components.evaluate.kept import state_of
from components.evaluate.pair import check_pair
from components.evaluate.pairwise import Inputs, evaluate_models
from components.models.folder import check_model_folder
from components.models.reference import find_judge, find_model
from components.models.trial import conversation, try_model
from components.run.data_options import COLUMNS
from components.run.evaluation import Summary
from components.run.evaluation_options import EvaluationOptions
from components.run.lineage import earlier_questions, start_folder
from components.run.plan import TrainingPlan
from components.run.training_options import TrainingOptions
from components.run.training_report import TrainingReport
from components.shared import progress, records
from components.shared.gpu import check_gpu
from components.shared.problems import Checks, list_some, problem, quote
from components.shared.sources import read_bytes, without_credentials
from components.shared.storage import read_jsonl
from components.shared.workspace import ANSWERS, DROPPED, GIB, REVIEW, TRAINING_REPORT, rewound_folder, run_folder

STATE_DIGITS = 12  # of a model's state in a folder's name

Row = TypeVar("Row")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What later steps and the dashboard need from an evaluation."""

    verdict: str
    good: bool
    metrics: dict[str, float]


def evaluate(
    *, dataset: Path, snapshot: Path, adapted: Path, plan: Path, workspace: Path, page: Path, summary: Path
) -> EvaluationReport:
    """Evaluate the adapted model of a run against its base, unless this very evaluation was done before.

    Args:
        dataset: the output of format_chat: questions, system prompt, training data and held-out rows.
        snapshot: the output of snapshot_model, which names the base model.
        adapted: the output of train_osft, which names the adapted model.
        plan: the output of plan_training.
        workspace: the run's workspace; the summary and the report go to the run's folder.
        page: HTML file to write: the report for the dashboard.
        summary: Markdown file to write: the report in short.

    Raises:
        Problems: as `evaluate_models`.
    """
    started = time.monotonic()
    planned = TrainingPlan.read(plan)
    base, trained = find_model(snapshot, workspace), find_model(adapted, workspace)
    output = run_folder(workspace, planned.run_key)
    if planned.evaluated:
        progress.log(f"already evaluated with the same questions and options: {output / report.PAGE}")
        shutil.copyfile(output / report.PAGE, page)
        shutil.copyfile(output / report.MARKDOWN, summary)
        return _report(Summary.read(output))
    check_gpu(planned.gpus, planned.gpu_memory_gib, planned.gpu_product, planned.model_bytes / GIB)
    rows = read_jsonl(dataset / "train.jsonl")
    alone = TrainingReport.read(trained).rewound == 1  # no share of a share
    inputs = Inputs(
        base=base,
        adapted=trained,
        start=start_folder(workspace, planned, base),
        system_prompt=(dataset / "system_prompt.txt").read_text(encoding="utf-8"),
        gap=read_jsonl(dataset / "gap_questions.jsonl"),
        retention=read_jsonl(dataset / "retention_questions.jsonl"),
        earlier=earlier_questions(workspace, planned.lineage),
        trained=report.questions_and_answers(rows),
        held_out=report.questions_and_answers(read_jsonl(dataset / "held_out.jsonl")),
        unfreeze_rank_ratio=planned.training_options.unfreeze_rank_ratio,
        target_patterns=planned.training_options.targets or None,
        promised=planned.training_options.protects,
        judge=find_judge(snapshot, workspace),
        kept=output / ANSWERS,
        rewound=trained if alone else None,
        seed=planned.training_options.seed,
    )
    evaluation = evaluate_models(inputs, planned.evaluation_options)
    written = report.write(
        evaluation,
        base=base,
        adapted=trained if evaluation.share == 1 else rewound_folder(trained, evaluation.share),
        evaluation_key=planned.evaluation_key,
        seconds=time.monotonic() - started,
        output=output,
        beside=(dataset / REVIEW, dataset / DROPPED),
        copies={"html": page, "markdown": summary},
    )
    return _report(written)


def _report(summary: Summary) -> EvaluationReport:
    """Log and record the result."""
    found = EvaluationReport(verdict=summary.verdict, good=summary.good, metrics=summary.metrics)
    progress.log(found.verdict)
    counts = {name: found.metrics[name] for name in ("closed", "regressed", "gap_questions")}
    advice = dict.fromkeys(one for condition in summary.evaluation.gate.unmet for one in condition.advice)
    records.note(verdict=found.verdict, good=found.good, **counts, **({"to_try": "; ".join(advice)} if advice else {}))
    return found


def evaluate_alone(
    *,
    base: Path,
    adapted: Path,
    questions: str,
    retention_questions: str,
    training_data: str,
    held_out: str,
    system_prompt: str | None,
    default_system_prompt: str,
    unfreeze_rank_ratio: float | None,
    question_names: Mapping[str, str],
    options: EvaluationOptions,
    output: Path,
) -> Summary:
    """Evaluate any two models outside of a run.

    Args:
        questions, retention_questions: URIs; the latter empty for the set that comes with the project.
        training_data: URI of chat JSONL or of a table with question and response; empty for none.
        held_out: the same, of rows that were not trained on.
        system_prompt: None for the one in the adapted model's training report, or else the default.
        unfreeze_rank_ratio: None for the one in the training report, or else the default.
        question_names: what the questions' columns are that have names of their own.
        output: folder for the report.

    Raises:
        Problems: for questions, data and models that cannot be used, all at once; and as `evaluate_models`.
    """
    started = time.monotonic()
    checks = Checks()

    def collect(read: Callable[..., list[Row]], *arguments: Any) -> list[Row]:
        with checks.collecting():
            return read(*arguments)
        return []

    gap = collect(read_gap_questions, questions, question_names)
    retention = collect(read_retention_questions, retention_questions, question_names)
    trained = collect(read_training_data, training_data)
    set_aside = collect(read_training_data, held_out)
    with checks.collecting():
        check_pair(base, adapted)
        _judge_folder(options)
    checks.raise_if_any()
    plan = TrainingReport.read(adapted).plan if (adapted / TRAINING_REPORT).exists() else None
    training = plan.training_options if plan else TrainingOptions()
    if system_prompt is None:
        system_prompt = plan.system_prompt if plan else default_system_prompt
    for folder in (base, adapted):
        with checks.collecting():
            try_model(folder, str(folder), conversation(system_prompt))
    checks.raise_if_any()
    rewound = output / f"{adapted.name}-{state_of(adapted)[:STATE_DIGITS]}"  # another model's is never taken for its
    inputs = Inputs(
        base=base,
        adapted=adapted,
        start=base,
        system_prompt=system_prompt,
        gap=gap,
        retention=retention,
        earlier=[],
        trained=trained,
        held_out=set_aside,
        unfreeze_rank_ratio=training.unfreeze_rank_ratio if unfreeze_rank_ratio is None else unfreeze_rank_ratio,
        target_patterns=training.targets or None,
        promised=training.protects and (plan is None or plan.starts_from in ("", base.name)),
        judge=_judge_folder(options),
        kept=output / ANSWERS,
        rewound=rewound,
        seed=training.seed,
    )
    evaluation = evaluate_models(inputs, options)
    return report.write(
        evaluation,
        base=base,
        adapted=adapted if evaluation.share == 1 else rewound_folder(rewound, evaluation.share),
        evaluation_key="",
        seconds=time.monotonic() - started,
        output=output,
    )


def _judge_folder(options: EvaluationOptions) -> Path | None:
    """The local judge's folder outside of a run; None for the base model.

    Raises:
        Problems: when it is no folder with a model.
    """
    if not options.local_judge:
        return None
    folder = Path(options.local_judge).expanduser()
    if not folder.is_dir():
        raise problem(
            f"the judge's model {quote(options.local_judge)} is no folder here",
            where="option judge_model",
            rule="outside of a run nothing is downloaded: a judge on this machine is a folder",
            remedy="name a folder, for instance a snapshot below models/ of a workspace, or add --judge-url",
        )
    check_model_folder(folder)
    return folder


def read_training_data(uri: str) -> list[tuple[str, str]]:
    """Questions and answers of chat JSONL, or of a table with the columns question and response; none without a URI.

    Raises:
        Problems: when it is neither.
    """
    if not uri:
        return []
    content = read_bytes(uri)
    if not content.lstrip().startswith(b'{"messages"'):
        needed = (COLUMNS["question"], COLUMNS["response"])
        table = read_table(uri, needed)
        if missing := [column for column in needed if column not in table.columns]:
            raise problem(
                f"the training data lacks {' and '.join(missing)}",
                where=f"{without_credentials(uri)}, header",
                rule=f"chat JSONL, or a table with {' and '.join(needed)}; found: {list_some(table.columns, 20)}",
                remedy="use the file that the model was trained on",
            )
        return [(clean(cells[needed[0]]), clean(cells[needed[1]])) for cells in table.rows.values()]
    checks = Checks()
    rows = []
    for number, line in enumerate(content.decode("utf-8", "replace").rstrip("\n").split("\n"), 1):
        try:
            row = json.loads(line)
            chat.check_row(row)
            rows.append(row)
        except ValueError as error:
            checks.add(
                f"line {number} is not a chat row: {error}",
                where=f"{without_credentials(uri)}, line {number}",
                rule='{"messages": [{"role": ..., "content": ...}, ...]}, with the assistant last',
                remedy="use the train.jsonl that format_chat wrote",
            )
    checks.raise_if_any()
    return report.questions_and_answers(rows)
