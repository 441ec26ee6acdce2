import ast
import json
from pathlib import Path

import pytest
from transformers.activations import ACT2CLS
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from components.models.configuration import ACTIVATIONS, ROPE_TYPES, TRAINABLE_TYPES
from components.models.folder import (
    check_model_files,
    check_model_folder,
    likely_weights,
    small_files,
    weight_names,
)
from components.models.trial_process import check_class
from components.shared.problems import Checks
from tests.fast.conftest import only_problem_of, problems_of
from tests.model_files import CONFIG, EMBEDDING, LAYER, SMALL, TOKENIZER, shards, weights, write
from tests.tables import table

GOOD = {
    "config.json": CONFIG,
    "tokenizer.json": TOKENIZER,
    "tokenizer_config.json": {"chat_template": "{{ messages }}"},
    "model.safetensors": "weights",
}
INDEX = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
SHARDS = {"model-00001-of-00002.safetensors": "1", "model-00002-of-00002.safetensors": "2"}
OTHER, INDEX_NAME = "consolidated.safetensors", "model.safetensors.index.json"
REST = {name: content for name, content in GOOD.items() if name != "model.safetensors"}


def without(*names):
    return {name: content for name, content in GOOD.items() if name not in names}


def check(files):
    contents = {name: (text if isinstance(text, str) else json.dumps(text)).encode() for name, text in files.items()}
    check_model_files(list(contents), contents.__getitem__, "org/name at 0123")


@pytest.mark.parametrize(
    ("absent", "others"),
    [
        ("", {}),
        ("tokenizer_config.json", {"chat_template.jinja": "{{ messages }}"}),
        ("tokenizer_config.json", {"chat_template.json": "{}"}),
        ("tokenizer.json", {"vocab.json": {}, "merges.txt": ""}),
        ("model.safetensors", {**SHARDS, "model.safetensors.index.json": INDEX}),
        ("", {"config.json": CONFIG | {"model_type": "granite", "num_experts": 1, "num_local_experts": None}}),
        *(("", {"config.json": CONFIG | {"model_type": model_type}}) for model_type in TRAINABLE_TYPES),
    ],
)
def test_complete_model_is_accepted(absent, others):
    check(without(absent) | others)


@pytest.mark.parametrize(("absent", "others", "named"), table("model_folder", "missing"))
def test_what_is_missing_is_named(absent, others, named):
    files = without(*absent) | others
    found = only_problem_of(check, files)
    assert all(name in found.what for name in named)
    assert found.where == "org/name at 0123"
    assert "chat template" in found.rule
    assert "-instruct" in found.remedy


@pytest.mark.parametrize("absent", [[name] for name in SHARDS] + [list(SHARDS)])
def test_shard_that_the_index_names_and_nobody_brought_is_named(absent):
    shards = {name: content for name, content in SHARDS.items() if name not in absent}
    found = only_problem_of(check, {**REST, **shards, OTHER: "x", INDEX_NAME: INDEX})
    assert found.what == f"weights are missing: {', '.join(map(repr, absent))}"
    assert found.where.endswith("/model.safetensors.index.json")


@pytest.mark.parametrize("name", ["../../secret.safetensors", "sub/model.safetensors", "pytorch_model.bin", "a.py", 7])
def test_index_that_names_anything_but_weights_beside_it_is_refused(name):
    found = only_problem_of(check, {**REST, OTHER: "x", str(name): "y", INDEX_NAME: {"weight_map": {"a": name}}})
    assert found.what == f"weights are missing: {str(name)!r}"


@pytest.mark.parametrize("weight_map", [{}, [], None, "model.safetensors"])
def test_index_without_weights_is_named(weight_map):
    found = only_problem_of(check, {**REST, OTHER: "x", INDEX_NAME: {"weight_map": weight_map}})
    assert found.what == "the index names no weights"


@pytest.mark.parametrize("key", ["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"])
@pytest.mark.parametrize("model_type", ["granitemoe", "llama"])
def test_mixture_of_experts_is_refused_with_the_backend_that_trains_it(key, model_type):
    found = only_problem_of(check, {**GOOD, "config.json": {"model_type": model_type, key: 8}})
    assert f"mixture of experts ({model_type!r})" in found.what
    assert found.where == "org/name at 0123/config.json"
    assert "dense" in found.rule
    assert "mini-trainer" in found.remedy


