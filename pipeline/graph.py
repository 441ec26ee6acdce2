"""What flows where, from the SDG output to the published model. Where the steps run is placement.py's matter."""

import contextlib

from kfp import dsl
from kfp.dsl import base_component

from components.evaluate.component import evaluate
from components.format_chat.component import format_chat
from components.ingest_sdg.component import ingest_sdg
from components.notify.component import notify
from components.plan_training.component import plan_training
from components.publish.component import publish
from components.run.evaluation_options import EvaluationOptions
from components.run.parameters import RunInputs, with_help
from components.run.training_options import TrainingOptions
from components.snapshot_model.component import snapshot_model
from components.train_osft.component import train_osft
from pipeline.placement import place
from pipeline.settings import ClusterSettings

PRODUCT_LABEL = "nvidia.com/gpu.product"
INPUTS = RunInputs()
TRAINING = TrainingOptions()
EVALUATION = EvaluationOptions()


def build(settings: ClusterSettings) -> base_component.BaseComponent:
    """The pipeline for a cluster."""
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
    ) -> None:
        """Teach a language model new domain knowledge with OSFT and evaluate what it achieved."""
        notified = notify(runs_page=settings.notify.runs_page) if settings.notify.enabled else None
        with dsl.ExitHandler(notified, name="osft") if notified else contextlib.nullcontext():
            ingested = ingest_sdg(
                data=data,
                questions=questions,
                retention_questions=retention_questions,
                data_options=data_options,
            )
            formatted = format_chat(records=ingested.outputs["records"], system_prompt=system_prompt)
            fetched = snapshot_model(
                model=model, revision=revision, workspace=workspace, judge_url=judge_url, judge_model=judge_model
            )
            planned = plan_training(
                dataset=formatted.outputs["dataset"],
                snapshot=fetched.outputs["snapshot"],
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
                gpus=int(settings.gpu.count),
                gpu_memory_gib=settings.gpu.memory_gib,
                gpu_product=settings.gpu.node_selector.get(PRODUCT_LABEL, ""),
                publish_as=publish_as,
                registry=settings.model_registry.url,
            )
            with dsl.If(planned.outputs["Output"] == True, name="anything-to-do"):  # noqa: E712 - KFP compiles the comparison
                trained = train_osft(
                    dataset=formatted.outputs["dataset"],
                    snapshot=fetched.outputs["snapshot"],
                    plan=planned.outputs["plan"],
                    workspace=workspace,
                )
                evaluated = evaluate(
                    dataset=formatted.outputs["dataset"],
                    snapshot=fetched.outputs["snapshot"],
                    adapted=trained.outputs["adapted"],
                    plan=planned.outputs["plan"],
                    workspace=workspace,
                )
                with dsl.If(evaluated.outputs["Output"] == True, name="good"):  # noqa: E712
                    published = publish(
                        adapted=trained.outputs["adapted"],
                        plan=planned.outputs["plan"],
                        workspace=workspace,
                        claim=settings.workspace.claim,
                        registry=settings.model_registry.url,
                    )
        tasks = {
            "ingest_sdg": ingested,
            "format_chat": formatted,
            "snapshot_model": fetched,
            "plan_training": planned,
            "train_osft": trained,
            "evaluate": evaluated,
            "publish": published,
        }
        for step, task in (tasks | ({"notify": notified} if notified else {})).items():
            place(task, step, settings)

    return osft
