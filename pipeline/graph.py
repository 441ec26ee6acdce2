"""What flows where, from the SDG output to the published model: in a run, and in a sweep over several settings. Where
the steps run is placement.py's matter."""

import contextlib
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask, base_component

from components.compare.component import compare
from components.evaluate.component import evaluate
from components.format_chat.component import format_chat
from components.ingest_sdg.component import ingest_sdg
from components.notify.component import notify
from components.plan_training.component import plan_sweep, plan_training
from components.publish.component import publish
from components.run.evaluation_options import EvaluationOptions
from components.run.parameters import RunInputs, with_help
from components.run.training_options import TrainingOptions
from components.run_sweep.component import run_sweep
from components.snapshot_model.component import snapshot_model
from components.train_osft.component import train_osft
from pipeline.placement import place
from pipeline.settings import ClusterSettings

PRODUCT_LABEL = "nvidia.com/gpu.product"
INPUTS = RunInputs()
TRAINING = TrainingOptions()
EVALUATION = EvaluationOptions()


def build(settings: ClusterSettings) -> base_component.BaseComponent:
    """The pipeline `osft` for a cluster."""
    workspace = settings.workspace.mount_path  # no parameter: a pod has no other disk

    @dsl.pipeline(
        name="osft",
        display_name="Teach a model new knowledge with OSFT",
        description="Synthetic question/answer pairs in; an adapted model and the evidence of what it achieved out.",
    )
    @with_help
    def osft(
        data: str,
        questions: str,
        retention_questions: str = INPUTS.retention_questions,
        model: str = INPUTS.model,
        revision: str = INPUTS.revision,
        system_prompt: str = INPUTS.system_prompt,
        data_options: dict = {},  # noqa: B006 - KFP compiles it, nobody changes it
        method: str = TRAINING.method,
        unfreeze_rank_ratio: float = TRAINING.unfreeze_rank_ratio,
        num_epochs: int = TRAINING.num_epochs,
        effective_batch_size: int = TRAINING.effective_batch_size,
        learning_rate: float = TRAINING.learning_rate,
        max_seq_len: int = TRAINING.max_seq_len,
        max_tokens_per_gpu: int = TRAINING.max_tokens_per_gpu,
        seed: int = TRAINING.seed,
        training_options: dict = {},  # noqa: B006
        judge_url: str = EVALUATION.judge_url,
        judge_model: str = EVALUATION.judge_model,
        regressed_share_max: float = EVALUATION.regressed_share_max,
        retention_margin: float = EVALUATION.retention_margin,
        evaluation_options: dict = {},  # noqa: B006
        publish_as: str = INPUTS.publish_as,
        start_from: str = INPUTS.start_from,
    ) -> None:
        """Teach a language model new domain knowledge with OSFT and evaluate what it achieved."""
        notified = notify(runs_page=settings.notify.runs_page) if settings.notify.enabled else None
        with dsl.ExitHandler(notified, name="osft") if notified else contextlib.nullcontext():
            prepared, dataset, snapshot = _prepare(
                data=data,
                questions=questions,
                retention_questions=retention_questions,
                data_options=data_options,
                system_prompt=system_prompt,
                model=model,
                revision=revision,
                judge_url=judge_url,
                judge_model=judge_model,
                workspace=workspace,
            )
            planned = plan_training(
                dataset=dataset,
                snapshot=snapshot,
                workspace=workspace,
                method=method,
                unfreeze_rank_ratio=unfreeze_rank_ratio,
                num_epochs=num_epochs,
                effective_batch_size=effective_batch_size,
                learning_rate=learning_rate,
                max_seq_len=max_seq_len,
                max_tokens_per_gpu=max_tokens_per_gpu,
                seed=seed,
                training_options=training_options,
                judge_url=judge_url,
                judge_model=judge_model,
                regressed_share_max=regressed_share_max,
                retention_margin=retention_margin,
                evaluation_options=evaluation_options,
                **_cluster(settings),
                publish_as=publish_as,
                start_from=start_from,
            )
            with dsl.If(planned.outputs["Output"] == True, name="anything-to-do"):  # noqa: E712 - KFP compiles the comparison
                trained = train_osft(
                    dataset=dataset,
                    snapshot=snapshot,
                    plan=planned.outputs["plan"],
                    workspace=workspace,
                )
                evaluated = evaluate(
                    dataset=dataset,
                    snapshot=snapshot,
                    adapted=trained.outputs["adapted"],
                    plan=planned.outputs["plan"],
                    workspace=workspace,
                )
                with dsl.If(evaluated.outputs["Output"] == True, name="good"):  # noqa: E712
                    published = _publish(trained, planned, workspace, settings)
        steps = {"plan_training": planned, "train_osft": trained, "evaluate": evaluated, "publish": published}
        _place(prepared | steps, notified, settings)

    return osft


