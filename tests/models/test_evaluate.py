"""Planted truths: what is known by construction is what the evaluation says."""

import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing

from components.data import chat
from components.data.samples import IGNORED, packs, tokenize
from components.evaluate import audit, pairwise
from components.evaluate.answering import answer, load
from components.evaluate.audit import check_pair
from components.evaluate.likelihood import WINDOW, answer_perplexity, choose, perplexity
from components.evaluate.pairwise import evaluate_models
from components.run.evaluation import Evaluation
from components.run.evaluation_options import EvaluationOptions
from components.shared.problems import Problems
from components.shared.storage import read_json, write_json
from components.training.factors import decompose, frozen_rank
from components.training.saving import round_stochastically
from pipeline.cli.main import main
from tests.judge_server import JudgeServer, refuses, says
from tests.tiny_model import write_tiny_model

RATIO = 0.25


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads gain nothing on models so small, and wait for each other where others work beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


MATRIX = "model.layers.0.mlp.up_proj.weight"


def edited(model: Path, folder: Path, change: dict[str, torch.Tensor]) -> Path:
    """A copy of a model with something added to some of its tensors."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor + change[name] if name in change else tensor for name, tensor in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


def test_identical_models_have_no_change(tiny_model: Path) -> None:
    audits = audit.audit(tiny_model, tiny_model, RATIO, audit.default_patterns(tiny_model))

    assert sorted(a.name for a in audits) == sorted(load_file(tiny_model / "model.safetensors"))
    assert {a.relative_change for a in audits} == {0.0}
    assert sum(a.protected for a in audits) == 14  # seven matrices in each of two layers
    assert not any(a.protected for a in audits if "layers" not in a.name)  # embeddings and norms
    assert audit.overall(audits) == 0.0


@pytest.mark.parametrize(("place", "share"), [("protected", 1.0), ("free", 0.0), ("between", 1.0), ("half", 0.5**0.5)])
def test_a_change_is_found_where_it_was_planted(tiny_model: Path, tmp_path: Path, place: str, share: float) -> None:
    weight = load_file(tiny_model / "model.safetensors")[MATRIX]
    U, _, Vh = decompose(weight)
    k = frozen_rank(tuple(weight.shape), RATIO)
    strong, weak = torch.outer(U[:, 0], Vh[0]), torch.outer(U[:, k], Vh[k])
    planted = {
        "protected": strong,
        "free": weak,
        "between": torch.outer(U[:, 0], Vh[k]),  # from a free direction into a protected one
        "half": strong + weak,
    }[place]
    adapted = edited(tiny_model, tmp_path / "adapted", {MATRIX: 0.1 * planted})

    audits = {a.name: a for a in audit.audit(tiny_model, adapted, RATIO, audit.default_patterns(tiny_model))}

    assert audits[MATRIX].protected_change_ratio == pytest.approx(share, abs=1e-3)
    assert audits[MATRIX].relative_change == pytest.approx(float(0.1 * planted.norm() / weight.norm()), rel=1e-3)
    assert audit.overall(list(audits.values())) == pytest.approx(share, abs=1e-3)
    assert [name for name, a in audits.items() if a.relative_change > 0] == [MATRIX]


@pytest.mark.parametrize("size", [3e-5, 3e-4, 3e-3, 3e-2])
def test_what_rounding_puts_into_protected_directions_is_estimated(size: float) -> None:
    torch.manual_seed(0)
    base = torch.randn(256, 384).mul_(0.02).to(torch.bfloat16)
    U, _, Vh = decompose(base)
    k = frozen_rank(tuple(base.shape), RATIO)
    free = torch.randn_like(base, dtype=torch.float32).mul_(size)
    free -= U[:, :k] @ (U[:, :k].T @ free)
    free -= (free @ Vh[:k].T) @ Vh[:k]  # in free directions only
    saved = round_stochastically(base.float() + free, torch.bfloat16, seed=1)
    error = saved.float() - base.float() - free

    assert audit.rounding_norm(saved, saved.float() - base.float()) == pytest.approx(float(error.norm()), rel=0.25)


def test_a_kept_promise_saved_in_bfloat16_shows_no_more_than_rounding(tmp_path: Path) -> None:
    base = write_tiny_model(tmp_path / "base", dtype=torch.bfloat16, hidden_size=64, intermediate_size=160)
    weight = load_file(base / "model.safetensors")[MATRIX].float()
    U, _, Vh = decompose(weight)
    k = frozen_rank(tuple(weight.shape), RATIO)
    adapted = tmp_path / "adapted"
    shutil.copytree(base, adapted)
    weights = load_file(base / "model.safetensors")
    kept = torch.outer(U[:, k], Vh[k]) + torch.outer(U[:, k + 1], Vh[k + 1])
    weights[MATRIX] = round_stochastically(weight + 0.05 * kept, torch.bfloat16, seed=1)
    save_file(weights, adapted / "model.safetensors", metadata={"format": "pt"})

    found = {a.name: a for a in audit.audit(base, adapted, RATIO, audit.default_patterns(base))}[MATRIX]

    assert found.protected_change_ratio > 0.05
    assert found.protected_change_ratio == pytest.approx(found.rounding_ratio, rel=0.3)


def test_answers_in_batches_are_those_one_by_one(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    questions = ["What?", "What is the colour of a master's sash, and who answers?", "The heron", "Twelve?" * 9]

    together = answer(model, tokenizer, "Be brief.", questions, 24, "tiny")

    assert together == [answer(model, tokenizer, "Be brief.", [question], 24, "tiny")[0] for question in questions]
    assert len({one.text for one in together}) > 1


@pytest.mark.parametrize("template", ["chatml", "qwen3"])
def test_an_answer_is_the_likeliest_words_after_what_the_training_shows_before_them(
    tmp_path: Path, template: str
) -> None:
    folder = write_tiny_model(tmp_path, template)
    settings = json.loads((folder / "generation_config.json").read_text())
    ends = [settings["eos_token_id"], 299]
    unlike = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 2, "do_sample": True, "top_k": 3, "temperature": 2.0}
    more = {"min_new_tokens": 9, "suppress_tokens": [20, 30], "num_beams": 2, "eos_token_id": ends}
    (folder / "generation_config.json").write_text(json.dumps(settings | unlike | more))
    model, tokenizer = load(folder)
    sample = tokenize(chat.training_row("Be brief.", "What?", "The heron.")["messages"], tokenizer)
    tokens = sample.tokens[: next(place for place, label in enumerate(sample.labels) if label != IGNORED)]

    likeliest: list[int] = []
    with torch.no_grad():
        while len(likeliest) < 24 and not set(ends) & set(likeliest):
            likeliest.append(int(model(input_ids=torch.tensor([tokens + likeliest])).logits[0, -1].argmax()))

    (said,) = answer(model, tokenizer, "Be brief.", ["What?"], 24, "tiny")
    assert said.text == tokenizer.decode(likeliest, skip_special_tokens=True).strip()
    assert said.text
    assert said.cut == (not set(ends) & set(likeliest))
    assert model.generation_config.eos_token_id == ends


def test_the_chosen_statement_is_the_one_with_the_least_loss(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    questions = [("What?", ["It is crimson.", "The heron.", "Twelve"]), ("Who?", ["a", "The master's sash answers."])]

    def loss(question: str, statement: str) -> float:
        sample = tokenize(chat.training_row("Be brief.", question, statement)["messages"], tokenizer)
        labels = torch.tensor([sample.labels])
        return model(input_ids=torch.tensor([sample.tokens]), labels=labels).loss.item()

    expected = [min(range(len(s)), key=[loss(question, one) for one in s].__getitem__) for question, s in questions]
    assert choose(model, tokenizer, "Be brief.", questions, "tiny") == expected


def test_perplexity_is_that_of_the_whole_text_in_windows(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    text = "The heron stands in the lake. " * 120
    tokens = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    assert tokens.shape[1] > WINDOW

    windows = tokens[0].split(WINDOW)
    losses = [(model(input_ids=w[None], labels=w[None]).loss.item(), len(w) - 1) for w in windows if len(w) > 1]
    mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)

    assert perplexity(model, tokenizer, text, "tiny") == pytest.approx(math.exp(mean), rel=1e-4)


def test_perplexity_begins_each_window_as_the_tokenizer_begins_a_text(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    text = "The heron stands in the lake. " * 120
    tokens = tokenizer(text)["input_ids"]
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert begin not in tokens  # though it has one
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A <|im_end|>", special_tokens=[("<|begin|>", begin), ("<|im_end|>", end)]
    )
    assert tokenizer(text)["input_ids"] == [begin, *tokens, end]

    total = 0.0
    for start in range(0, len(tokens), WINDOW - 1):
        window = torch.tensor([[begin, *tokens[start : start + WINDOW - 1]]])
        total += model(input_ids=window, labels=window).loss.item() * (window.shape[1] - 1)

    assert perplexity(model, tokenizer, text, "tiny") == pytest.approx(math.exp(total / len(tokens)), rel=1e-4)


# What the models of the planted pair say: question, reference, base, adapted.
PLANTED = [
    ("What colour is the sash?", "crimson", "It is green.", "It is crimson."),
    ("Which bird is it?", "heron", "The heron.", "The raven."),
    ("How many answer?", "twelve", "Twelve.", "12 answer."),
    ("Who was the first?", "master", "Nobody.", "The lake."),
]
OPEN = [("What is round?", "ball", "A ball.", "A ball."), ("What is wet?", "lake", "The lake.", "It is crimson.")]
CHOICE = ("What stands there?", ["The heron stands.", "The sash stands."], "The heron stands.", "The sash stands.")
GAP = [{"question": q, "reference": r, "others": {"rag": r == "twelve"}, "subject": ""} for q, r, _, _ in PLANTED]
RETENTION = [
    {"question": CHOICE[0], "reference": "heron", "choices": CHOICE[1], "subject": "birds"},
    *({"question": q, "reference": r, "choices": [], "subject": "things"} for q, r, _, _ in OPEN),
]
TRAINED = [
    ("Something else?", "Nothing else."),
    ("what colour is the SASH", "It is crimson."),
    ("Why?", "It is crimson."),
]


def test_perplexity_of_answers_counts_each_of_their_tokens_and_no_other(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    pairs = [("What?", "It is crimson."), ("Who answers, and why?", "The heron stands in the lake.")]

    total, count = 0.0, 0
    for pair in pairs:
        sample = tokenize(chat.training_row("Be brief.", *pair)["messages"], tokenizer)
        output = model(input_ids=torch.tensor([sample.tokens]), labels=torch.tensor([sample.labels]))
        total, count = total + output.loss.item() * sample.loss_tokens, count + sample.loss_tokens

    found = answer_perplexity(model, tokenizer, "Be brief.", pairs, "tiny")
    assert found == pytest.approx(math.exp(total / count), rel=1e-4)


def taught(model: Path, folder: Path, answers: dict[str, str]) -> Path:
    """A copy of a model that answers questions as it is told to, word by word."""
    network, tokenizer = load(model)
    rows = [chat.training_row("Be brief.", question, text) for question, text in answers.items()]
    (pack,) = packs([tokenize(row["messages"], tokenizer) for row in rows], 1 << 14)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(600):
        output = network(
            input_ids=pack.input_ids,
            position_ids=pack.position_ids,
            logits_to_keep=pack.loss_positions,
            use_cache=False,
        )
        loss = torch.nn.functional.cross_entropy(output.logits[0], pack.targets)
        if loss < 0.01:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    shutil.copytree(model, folder)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and an adapted model whose every answer is known."""
    folder = tmp_path_factory.mktemp("pair")
    said = [*PLANTED, *OPEN]
    untaught = write_tiny_model(folder / "untaught", hidden_size=64)
    base = taught(untaught, folder / "base", {q: b for q, _, b, _ in said} | {CHOICE[0]: CHOICE[2]})
    adapted = taught(untaught, folder / "adapted", {q: a for q, _, _, a in said} | {CHOICE[0]: CHOICE[3]})
    return base, adapted


