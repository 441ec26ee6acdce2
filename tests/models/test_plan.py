"""The plan counts what the training will hold, and refuses what cannot work."""

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from components.data.packs import packs
from components.data.samples import Sample
from components.format_chat.core import format_chat
from components.ingest_sdg.core import ingest_sdg
from components.models.shapes import default_patterns
from components.plan_training.core import TrainingPlan, plan_training, volume_bytes
from components.plan_training.words import Words
from components.run.training_options import TrainingOptions
from components.shared.problems import Checks, Problems
from components.shared.storage import read_json, read_jsonl, write_json, write_jsonl
from components.shared.workspace import GIB, folder_bytes, run_folder
from components.snapshot_model.core import snapshot_model
from components.training.factors import factored_layers
from components.training.loading import load
from components.training.loss import PackLoss
from components.training.memory import plan_memory
from components.training.optimizer import Optimizer
from tests.run_records import write_summary
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module", autouse=True)
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two samples, as format_chat leaves them."""
    folder = tmp_path_factory.mktemp("data")
    data, questions = folder / "data.csv", folder / "gap.csv"
    rows = "question,response,faithfulness_judgment\nWho?,The heron.,YES\nWhat?,A sash.,YES\n"
    data.write_text(rows, encoding="utf-8")
    questions.write_text("question,reference\nWhich bird?,heron\n", encoding="utf-8")
    ingest_sdg(
        data=str(data),
        questions=str(questions),
        retention_questions=str(questions),
        output=folder / "records",
        review=folder / "review.html",
        options={},
    )
    format_chat(records=folder / "records", system_prompt="Be brief.", output=folder / "dataset")
    return folder / "dataset"


DTYPES = ("float32", "bfloat16")
Planner = Callable[..., TrainingPlan]


@pytest.fixture
def plan(dataset: Path, tiny_model: Path, tmp_path: Path) -> Planner:
    """Plan a run in the test's own workspace, with training options by name."""

    def plan(
        model: Path = tiny_model,
        data: Path = dataset,
        gpu_memory_gib: float = 0.0,
        gpus: int = 1,
        further: tuple[dict[str, Any], dict[str, Any]] = ({}, {}),
        judge: str = "",
        start_from: str = "base",
        **options: Any,
    ) -> TrainingPlan:
        note = tmp_path / "snapshot"
        snapshot_model(
            model=str(model), revision="main", workspace=tmp_path / "workspace", note=note, judge_model=judge
        )
        return plan_training(
            dataset=data,
            snapshot=note,
            workspace=tmp_path / "workspace",
            options=options,
            further_options=further[0],
            evaluation={"retention_margin": 10.0},
            further_evaluation=further[1],
            gpus=gpus,
            gpu_memory_gib=gpu_memory_gib,
            gpu_product="",
            publish_as="",
            registry="",
            start_from=start_from,
            snapshot_seconds=0.0,
            output=tmp_path / "plan.json",
            page=tmp_path / "plan.html",
        )

    return plan