@pytest.mark.parametrize(
    "config", [{"model_type": "mamba"}, {"model_type": "Llama"}, {"a": 1}, {"model_type": None}, {}]
)
def test_model_of_another_type_is_refused_with_the_types_that_can(config):
    found = only_problem_of(check, {**GOOD, "config.json": config})
    assert repr(config.get("model_type")) in found.what
    assert all(model_type in found.rule for model_type in TRAINABLE_TYPES)


@pytest.mark.parametrize(("name", "content"), table("model_folder", "broken"))
def test_broken_json_is_named(name, content):
    files = {**(REST if name == INDEX_NAME else GOOD), OTHER: "x", name: content}
    found = problems_of(check, files)
    assert any(problem.where.endswith(f"/{name}") and problem.rule == "a JSON object" for problem in found)


def test_all_that_is_wrong_is_named_at_once():
    files = {"config.json": {"model_type": "mamba"}, "tokenizer.json": TOKENIZER, "model.safetensors.index.json": INDEX}
    assert [problem.what.split(":")[0] for problem in problems_of(check, files)] == [
        "the model lacks a chat template (chat_template.jinja or chat_template in tokenizer_config.json), "
        "weights (*.safetensors)",
        "weights are missing",
        "models of type 'mamba' are not supported",
    ]


@pytest.mark.parametrize("name", table("model_folder", "other_files"))
def test_what_runs_code_or_does_not_belong_to_the_model_is_left_out(name):
    names = [name, *GOOD]
    assert small_files(names) == sorted(REST)
    assert weight_names(names, no_reading) == likely_weights(names) == ["model.safetensors"]


def no_reading(name):
    raise AssertionError(f"{name} need not be read")


@pytest.mark.parametrize("name", [*REST, "model.safetensors.index.json", "chat_template.jinja", "merges.txt"])
def test_small_files_of_the_model_belong_to_it(name):
    assert small_files([name, "model-00001-of-00002.safetensors"]) == [name]


def test_weights_are_those_that_the_index_names():
    names = [*REST, *SHARDS, OTHER, "model-00009-of-00002.safetensors", INDEX_NAME]
    assert weight_names(names, lambda name: json.dumps({INDEX_NAME: INDEX}[name]).encode()) == sorted(SHARDS)
    assert set(likely_weights(names)) == {*SHARDS, "model-00009-of-00002.safetensors"}


def test_one_file_of_weights_goes_before_an_index():
    names = [*GOOD, *SHARDS, INDEX_NAME]
    assert weight_names(names, no_reading) == ["model.safetensors"]
    assert INDEX_NAME not in small_files(names)
    check({**GOOD, INDEX_NAME: "no JSON"})


def test_folder_is_checked_by_its_files_only(tmp_path):
    write(tmp_path, {**SMALL, "model.safetensors": weights()})
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "folder.safetensors").mkdir()
    assert check_model_folder(tmp_path) == sorted(GOOD)


@pytest.mark.parametrize("below", ["absent", "model.gguf"])
def test_what_is_no_folder_is_named(tmp_path, below):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    found = only_problem_of(check_model_folder, tmp_path / below)
    assert found.what == "no such folder"
    assert str(tmp_path / below) in found.where


def class_of(settings):
    checks = Checks()
    check_class(settings, "org/name at 0123", checks)
    checks.raise_if_any()


@pytest.mark.parametrize("changes", table("model_folder", "tokenizers"))
def test_tokenizer_that_needs_no_code_of_its_author_is_accepted(changes):
    class_of(changes)


@pytest.mark.parametrize("changes", table("model_folder", "tokenizers_with_code"))
def test_tokenizer_that_brings_code_is_refused(changes):
    found = only_problem_of(class_of, changes)
    assert found.what.startswith("the tokenizer needs code of its author")
    assert found.where == "org/name at 0123/tokenizer_config.json"


def test_configuration_in_another_encoding_is_named(tmp_path):
    files = {**SMALL, "config.json": json.dumps(CONFIG).encode("utf-16"), "model.safetensors": weights()}
    assert "config.json is no JSON" in problems_of(check_model_folder, write(tmp_path, files))[0].what