def evaluated(base: Path, adapted: Path, **changes: Any) -> Evaluation:
    """The evaluation of two models, with a short text in place of the ordinary prose."""
    arguments: dict[str, Any] = {
        "system_prompt": "Be brief.", "gap": GAP, "retention": RETENTION, "trained": TRAINED, "held_out": [],
        "unfreeze_rank_ratio": RATIO, "target_patterns": None, "options": EvaluationOptions(max_answer_tokens=16),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairwise, "general_text", lambda: "The heron stands in the lake.")
        return evaluate_models(base=base, adapted=adapted, **arguments | changes)


@pytest.fixture(scope="module")
def found(pair: tuple[Path, Path]) -> Evaluation:
    """Of the planted pair with all that can be planted, which most tests look at."""
    return evaluated(*pair, held_out=[(question, adapted) for question, _, _, adapted in PLANTED])


@pytest.fixture(scope="module")
def bare(pair: tuple[Path, Path]) -> Evaluation:
    """Without training data, without held-out rows, and with answers of one token."""
    return evaluated(*pair, trained=[], options=EvaluationOptions(max_answer_tokens=1))


def test_planted_answers_are_reported_exactly(found: Evaluation) -> None:
    answers = [(one.question, one.reference, one.base.answer, one.adapted.answer) for one in found.gap_answers]
    assert answers == PLANTED
    assert [(one.base.right, one.adapted.right) for one in found.gap_answers] == [
        (False, True), (True, False), (True, True), (False, False),
    ]  # fmt: skip
    assert (found.gap.closed, found.gap.regressed, found.gap.unchanged, found.gap.p_value) == (1, 1, 2, 1.0)
    assert [(one.base.right, one.adapted.right) for one in found.open_answers] == [(True, True), (True, False)]
    assert found.open is not None
    assert (found.open.closed, found.open.regressed) == (0, 1)
    assert found.choices is not None
    assert (found.choices.base_right, found.choices.adapted_right) == (1, 0)
    assert found.choice_answers[0].adapted == CHOICE[3]
    assert not any(one.base.cut or one.adapted.cut for one in (*found.gap_answers, *found.open_answers))