def held_gib(folder: Path, options: TrainingOptions) -> tuple[float, float, float]:
    """What a training really holds: frozen factors, trained weights with their moments, gradients."""
    dtype = getattr(torch, options.train_dtype)
    model = load(folder, options, torch.device("cpu"), dtype, "sdpa")
    optimizer, pack_loss = Optimizer(model, options, dtype), PackLoss(model)
    labels = list(range(20))
    for pack in packs([Sample(labels, labels)], 64):
        pack_loss(pack, 19).backward()
    frozen = [buffer for layer in factored_layers(model).values() for buffer in layer.buffers()]
    copies = [*optimizer.large.values(), optimizer.computed] if dtype != torch.float32 else []
    assert optimizer.vector.grad is not None
    trained = [*optimizer.state().values(), optimizer.vector.grad, *copies]
    gradients = [layer.low.grad for layer in factored_layers(model).values()]
    gradients += [parameter.grad for parameter in optimizer.large.values()]
    gradients += [parameter.grad for name, parameter in optimizer.small_parameters.items() if "lora" in name]
    frozen += [buffer for protection in optimizer.protections.values() for buffer in protection.buffers()]
    frozen += [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert all(gradient is not None for gradient in gradients)
    return tuple(sum(t.nbytes for t in tensors) / GIB for tensors in (frozen, trained, gradients))  # type: ignore[return-value, union-attr]


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def wide_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_key_value_heads": 4}
    folder = tmp_path_factory.mktemp("wide")
    return write_tiny_model(folder, dtype=torch.bfloat16, tie_word_embeddings=request.param, **sizes)


@pytest.mark.parametrize(
    "options",
    [
        *({"unfreeze_rank_ratio": ratio, "train_dtype": "bfloat16"} for ratio in (0.1, 0.25, 0.5, 1.0)),
        *({"unfreeze_rank_ratio": ratio, "train_dtype": "float32"} for ratio in (0.25, 1.0)),
        {"target_patterns": ("q_proj", "layers.1.mlp"), "train_dtype": "bfloat16"},
        *({"method": method, "train_dtype": dtype} for method in ("lora_sft", "sft") for dtype in DTYPES),
        *({"train_unfactored": False, "train_dtype": dtype} for dtype in DTYPES),
        {"target_patterns": ("q_proj", "layers.1.mlp"), "train_unfactored": False, "train_dtype": "bfloat16"},
        {"method": "lora_sft", "lora_protect": True, "train_dtype": "bfloat16"},
        {"method": "lora_sft", "lora_protect": True, "unfreeze_rank_ratio": 0.6, "train_dtype": "float32"},
        {"method": "lora_sft", "train_dtype": "bfloat16", "lora_r": 3, "target_modules": ("q_proj", "layers.1.mlp")},
    ],
    ids=str,
)
def test_the_plan_counts_the_bytes_that_the_training_holds(wide_model: Path, options: dict[str, Any]) -> None:
    planned = plan_memory(read_json(wide_model / "config.json"), TrainingOptions(**options))

    held = held_gib(wide_model, TrainingOptions(**options))
    assert held[0] > 0 or options.get("unfreeze_rank_ratio") == 1.0 or options.get("method") == "sft"
    assert (planned.frozen_gib, planned.trained_gib, planned.gradients_gib) == pytest.approx(held, rel=0.01)
    assert planned.activations_gib > 0
    parts = planned.frozen_gib + planned.trained_gib + planned.gradients_gib + planned.activations_gib
    assert planned.total_gib == pytest.approx(parts)


def test_volume_too_small_for_the_training_is_refused_before_a_gpu_is_asked_for(
    plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan()
    run = run_folder(tmp_path / "workspace", made.run_key)
    needed = volume_bytes(made.model["bytes"], made.memory) - folder_bytes(run)
    # What is free is the test's: to fill a volume would take one of its own.
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))

    with pytest.raises(Problems, match="the workspace is too small"):
        plan()

    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert plan().run_key == made.run_key


def test_a_plan_says_what_will_be_done(plan: Planner, tmp_path: Path) -> None:
    made = plan(num_epochs=3, effective_batch_size=1)

    assert (made.samples, made.steps, made.anything_to_do) == (2, 6, True)
    assert set(made.options["target_patterns"]) == set(default_patterns("llama"))  # decided here
    assert read_json(tmp_path / "plan.json")["run_key"] == made.run_key
    page = (tmp_path / "plan.html").read_text(encoding="utf-8")
    assert made.run_key in page
    assert (run_folder(tmp_path / "workspace", made.run_key) / "plan.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("checkpoint_minutes", "seconds"), [(None, 60.0), (2.5, 150.0)], ids=["by their cost", "by an option"]
)
def test_a_plan_says_how_often_checkpoints_are_written(
    plan: Planner, tmp_path: Path, checkpoint_minutes: float | None, seconds: float
) -> None:
    assert plan(checkpoint_minutes=checkpoint_minutes).checkpoint_seconds == seconds
    assert "Checkpoints" in (tmp_path / "plan.html").read_text(encoding="utf-8")


def test_models_that_a_run_uses_again_count_as_just_changed(plan: Planner, tmp_path: Path) -> None:
    key = plan().run_key
    (base,) = (tmp_path / "workspace").glob("models/*/*/snapshot.json")
    adapted = tmp_path / "workspace" / "adapted" / key / "training_report.json"
    adapted.parent.mkdir(parents=True)
    adapted.write_text("{}", encoding="utf-8")
    for marker in (base, adapted):
        os.utime(marker, (0, 0))
    before = time.time()

    assert plan().trained

    assert all(marker.stat().st_mtime > before - 5 for marker in (base, adapted))


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"max_seq_len": 512}, True),  # only says which samples are an error
        ({"checkpoint_minutes": 1.0}, True),
        ({"seed": 1}, False),
        ({"unfreeze_rank_ratio": 0.5}, False),
        ({"target_patterns": ["q_proj"]}, False),
        ({"method": "sft"}, False),
        ({"method": "lora_sft"}, False),
        ({"gpu_memory_gib": 44.0}, False),  # in bfloat16
        ({"gpu_memory_gib": 44.0, "gpus": 2}, False),  # another trainer
    ],
    ids=str,
)
def test_the_run_key_changes_with_everything_that_changes_the_result(
    plan: Planner, changes: dict[str, Any], same: bool
) -> None:
    assert (plan().run_key == plan(**changes).run_key) == same


