"""What can be found wrong with a run on this machine before anything starts."""

import contextlib
from pathlib import Path
from typing import Any

from components.shared.problems import Checks, Problems


def check_before(parameters: dict[str, Any], checks: Checks) -> None:
    """Add what is wrong with a run's files, model and workspace before anything starts; what is empty is left out."""
    from components.data.questions import read_gap_questions, read_retention_questions
    from components.evaluate.harness import check_installed
    from components.format_chat.core import check_system_prompt
    from components.ingest_sdg.core import check_data
    from components.models.folder import check_model_folder
    from components.run.data_options import DataOptions
    from components.run.evaluation_options import EvaluationOptions
    from components.run.lineage import check_start
    from components.run.publication import registered_name
    from components.shared.workspace import check_workspace
    from components.snapshot_model.core import local_folder

    def check_model(model: str) -> None:
        if folder := local_folder(model):
            check_model_folder(folder)

    data_options = DataOptions()
    with contextlib.suppress(Problems):  # reported already
        data_options = DataOptions.from_mapping(parameters["data_options"])
    for name, check in {
        "data": lambda data: check_data(data, data_options),
        "questions": lambda questions: read_gap_questions(questions, data_options.question_names),
        "retention_questions": lambda questions: read_retention_questions(questions, data_options.question_names),
        "model": check_model,
        "system_prompt": check_system_prompt,
        "start_from": check_start,
        "workspace": lambda workspace: check_workspace(Path(workspace), 0),
    }.items():
        if parameters[name]:
            with checks.collecting():
                check(parameters[name])
    with checks.collecting():
        tasks = parameters["evaluation_options"].get("lm_eval_tasks", "")
        check_installed(EvaluationOptions(lm_eval_tasks=tasks).tasks)
    if parameters["judge_model"] and not parameters["judge_url"]:
        with checks.collecting():
            check_model(parameters["judge_model"])
    if parameters["model"]:
        with checks.collecting():
            registered_name(parameters["publish_as"], parameters["model"])
