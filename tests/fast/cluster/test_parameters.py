"""A run's parameters, checked before anything is sent."""

import re
import time
from typing import Any

import pytest

from components.shared.problems import Problems
from pipeline.cluster.compiled_file import CompiledPipeline
from pipeline.parameters import read_parameters
from tests.fast.cluster.conftest import PARAMETERS
from tests.fast.conftest import only_problem_of
from tests.tables import table


def test_everything_wrong_is_named_at_once_and_nothing_is_sent(server, osft, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text("revision: 1.0\nnum_epoch: 3\n", encoding="utf-8")
    wrong = {
        "questions=": "questions is ''",
        "max_seq_len=many": "max_seq_len is 'many'",
        "seed=-1": "seed is '-1'",
        "unfreeze_rank_ratio=1.5": "unfreeze_rank_ratio is '1.5'",
        'training_options={"warmup_stps": 1}': "did you mean warmup_steps?",
        "retention_margin=300": "retention_margin is '300.0'",
        "evaluation_options=[1]": "evaluation_options is '[1]'",
        "model": "--param 'model' has no value",
    }

    code, _, err = osft("submit", "--params", file, *(part for text in wrong for part in ("--param", text)))

    assert code == 1
    for message in (
        "11 problems",
        "unknown parameter 'num_epoch' (did you mean num_epochs?)",
        "revision is '1.0'",
        "remedy: put it in quotes",
        "data is missing",
        *wrong.values(),
    ):
        assert message in err
    assert not server.requests


@pytest.mark.parametrize(("yaml_text", "flags", "expected"), table("parameters", "given"))
def test_parameters_from_a_file_and_from_flags(pipeline, tmp_path, yaml_text, flags, expected):
    file = tmp_path / "parameters.yaml"
    file.write_text("data: /mnt/osft/a\nquestions: /mnt/osft/b\n" + yaml_text, encoding="utf-8")

    read = read_parameters(pipeline, flags, file)

    assert read == {"data": "/mnt/osft/a", "questions": "/mnt/osft/b", **expected}
    assert [type(read[name]) for name in expected] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(("yaml_text", "message"), table("parameters", "wrong"))
def test_a_wrong_value_in_the_file(pipeline, tmp_path, yaml_text, message):
    file = tmp_path / "parameters.yaml"
    file.write_text(f"data: /mnt/osft/a\nquestions: /mnt/osft/b\n{yaml_text}\n", encoding="utf-8")

    with pytest.raises(Problems, match=re.escape(message)):
        read_parameters(pipeline, [], file)


def read(pipeline: CompiledPipeline, **values: str) -> dict[str, Any]:
    given = {"data": "/mnt/osft/a", "questions": "/mnt/osft/b", **values}
    return read_parameters(pipeline, [f"{name}={value}" for name, value in given.items()], None)


@pytest.mark.parametrize(("name", "good", "bad"), table("parameters", "usable"))
def test_a_pod_must_be_able_to_use_it(pipeline, name, good, bad):
    for value in good:
        assert read(pipeline, **{name: value})[name] == value
    for value in bad:
        assert only_problem_of(read, pipeline, **{name: value}).where == f"parameter {name}", value


@pytest.mark.parametrize("name", ["data", "questions", "retention_questions", "model"])
@pytest.mark.parametrize("address", table("reach", "secrets"))
def test_an_address_with_a_secret_is_refused_and_not_repeated(pipeline, name, address):
    with pytest.raises(Problems) as error:
        read(pipeline, **{name: address})

    assert f"parameter {name}" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_an_address_in_a_place_where_none_belongs_is_not_repeated(osft, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text('model: ["https://u:hunter2@host.example/"]\n', encoding="utf-8")
    wrong = ["--param", "https://u:hunter2@host.example/", "--param", "https://host.example/?X-Amz-Signature=hunter2"]

    _, out, err = osft("submit", *PARAMETERS, "--params", file, *wrong)

    assert "3 problems" in err
    assert "hunter2" not in out + err


@pytest.mark.parametrize(("name", "options", "parameter"), table("parameters", "further"))
def test_an_option_that_is_a_parameter_is_refused_among_the_further_ones(pipeline, name, options, parameter):
    remedy = only_problem_of(read, pipeline, **{name: options}).remedy
    assert remedy.startswith(f"take it out there, and add --{parameter.replace('_', '-')} ")


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "aliases like *a0 are not read"),
        ("training_options: &a {b: *a}", "aliases like *a are not read"),
        ("model: " + "[" * 50_000, "nested more than 20 deep"),
        ("training_options: " + "{a: " * 30 + "}" * 30, "nested more than 20 deep"),
        ("seed: " + "9" * 400, "too long for a number"),
        ("seed: 0x" + "f" * 5000, "too long for a number"),
        ("learning_rate: 1" + ":59" * 300, "too long for a number"),
        ("seed: " + "9" * 30, "seed is"),
        ("seed: '" + "9" * 400 + "'", "seed is"),
        ("seed: !!int ''", "no YAML"),
        ("model: !!timestamp x", "no YAML"),
        ("model: 2026-99-99", "no YAML"),
        ("seed: 1\n---\nseed: 2", "no file of parameters"),
        ("".join(f"a{n}: 1\n" for n in range(1000)), "no file of parameters"),
        ("# " + "x" * (1 << 16), "longer than 64 KiB"),
    ],
    ids=lambda text: text[:30],
)
def test_a_file_of_any_content_is_read_in_bounded_time(pipeline, tmp_path, text, message):
    file = tmp_path / "parameters.yaml"
    file.write_text(text, encoding="utf-8")

    started = time.monotonic()
    with pytest.raises(Problems, match=re.escape(message)):
        read_parameters(pipeline, [], file)

    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "value", ["[" * 100_000, '{"warmup_steps": ' + "9" * 400 + "}", '{"warmup_steps": ' + "9" * 5000 + "}"]
)
def test_options_that_nobody_could_send_are_one_error(pipeline, value):
    assert "training_options is" in only_problem_of(read, pipeline, training_options=value).what