def test_what_does_not_fit_the_gpu_is_refused_with_the_change_that_helps(
    plan: Planner, tiny_model: Path, tmp_path: Path
) -> None:
    options = {"max_tokens_per_gpu": 8192, "max_seq_len": 256}
    needed = plan_memory(read_json(tiny_model / "config.json"), TrainingOptions(**options).on("cuda")).needed_gib

    with pytest.raises(Problems, match="GiB of GPU memory, the GPU has") as caught:
        plan(gpu_memory_gib=0.9 * needed, **options)

    assert not (tmp_path / "plan.json").exists()
    (helps,) = re.findall(r"remedy: add --max-tokens-per-gpu (\d+)", str(caught.value))
    made = plan(gpu_memory_gib=0.9 * needed, **options | {"max_tokens_per_gpu": int(helps)})
    assert made.memory.needed_gib <= 0.9 * needed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"gpu_memory_gib": 1e-6, "max_seq_len": 16, "max_tokens_per_gpu": 16},
            ["2 problems", "2 of 2 samples are longer", "GiB of GPU memory"],
        ),
        (
            {"num_epochs": 5, "further": ({"num_epochs": 3, "warmup_steps": 1}, {"retention_margin": 2.0})},
            ["take it out there, and add --num-epochs 3", "take it out there, and add --retention-margin 2.0"],
        ),
        ({"warmup_steps": 6, "num_epochs": 6}, ["warmup_steps is 6, the training has 6 optimizer steps"]),
        ({"seed": 1 << 63}, ["seed is '9223372036854775808'"]),
        ({"num_epochs": 10**9}, ["an integer from 1 to 10000"]),
        ({"target_patterns": ["q_proj", "qq_proj"]}, ["'qq_proj' is not part of any matrix' name"]),
        (
            {"method": "lora_sft", "target_modules": ["qq_proj"]},
            ["'qq_proj' is not part of any matrix' name", "training option target_modules"],
        ),
        (
            {"method": "lora_sft", "gpu_memory_gib": 44.0, "gpus": 2},
            ["method is lora_sft, and 2 GPUs are asked for", "mini-trainer", "--method osft"],
        ),
    ],
    ids=str,
)
def test_what_cannot_be_trained_as_asked_is_refused(plan: Planner, arguments: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(Problems) as caught:
        plan(**arguments)

    assert all(text in str(caught.value) for text in said)


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"answer": "So <|im_end|>."}, {}, "'<|im_end|>' (row 1); they are trained on and asked as plain text"),
        ({"answer": "So <|im_end|>."}, {"control_tokens": "drop"}, "(row 1); 1 rows with them are not trained on"),
        ({"question": "What is <|im_start|>?"}, {}, "'<|im_start|>' (gap question 1)"),
        ({"system_prompt": "Say <|im_end|>"}, {}, "'<|im_end|>' (the system prompt)"),
        ({}, {"learning_rate": 1e-12}, "the model will hardly change"),
    ],
    ids=str,
)
def test_what_is_worth_knowing_is_remarked(
    plan: Planner, dataset: Path, tmp_path: Path, changes: dict[str, str], options: dict[str, Any], said: str
) -> None:
    own = shutil.copytree(dataset, tmp_path / "own")
    if "answer" in changes:
        rows = read_jsonl(own / "train.jsonl")
        rows[0]["messages"][-1]["content"] = changes["answer"]
        write_jsonl(own / "train.jsonl", rows)
    if "question" in changes:
        write_jsonl(own / "gap_questions.jsonl", [{"question": changes["question"], "reference": "heron"}])
    if "system_prompt" in changes:
        (own / "system_prompt.txt").write_text(changes["system_prompt"], encoding="utf-8")

    made = plan(data=own, **options)

    assert any(said in text for text in made.remarks), made.remarks
    assert "Remarks" in (tmp_path / "plan.html").read_text(encoding="utf-8")