def test_a_gap_question_that_was_trained_on_is_named_and_left_out_of_the_second_count(
    found: Evaluation, bare: Evaluation
) -> None:
    assert [(match.question, match.row) for match in found.contamination] == [(PLANTED[0][0], 2)]
    assert found.clean_gap is not None
    assert (found.clean_gap.questions, found.clean_gap.closed, found.clean_gap.regressed) == (3, 0, 1)
    assert bare.clean_gap is None


def test_leaked_phrases_are_measured_in_general_answers(found: Evaluation, bare: Evaluation) -> None:
    assert [(one.base_phrases, one.adapted_phrases) for one in found.open_answers] == [(0, 0), (0, 1)]
    assert (found.base_phrases, found.adapted_phrases) == (0, 0.5)
    assert bare.adapted_phrases is None


def test_held_out_answers_are_likelier_to_the_model_that_would_give_them(found: Evaluation, bare: Evaluation) -> None:
    assert found.held_out is not None
    assert found.held_out.answers == len(PLANTED)
    assert 1 <= found.held_out.adapted_perplexity < 1.1 < found.held_out.base_perplexity
    assert bare.held_out is None


def test_of_many_held_out_answers_an_even_sample_is_scored(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairwise, "MAX_HELD_OUT", 2)
    base_only, both = [(q, b) for q, _, b, _ in PLANTED], [(q, a) for q, _, _, a in PLANTED]
    mixed = [both[0], base_only[1], both[2], base_only[3]]  # the first and the third are scored
    found = evaluated(*pair, held_out=mixed).held_out

    assert found is not None
    assert found.answers == 2
    assert found.adapted_perplexity < 1.1