def build_sweep(cluster: ClusterSettings) -> base_component.BaseComponent:
    """The pipeline `osft-sweep` for a cluster."""
    workspace = cluster.workspace.mount_path

    @dsl.pipeline(
        name="osft-sweep",
        display_name="Compare settings of OSFT and other methods",
        description="Several trainings on the same data, one after the other; their comparison, and the best of them.",
    )
    @with_help
    def osft_sweep(
        data: str,
        questions: str,
        settings: list,
        retention_questions: str = INPUTS.retention_questions,
        model: str = INPUTS.model,
        revision: str = INPUTS.revision,
        system_prompt: str = INPUTS.system_prompt,
        data_options: dict = {},  # noqa: B006 - KFP compiles it, nobody changes it
        method: str = TRAINING.method,
        unfreeze_rank_ratio: float = TRAINING.unfreeze_rank_ratio,
        num_epochs: int = TRAINING.num_epochs,
        effective_batch_size: int = TRAINING.effective_batch_size,
        learning_rate: float = TRAINING.learning_rate,
        max_seq_len: int = TRAINING.max_seq_len,
        max_tokens_per_gpu: int = TRAINING.max_tokens_per_gpu,
        seed: int = TRAINING.seed,
        training_options: dict = {},  # noqa: B006
        judge_url: str = EVALUATION.judge_url,
        judge_model: str = EVALUATION.judge_model,
        regressed_share_max: float = EVALUATION.regressed_share_max,
        retention_margin: float = EVALUATION.retention_margin,
        evaluation_options: dict = {},  # noqa: B006
        publish_as: str = INPUTS.publish_as,
        start_from: str = INPUTS.start_from,
    ) -> None:
        """Train and evaluate several settings, compare them, and publish the best of those that pass the gate."""
        notified = notify(runs_page=cluster.notify.runs_page, sweep=True) if cluster.notify.enabled else None
        with dsl.ExitHandler(notified, name="osft-sweep") if notified else contextlib.nullcontext():
            prepared, dataset, snapshot = _prepare(
                data=data,
                questions=questions,
                retention_questions=retention_questions,
                data_options=data_options,
                system_prompt=system_prompt,
                model=model,
                revision=revision,
                judge_url=judge_url,
                judge_model=judge_model,
                workspace=workspace,
            )
            planned = plan_sweep(
                settings=settings,
                dataset=dataset,
                snapshot=snapshot,
                workspace=workspace,
                method=method,
                unfreeze_rank_ratio=unfreeze_rank_ratio,
                num_epochs=num_epochs,
                effective_batch_size=effective_batch_size,
                learning_rate=learning_rate,
                max_seq_len=max_seq_len,
                max_tokens_per_gpu=max_tokens_per_gpu,
                seed=seed,
                training_options=training_options,
                judge_url=judge_url,
                judge_model=judge_model,
                regressed_share_max=regressed_share_max,
                retention_margin=retention_margin,
                evaluation_options=evaluation_options,
                **_cluster(cluster),
                publish_as=publish_as,
                start_from=start_from,
            )
            tried = run_sweep(
                dataset=dataset,
                snapshot=snapshot,
                plans=planned.outputs["plans"],
                workspace=workspace,
            )
            compared = compare(plans=planned.outputs["plans"], outcomes=tried.outputs["outcomes"], workspace=workspace)
            with dsl.If(compared.outputs["Output"] == True, name="good"):  # noqa: E712
                published = _publish(compared, compared, workspace, cluster)
        steps = {"plan_sweep": planned, "run_sweep": tried, "compare": compared, "publish": published}
        _place(prepared | steps, notified, cluster)

    return osft_sweep


def _prepare(
    *,
    data: Any,
    questions: Any,
    retention_questions: Any,
    data_options: Any,
    system_prompt: Any,
    model: Any,
    revision: Any,
    judge_url: Any,
    judge_model: Any,
    workspace: Any,
) -> tuple[dict[str, PipelineTask], Any, Any]:
    """What comes before the plan, of the pipeline's parameters: the tasks by step, the dataset and the snapshot."""
    ingested = ingest_sdg(
        data=data, questions=questions, retention_questions=retention_questions, data_options=data_options
    )
    formatted = format_chat(records=ingested.outputs["records"], system_prompt=system_prompt)
    fetched = snapshot_model(
        model=model,
        revision=revision,
        workspace=workspace,
        system_prompt=system_prompt,
        judge_url=judge_url,
        judge_model=judge_model,
    )
    tasks = {"ingest_sdg": ingested, "format_chat": formatted, "snapshot_model": fetched}
    return tasks, formatted.outputs["dataset"], fetched.outputs["snapshot"]


def _cluster(settings: ClusterSettings) -> dict[str, Any]:
    """What a plan needs to know of the cluster."""
    return {
        "gpus": int(settings.gpu.count),
        "gpu_memory_gib": settings.gpu.memory_gib,
        "gpu_product": settings.gpu.node_selector.get(PRODUCT_LABEL, ""),
        "registry": settings.model_registry.url,
    }


def _publish(adapted: PipelineTask, plan: PipelineTask, workspace: Any, settings: ClusterSettings) -> PipelineTask:
    """Publish the model of the task `adapted` by the plan of the task `plan`."""
    return publish(
        adapted=adapted.outputs["adapted"],
        plan=plan.outputs["plan"],
        workspace=workspace,
        claim=settings.workspace.claim,
        registry=settings.model_registry.url,
    )


def _place(tasks: dict[str, PipelineTask], notified: PipelineTask | None, settings: ClusterSettings) -> None:
    for step, task in (tasks | ({"notify": notified} if notified else {})).items():
        place(task, step, settings)
