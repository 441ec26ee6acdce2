"""The KFP faces of `plan_training`: of one run, and of a sweep."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def plan_training(
    dataset: dsl.Input[dsl.Dataset],
    snapshot: dsl.Input[dsl.Model],
    workspace: str,
    method: str,
    unfreeze_rank_ratio: float,
    num_epochs: int,
    effective_batch_size: int,
    learning_rate: float,
    max_seq_len: int,
    max_tokens_per_gpu: int,
    seed: int,
    training_options: dict,
    judge_url: str,
    judge_model: str,
    regressed_share_max: float,
    retention_margin: float,
    evaluation_options: dict,
    gpus: int,
    gpu_memory_gib: float,
    gpu_product: str,
    publish_as: str,
    registry: str,
    start_from: str,
    plan: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> bool:
    """Plan the run; refuse what cannot work before a GPU is asked for. True when there is anything to do."""
    from pathlib import Path

    from components.shared.step import run_step

    result = run_step(
        "plan_training",
        dataset=Path(dataset.path),
        snapshot=Path(snapshot.path),
        workspace=Path(workspace),
        options={
            "method": method,
            "unfreeze_rank_ratio": unfreeze_rank_ratio,
            "num_epochs": num_epochs,
            "effective_batch_size": effective_batch_size,
            "learning_rate": learning_rate,
            "max_seq_len": max_seq_len,
            "max_tokens_per_gpu": max_tokens_per_gpu,
            "seed": seed,
        },
        further_options=training_options,
        evaluation={
            "judge_url": judge_url,
            "judge_model": judge_model,
            "regressed_share_max": regressed_share_max,
            "retention_margin": retention_margin,
        },
        further_evaluation=evaluation_options,
        gpus=gpus,
        gpu_memory_gib=gpu_memory_gib,
        gpu_product=gpu_product,
        publish_as=publish_as,
        registry=registry,
        start_from=start_from,
        snapshot_seconds=float(snapshot.metadata["seconds"]),
        output=Path(plan.path),
        page=Path(page.path),
    )
    plan.metadata["run_key"] = result.run_key
    return result.anything_to_do


@step
def plan_sweep(
    dataset: dsl.Input[dsl.Dataset],
    snapshot: dsl.Input[dsl.Model],
    workspace: str,
    settings: list,
    method: str,
    unfreeze_rank_ratio: float,
    num_epochs: int,
    effective_batch_size: int,
    learning_rate: float,
    max_seq_len: int,
    max_tokens_per_gpu: int,
    seed: int,
    training_options: dict,
    judge_url: str,
    judge_model: str,
    regressed_share_max: float,
    retention_margin: float,
    evaluation_options: dict,
    gpus: int,
    gpu_memory_gib: float,
    gpu_product: str,
    publish_as: str,
    registry: str,
    start_from: str,
    plans: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Plan all trainings of a sweep; refuse what cannot work before a GPU is asked for."""
    from pathlib import Path

    from components.plan_training import sweep
    from components.shared.step import run_as_step

    inputs = {
        "dataset": Path(dataset.path),
        "snapshot": Path(snapshot.path),
        "workspace": Path(workspace),
        "settings": settings,
        "options": {
            "method": method,
            "unfreeze_rank_ratio": unfreeze_rank_ratio,
            "num_epochs": num_epochs,
            "effective_batch_size": effective_batch_size,
            "learning_rate": learning_rate,
            "max_seq_len": max_seq_len,
            "max_tokens_per_gpu": max_tokens_per_gpu,
            "seed": seed,
        },
        "further_options": training_options,
        "evaluation": {
            "judge_url": judge_url,
            "judge_model": judge_model,
            "regressed_share_max": regressed_share_max,
            "retention_margin": retention_margin,
        },
        "further_evaluation": evaluation_options,
        "gpus": gpus,
        "gpu_memory_gib": gpu_memory_gib,
        "gpu_product": gpu_product,
        "publish_as": publish_as,
        "registry": registry,
        "start_from": start_from,
        "snapshot_seconds": float(snapshot.metadata["seconds"]),
        "output": Path(plans.path),
        "page": Path(page.path),
    }
    plans.metadata["settings"] = len(run_as_step("plan_sweep", lambda: sweep.plan_sweep, inputs))