def test_code_that_a_configuration_brings_is_not_needed():
    check({**GOOD, "config.json": CONFIG | {"auto_map": {"AutoConfig": "own.Config"}}})


def test_no_call_that_loads_from_a_model_leaves_it_open_whether_its_code_is_run():
    calls = []
    for path in (Path(__file__).parents[2] / "components").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("Auto"):
                calls.append(f"{path.name}: {ast.unparse(node)}")
    assert len(calls) == 11
    assert [call for call in calls if "trust_remote_code=False" not in call] == []


def test_names_that_transformers_knows_are_known_here():
    assert set(ACT2CLS) == {*ACTIVATIONS, "prelu", "xielu"}  # these have weights of their own
    assert {"default", *ROPE_INIT_FUNCTIONS} == set(ROPE_TYPES)


@pytest.mark.parametrize("value", ["8", [8], 2.5, {"a": 1}, -1, float("nan")])
@pytest.mark.parametrize("key", ["num_experts", "num_local_experts"])
def test_experts_of_another_form_are_a_mixture_of_experts(key, value):
    assert "mixture of experts" in only_problem_of(check, {**GOOD, "config.json": CONFIG | {key: value}}).what


SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")


@pytest.mark.parametrize("value", ["x", 0, -1, 1.5, None, True, [2], float("inf"), 10**9, 10**70])
@pytest.mark.parametrize("key", SIZES)
def test_size_that_is_no_whole_number_is_named(key, value):
    found = only_problem_of(check, {**GOOD, "config.json": CONFIG | {key: value}})
    assert found.what == f"{key} is {str(value)!r}"
    assert found.where == "org/name at 0123/config.json"


def test_all_sizes_that_are_missing_are_named_at_once():
    found = problems_of(check, {**GOOD, "config.json": {"model_type": "llama", "num_key_value_heads": "2"}})
    assert [problem.what for problem in found] == [
        *(f"{key} is missing" for key in SIZES),
        "num_key_value_heads is '2'",
    ]


def indexed(change):
    """A model in two files, its index changed."""
    files = {**SMALL, **shards()}
    weight_map = json.loads(files[INDEX_NAME])["weight_map"]
    return {**files, INDEX_NAME: json.dumps({"weight_map": change(weight_map)}).encode()}


WHOLE = weights(bytes(2000))
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def only(named, file):
    return {name: of for name, of in named.items() if of == file}


def whole(**sizes):
    """All the weights, with a configuration of other sizes."""
    return {**SMALL, "config.json": json.dumps(CONFIG | sizes).encode(), "model.safetensors": WHOLE}


@pytest.mark.parametrize(
    ("files", "what"),
    [
        *(
            ({**SMALL, "model.safetensors": content}, "model.safetensors is cut or no safetensors file")
            for content in (WHOLE[:-1000], WHOLE + b"x", WHOLE[:20], b"", b"\x80\x04pickle", bytes(8))
        ),
        ({**SMALL, **shards(), FIRST: shards()[FIRST][:-1]}, f"{FIRST} is cut or no safetensors file"),
        (indexed(lambda named: named | {LAYER: FIRST}), f"{FIRST} holds other weights than the index says: {LAYER!r}"),
        (indexed(lambda named: named | {"a": SECOND}), f"{SECOND} holds other weights than the index says: 'a'"),
        (indexed(lambda named: only(named, FIRST)), "9 weights are missing"),
        (indexed(lambda named: only(named, SECOND)), "3 weights are missing"),
        (whole(num_hidden_layers=3), "18 weights are missing"),
        (whole(vocab_size=4), f"2 weights have another shape: {EMBEDDING} [3, 2] instead of [4, 2]"),
        (whole(hidden_size=4), f"12 weights have another shape: {EMBEDDING} [3, 2] instead of [3, 4]"),
    ],
)
def test_weights_that_are_not_whole_or_not_of_this_model_are_named(tmp_path, files, what):
    assert any(problem.what.startswith(what) for problem in problems_of(check_model_folder, write(tmp_path, files)))


def test_every_file_that_is_cut_is_named_at_once(tmp_path):
    files = SMALL | {name: content[: -1 if name in (FIRST, SECOND) else None] for name, content in shards().items()}
    found = problems_of(check_model_folder, write(tmp_path, files))
    assert [problem.where.rpartition("/")[2] for problem in found] == [FIRST, SECOND]