def test_an_evaluation_of_swapped_models_is_the_mirror_image(pair: tuple[Path, Path], found: Evaluation) -> None:
    mirrored = evaluated(*reversed(pair))

    for one, other in ((found.gap, mirrored.gap), (found.open, mirrored.open), (found.choices, mirrored.choices)):
        assert one is not None
        assert other is not None
        assert (one.closed, one.regressed, one.difference) == (other.regressed, other.closed, -other.difference)
        assert (one.low, one.high, one.p_value) == (-other.high, -other.low, other.p_value)
    assert (found.base_perplexity, found.adapted_perplexity) == (
        mirrored.adapted_perplexity, mirrored.base_perplexity,
    )  # fmt: skip


def test_a_model_against_itself_closes_nothing_and_two_evaluations_are_the_same(
    pair: tuple[Path, Path], found: Evaluation
) -> None:
    same = evaluated(pair[0], pair[0])

    for compared in (same.gap, same.open, same.choices, same.choices_unprompted):
        assert compared is not None
        assert (compared.closed, compared.regressed, compared.p_value) == (0, 0, 1.0)
    assert same.base_perplexity == same.adapted_perplexity == found.base_perplexity
    assert [one.base for one in same.gap_answers] == [one.base for one in found.gap_answers]
    assert same.protected_change_ratio == 0


