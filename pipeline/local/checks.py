"""What can be found wrong with a run on this machine before anything starts."""

from pathlib import Path
from typing import Any

from components.shared.problems import Checks


def absolute(uri: str) -> str:
    """A path made absolute, because the steps run elsewhere; an address as it is."""
    return uri if not uri or "://" in uri else str(Path(uri).expanduser().resolve())


def check_before(parameters: dict[str, Any], workspace: Path) -> None:
    """Find what is wrong with a run before anything starts, all of it at once.

    Raises:
        Problems: with everything found.
    """
    from components.data.questions import read_gap_questions, read_retention_questions
    from components.evaluate.harness import check_installed
    from components.format_chat.core import check_system_prompt
    from components.ingest_sdg.core import check_data
    from components.models.folder import check_model_folder
    from components.run.data_options import DataOptions
    from components.run.evaluation_options import EvaluationOptions
    from components.run.publication import registered_name
    from components.run.training_options import TrainingOptions
    from components.shared.workspace import check_workspace
    from components.snapshot_model.core import local_folder
    from pipeline.graph import EVALUATION, TRAINING

    training = {name: value for name, value in parameters.items() if hasattr(TRAINING, name)}
    evaluation = {name: value for name, value in parameters.items() if hasattr(EVALUATION, name)}

    def check_model() -> None:
        if folder := local_folder(parameters["model"]):
            check_model_folder(folder)

    checks = Checks()
    for check in (
        lambda: check_data(parameters["data"], DataOptions.from_mapping(parameters["data_options"])),
        lambda: read_gap_questions(parameters["questions"]),
        lambda: read_retention_questions(parameters["retention_questions"]),
        check_model,
        lambda: TrainingOptions.from_mapping(training, parameters["training_options"]),
        lambda: check_installed(EvaluationOptions.from_mapping(evaluation, parameters["evaluation_options"]).tasks),
        lambda: check_system_prompt(parameters["system_prompt"]),
        lambda: registered_name(parameters["publish_as"], parameters["model"]),
        lambda: check_workspace(workspace, 0),
    ):
        with checks.collecting():
            check()
    checks.raise_if_any()
