"""The plans of a sweep: all settings are planned before the first one is trained, and before a GPU is asked for."""

import dataclasses
from pathlib import Path
from typing import Any

from components.models.reference import find_judge, find_model
from components.plan_training.core import Request, check_judge, make_plan
from components.run.plan import TrainingPlan, write_plans
from components.run.sweep import differing, read_settings
from components.shared import pages, progress, records
from components.shared.problems import Checks
from components.shared.storage import read_json, write_text
from components.shared.workspace import SNAPSHOT_MANIFEST, check_workspace, mark_used


def plan_sweep(
    *, dataset: Path, snapshot: Path, workspace: Path, settings: list[Any], output: Path, page: Path, **request: Any
) -> dict[str, TrainingPlan]:
    """Plan all trainings of a sweep on what format_chat and snapshot_model made; write the plans, and a page. Gives
    them by their settings' names. Raises Problems, of all settings at once, when one is impossible."""
    base = find_model(snapshot, workspace)
    plans = make_plans(base, read_json(base / SNAPSHOT_MANIFEST), dataset, workspace, settings, Request(**request))
    mark_used(base / SNAPSHOT_MANIFEST)
    if judge := find_judge(snapshot, workspace):
        check_judge(judge, next(iter(plans.values())).gpu_memory_gib)
        mark_used(judge / SNAPSHOT_MANIFEST)
    write_plans(output, plans)
    options = differing({name: plan.training_options for name, plan in plans.items()})
    html = pages.render(
        "components.plan_training", "sweep.html.j2", title="Plan of a sweep", plans=plans, differing=options
    )
    write_text(page, html)
    for line in describe(plans):
        progress.log(line)
    records.note(settings=len(plans), to_do=describe(plans)[-1])
    return plans


def make_plans(
    base: Path, manifest: dict[str, Any], dataset: Path, workspace: Path, settings: list[Any], request: Request
) -> dict[str, TrainingPlan]:
    """Plan each setting and change nothing. Raises Problems of all of them at once."""
    checks, plans = Checks(), dict[str, TrainingPlan]()
    names: dict[str, str] = {}
    for setting in read_settings(settings, request.options, request.further_options):
        options, further = setting.over(request.options, request.further_options)
        found = Checks()
        with found.collecting():
            own = dataclasses.replace(request, options=options, further_options=further)
            plan = plans[setting.name] = make_plan(base, manifest, dataset, workspace, own)[0]
            same = names.setdefault(plan.run_key, setting.name)
            if same != setting.name:
                found.add(
                    f"it is the same run as the setting {same}, {plan.run_key}",
                    where="settings",
                    rule="a training is made once",
                    remedy="take one of the two out",
                )
        checks.problems += [
            dataclasses.replace(one, what=f"setting {setting.name}: {one.what}") for one in found.problems
        ]
    checks.raise_if_any()
    check_workspace(workspace, sum(plan.model_bytes for plan in plans.values() if not plan.trained))
    return plans


def describe(plans: dict[str, TrainingPlan]) -> list[str]:
    """The plans in a few lines."""
    lines = [
        f"{name}: run {plan.run_key}, {plan.steps} steps, about {plan.memory.total_gib:.1f} GiB; "
        f"{'trained and evaluated' if plan.evaluated else 'trained' if plan.trained else 'new'}"
        for name, plan in plans.items()
    ]
    trained, evaluated = (sum(getattr(plan, what) for plan in plans.values()) for what in ("trained", "evaluated"))
    return [
        *lines,
        f"{len(plans)} settings; to do: train {len(plans) - trained}, evaluate {len(plans) - evaluated}, compare them",
    ]