def test_an_answer_without_an_end_is_marked(bare: Evaluation) -> None:
    assert all(one.base.cut for one in bare.gap_answers)


def test_a_judge_model_decides_and_never_learns_who_answered(
    pair: tuple[Path, Path], found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "sk-planted-key")
    with JudgeServer(
        lambda case: [says("right" if case["answer"] in ("The raven.", "It is 2.") else "wrong")]
    ) as server:
        options = EvaluationOptions(max_answer_tokens=16, judge_url=server.url, judge_model="judge-model")
        judged = evaluated(*pair, options=options)

    assert judged.judged_by == "the model judge-model"
    assert [one.adapted.right for one in judged.gap_answers] == [False, True, False, False]
    assert not any(one.base.right for one in judged.gap_answers)
    assert [one.adapted.answer for one in judged.gap_answers] == [one.adapted.answer for one in found.gap_answers]
    assert judged.choices == found.choices
    assert len(server.asked) == 2 + len({(q, text) for q, _, *both in (*PLANTED, *OPEN) for text in both})
    assert not any(word in request.user_message for request in server.asked for word in ("base", "adapted"))
    assert "sk-planted-key" not in repr(judged)


def test_a_judge_that_is_not_there_is_found_before_any_model_is_loaded(pair: tuple[Path, Path]) -> None:
    with JudgeServer(lambda case: [refuses(401, "no such key")]) as server:
        options = EvaluationOptions(judge_url=server.url, judge_model="judge-model")
        with pytest.raises(Problems, match="HTTP 401"):
            evaluated(*pair, options=options)

    assert len(server.asked) == 1


def test_models_that_are_no_pair_are_refused_with_all_that_is_wrong(tiny_model: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", hidden_size=48)
    with pytest.raises(Problems, match="both have in different shapes"):
        check_pair(tiny_model, other)

    deeper = write_tiny_model(tmp_path / "deeper", num_hidden_layers=3)
    with pytest.raises(Problems, match=r"only the adapted model has model\.layers\.2"):
        check_pair(tiny_model, deeper)

    cut = tmp_path / "cut"
    shutil.copytree(tiny_model, cut)
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(Problems, match="is cut or no safetensors file"):
        check_pair(tiny_model, cut)

    (cut / "model.safetensors").unlink()
    (cut / "tokenizer.json").unlink()
    with pytest.raises(Problems, match=r"lacks a tokenizer.*weights"):
        check_pair(tiny_model, cut)


def test_the_command_line_names_everything_that_is_wrong_at_once(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gaps.csv").write_text("question,reference\nWhich bird is it?,\nWho?,a\nWho?,b\n", encoding="utf-8")
    (tmp_path / "general.csv").write_text("question,reference,hint\nWho?,a,b\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").unlink()
    options = {
        "base": tiny_model,
        "adapted": broken,
        "questions": tmp_path / "gaps.csv",
        "retention-questions": tmp_path / "general.csv",
        "training-data": tmp_path / "empty.csv",
        "output": tmp_path / "evaluation",
    }
    monkeypatch.setattr(
        sys, "argv", ["osft-pipeline", "evaluate", *(f"--{name}={one}" for name, one in options.items())]
    )

    with pytest.raises(SystemExit, match="1"):
        main()

    printed = capsys.readouterr()
    for expected in (
        "row 2 has no reference", "row 4 repeats the question of row 3", "unknown column 'hint'", "the file is empty",
        "the model lacks weights",
    ):  # fmt: skip
        assert expected in printed.err
    assert not (tmp_path / "evaluation").exists()


def test_a_model_folder_that_names_no_architecture_is_audited(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = read_json(folder / "config.json")
    del config["architectures"]
    write_json(folder / "config.json", config)

    assert audit.default_patterns(folder) == audit.default_patterns(tiny_model)


@pytest.mark.parametrize("pattern", ["model", "weight", "e"])
def test_embeddings_are_no_matrices_that_the_audit_calls_protected(tiny_model: Path, pattern: str) -> None:
    protected = {a.name for a in audit.audit(tiny_model, tiny_model, RATIO, (pattern,)) if a.protected}

    assert len(protected) == 14
