"""The shapes that a plan reads from config.json are those of the model that transformers builds from it."""

import json
from typing import Any

import pytest
import torch
from mini_trainer.osft_utils import get_model_patterns
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from components.models.configuration import TRAINABLE_TYPES
from components.models.shapes import Shapes, default_patterns
from components.shared.problems import Checks
from components.training.factors import target_names
from tests.tables import table

SIZES: dict[str, Any] = table("shapes", "sizes")
# Each is tried with every family; those that do not know an entry must ignore it, as transformers does.
VARIANTS: dict[str, dict[str, Any]] = table("shapes", "variants")
# Entries that a config.json may lack. Heads are 64 here, which all families' numbers of key heads divide.
ABSENT = ["head_dim", "num_key_value_heads", "attention_bias", "mlp_bias", "tie_word_embeddings"]


def built(config: PretrainedConfig) -> Shapes:
    """The shapes of the model that transformers builds."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    targets = {f"{name}.weight" for name in target_names(model, get_model_patterns(type(model)), 0.25)}
    every = dict(model.named_parameters())
    first = [name for name in every if ".layers.0." in name]
    assert len(targets) == config.num_hidden_layers * len(targets.intersection(first))
    rest = {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"}
    assert {name for name in every if ".layers." not in name} | {"lm_head.weight"} == rest
    # The attention's output matrix, of all families, is as wide as the query heads together.
    query = every["model.layers.0.self_attn.o_proj.weight"].shape[1]
    return Shapes(
        layers=config.num_hidden_layers,
        hidden=every["model.norm.weight"].numel(),
        intermediate=every["model.layers.0.mlp.down_proj.weight"].shape[1],
        query=query,
        vocabulary=every["model.embed_tokens.weight"].shape[0],
        matrices={
            name.removeprefix("model.layers.0.").removesuffix(".weight"): tuple(every[name].shape)  # type: ignore[misc]
            for name in first
            if name in targets
        },
        vectors={
            name.removeprefix("model.layers.0."): every[name].numel()  # of one dimension
            for name in first
            if name not in targets
        },
        tied="lm_head.weight" not in every,
    )


def tensors_of(config: PretrainedConfig) -> dict[str, tuple[int, ...]]:
    """Every weight of the model that transformers builds, with the output layer also where it is tied."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {name: tuple(value.shape) for name, value in model.named_parameters(remove_duplicate=False)}


@pytest.mark.parametrize("family", TRAINABLE_TYPES)
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_shapes_are_those_of_the_model_that_transformers_builds(tmp_path, family, variant):
    config = AutoConfig.for_model(family, **(SIZES | variant))
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())

    expected = built(config)

    assert Shapes.of(config.to_dict()) == expected
    assert Shapes.of(written) == expected
    assert Shapes.of(written).tensors() == tensors_of(config)


@pytest.mark.parametrize("family", TRAINABLE_TYPES)
@pytest.mark.parametrize("absent", ABSENT)
def test_what_config_json_does_not_say_is_what_transformers_takes(tmp_path, family, absent):
    sizes = SIZES | {"hidden_size": 128, "num_attention_heads": 64}
    AutoConfig.for_model(family, **sizes).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values.pop(absent, None)
    (tmp_path / "config.json").write_text(json.dumps(values))

    assert Shapes.of(values) == built(AutoConfig.from_pretrained(tmp_path))


@pytest.mark.parametrize("family", ["granite", "llama", "phi3", "qwen2", "qwen3"])  # the others refuse it
def test_null_for_key_heads_means_one_for_each_query_head(tmp_path, family):
    AutoConfig.for_model(family, **SIZES).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text()) | {"num_key_value_heads": None}
    (tmp_path / "config.json").write_text(json.dumps(values))

    assert Shapes.of(values) == built(AutoConfig.from_pretrained(tmp_path))


CHOICES = [
    ("q_proj",),
    ("self_attn",),
    ("layers.0.", "down_proj"),
    ("model",),
    ("weight",),
    ("proj.weight", "layers.2.mlp"),
]


@pytest.mark.parametrize("family", TRAINABLE_TYPES)
@pytest.mark.parametrize("patterns", [None, *CHOICES])
def test_patterns_choose_the_same_matrices_in_the_plan_as_in_the_training(family, patterns):
    config = AutoConfig.for_model(family, **SIZES, tie_word_embeddings=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)

    planned = Shapes.of(config.to_dict()).targets(patterns)

    names = {f"model.layers.{layer}.{name}" for layer, found in enumerate(planned) for name in found}
    assert names == set(target_names(model, patterns or default_patterns(family), 0.25))
    assert names or (family, patterns) == ("phi3", ("q_proj",))  # there it is a part of qkv_proj


def test_each_pattern_without_a_match_is_a_problem_that_names_what_there_is():
    checks = Checks()

    Shapes.of(AutoConfig.for_model("llama", **SIZES).to_dict()).check_patterns(
        ("q_proj", "mlp.gate_prog", "lm_head", "layers.3."), "target_patterns", checks
    )

    assert [found.what for found in checks.problems] == [
        "'mlp.gate_prog' is not part of any matrix' name (did you mean mlp.gate_proj?)",
        "'lm_head' is not part of any matrix' name",
        "'layers.3.' is not part of any matrix' name",
    ]
    assert "model.layers.0.self_attn.q_proj.weight" in checks.problems[0].rule