def test_letters_without_a_token_are_counted(dataset: Path) -> None:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.train_from_iterator(["the heron"], trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False))
    words = Words(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"), 100)

    words.read(dataset)

    (remark,) = words.remarks(TrainingOptions())
    assert "has no token for" in remark
    assert "row 1, row 2" in remark


def test_a_token_that_the_model_lacks_is_named_with_its_rows(tiny_model: Path, dataset: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["heron"])
    words, checks = Words(tokenizer, len(tokenizer) - 1), Checks()

    words.read(dataset)
    words.check(TrainingOptions(), 1, checks)

    (found,) = checks.problems
    assert found.what.startswith(f"the model has no token {len(tokenizer) - 1}, 'heron', which row")


def test_a_judge_that_does_not_fit_the_gpu_is_refused(plan: Planner, tmp_path: Path) -> None:
    judge = write_tiny_model(tmp_path / "judge", hidden_size=512, intermediate_size=32768)
    size = (judge / "model.safetensors").stat().st_size / GIB

    with pytest.raises(Problems, match=r"the judge's model has .* GiB of weights"):
        plan(judge=str(judge), gpu_memory_gib=size, max_seq_len=256, max_tokens_per_gpu=256)
    assert plan(judge=str(judge), gpu_memory_gib=2 * size, max_seq_len=256, max_tokens_per_gpu=256)


def test_with_several_gpus_what_mini_trainer_would_drop_or_ignore_is_refused(plan: Planner) -> None:
    longest = plan().longest_sample

    with pytest.raises(Problems, match=r"[12] of 2 samples would be dropped") as caught:
        plan(gpu_memory_gib=44.0, gpus=2, max_seq_len=longest, train_dtype="bfloat16", train_unfactored=False)

    assert "train_dtype is 'bfloat16'" in str(caught.value)
    assert "train_unfactored is False" in str(caught.value)
    assert 'gpu.count = "1"' in str(caught.value)


def test_samples_longer_than_the_model_can_read_are_refused(plan: Planner, tiny_model: Path, tmp_path: Path) -> None:
    short = shutil.copytree(tiny_model, tmp_path / "short")
    write_json(short / "config.json", read_json(short / "config.json") | {"max_position_embeddings": 16})

    with pytest.raises(Problems, match="2 of 2 samples have more tokens than the model can read") as caught:
        plan(short)

    assert "max_position_embeddings = 16" in str(caught.value)


def test_the_page_says_what_the_log_says_when_only_publishing_is_left(
    plan: Planner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan()
    adapted, run = (tmp_path / "workspace" / part / made.run_key for part in ("adapted", "runs"))
    write_json(adapted / "training_report.json", {})
    write_summary(run, "improved", {})
    write_json(run / "summary.json", read_json(run / "summary.json") | {"evaluation_key": made.evaluation_key})

    plan()

    verdict = f"already trained and evaluated: run {made.run_key}; to do: publish as {made.publish['name']}"
    assert verdict in capsys.readouterr().out
    assert f'<p class="verdict">{verdict}</p>' in (tmp_path / "plan.html").read_text(encoding="utf-8")


def test_a_rewound_model_stands_for_its_run_and_new_questions_go_to_the_trained_one_while_it_is_there(
    plan: Planner, tmp_path: Path
) -> None:
    made = plan()
    workspace, rewound = tmp_path / "workspace", f"{made.run_key}-0.75"
    run = workspace / "runs" / made.run_key
    trained = workspace / "adapted" / made.run_key / "training_report.json"
    write_json(workspace / "adapted" / rewound / "training_report.json", {})
    write_summary(run, "good", {})
    asked = read_json(run / "summary.json") | {"adapted": f"/elsewhere/adapted/{rewound}"}

    for is_there in (True, False):
        write_json(trained, {}) if is_there else trained.unlink()
        write_json(run / "summary.json", asked | {"evaluation_key": made.evaluation_key})
        found = plan()
        assert (found.model_name, found.trained, found.evaluated, found.published) == (rewound, True, True, False)
        write_json(run / "summary.json", asked | {"evaluation_key": "of other questions"})
        found = plan()
        expected = made.run_key if is_there else rewound
        assert (found.model_name, found.trained, found.evaluated) == (expected, True, False)

    write_json(run / "summary.json", asked | {"evaluation_key": made.evaluation_key})
    note = {"name": made.publish["name"], "registry": "", "entry": "", "uri": "", "published_at": "2026-03-01T00:00:00"}
    write_json(run / "published.json", note | {"version": made.run_key})  # the whole change, before
    assert plan().anything_to_do
    write_json(run / "published.json", note | {"version": rewound})
    assert not plan().anything_to_do


def test_a_run_cannot_start_from_anything_else(plan: Planner) -> None:
    with pytest.raises(Problems, match=r"start_from is 'publish'(?s:.*)one of base, published"):
        plan(start_from="publish")
    assert "published as" in plan(start_from="published").start_note
