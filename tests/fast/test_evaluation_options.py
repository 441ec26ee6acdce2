import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.run.evaluation_options import REWIND, EvaluationOptions
from tests.fast.conftest import only_problem_of, problems_of

COMPILED = Path(__file__).parent.parent.parent / "pipeline" / "compiled" / "osft.yaml"
NAMES = {field.name for field in dataclasses.fields(EvaluationOptions)}
URL, MODEL = "https://judge.example/v1", "judge-8b"
PASSWORD = "hunter2"
ADDRESS = "http:// or https:// with a host"
NO_NUMBERS: list[Any] = [None, "1", "", True, False, math.nan, math.inf, -math.inf, [1], {}]
NO_TEXTS: list[Any] = [None, 1, True, 1.5, [], ["a"], {}]

BAD: dict[str, tuple[str, list[Any]]] = {
    "judge_url": (ADDRESS, NO_TEXTS),
    "judge_model": ("a name, a folder or s3://", NO_TEXTS),
    "grader": ("one of auto, endpoint, local, rules", ["judge", "AUTO", *NO_TEXTS]),
    "accept_differences": ("true or false", ["true", 1, 0, None]),
    "judge_concurrency": ("an integer from 1 to 256", [0, 257, *NO_NUMBERS]),
    "judge_timeout_seconds": ("an integer from 1 to 3600", [0, 3601, *NO_NUMBERS]),
    "judge_reply_tokens": ("an integer from 16 to 65536", [15, 65537, *NO_NUMBERS]),
    "regressed_share_max": ("a number from 0 to 1", [-0.1, 1.1, 5.0, *NO_NUMBERS]),
    "retention_margin": ("a number above 0 and up to 100", [0.0, -1.0, 100.1, 1e9, *NO_NUMBERS]),
    "max_answer_tokens": ("an integer from 1 to 4096", [0, -1, 4097, 1.5, *NO_NUMBERS]),
    "lm_eval_tasks": ("names, comma-separated", ["/mnt/osft/tasks.yaml", "../tasks", *NO_TEXTS]),
    "rewind": ("numbers above 0 and below 1", ["1", "0", "0.0", "1.5", "0.5;0.2", "-0.5", "0.1234", "1e-1", *NO_TEXTS]),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, values) in BAD.items() for value in values])
def test_bad_value_is_refused_with_the_option_the_value_and_the_rule(name: str, value: Any) -> None:
    found = only_problem_of(EvaluationOptions.from_mapping, {name: value})
    assert found.what == f"{name} is {str(value)!r}"
    assert found.where == f"parameter {name}"
    assert found.rule.startswith(BAD[name][0])
    assert found.remedy.startswith(f"for instance --{name.replace('_', '-')} ")
    assert f"{name}=" in found.remedy or f'"{name}": ' in found.remedy


@pytest.mark.parametrize("value", [True, 5.0, 2.5, math.nan])
def test_only_whole_numbers_are_taken_when_made_directly(value: Any) -> None:
    assert only_problem_of(EvaluationOptions, max_answer_tokens=value).where == "parameter max_answer_tokens"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("regressed_share_max", [0.0, 1.0]),
        ("retention_margin", [0.1, 100.0]),
        ("grader", ["auto", "rules"]),
        ("judge_model", ["", "org/name", "/models/judge", "s3://bucket/judge", "claude@2026"]),
        ("max_answer_tokens", [1, 4096]),
        ("lm_eval_tasks", ["", "arc_easy", "arc_easy,hellaswag"]),
        ("rewind", ["", "0.5", "0.25, .75,0.125"]),
    ],
)
def test_good_values_at_the_edges_are_taken(name: str, values: list[Any]) -> None:
    for value in values:
        assert getattr(EvaluationOptions.from_mapping({name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("judge_concurrency", 3.0, 3),
        ("max_answer_tokens", 128.0, 128),
        ("regressed_share_max", 0, 0.0),
        ("retention_margin", 5, 5.0),
        ("retention_margin", 2.5, 2.5),
    ],
)
def test_value_comes_as_the_type_of_the_option(name: str, given: Any, taken: Any) -> None:
    value = getattr(EvaluationOptions.from_mapping({name: given}), name)
    assert value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("retention_margins", "retention_margin"), ("Judge_URL", "judge_url"), ("lm_eval_task", "lm_eval_tasks")],
)
def test_unknown_option_is_refused_with_the_nearest_name_and_all_known_ones(name: str, nearest: str) -> None:
    found = only_problem_of(EvaluationOptions.from_mapping, {name: 1})
    assert found.what == f"unknown evaluation option {name!r} (did you mean {nearest}?)"
    assert all(known in found.rule for known in NAMES)


def test_option_that_is_like_none_is_refused_without_a_suggestion() -> None:
    assert only_problem_of(EvaluationOptions.from_mapping, {"zebra": 1}).what == "unknown evaluation option 'zebra'"


def test_all_problems_are_named_at_once() -> None:
    bad: dict[str, Any] = {
        "regressed_share_max": True,
        "retention_margin": 101,
        "max_answer_tokens": 0,
        "zebra": 1,
    }
    bad |= {"lm_eval_tasks": 5, "judge_url": "ftp://judge.example", "judge_model": ""}
    found = problems_of(EvaluationOptions.from_mapping, bad)
    assert len(found) == len(bad)
    assert all(any(name in problem.what for problem in found) for name in bad)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "https://judge.example",
        "HTTPS://judge.example/v1/",
        "https://10.0.0.7:8443/v1",
        "http://[::1]:8000/v1",
        "http://judge.namespace.svc.cluster.local:8080/v1",
    ],
)
def test_address_of_a_judge_is_taken(url: str) -> None:
    options = EvaluationOptions.from_mapping({"judge_url": url, "judge_model": MODEL})
    assert (options.judge_url, options.judge_model) == (url, MODEL)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://judge.example/v1",
        "file:///etc/passwd",
        "judge.example/v1",
        "//judge.example/v1",
        "https://",
        "https:///v1",
        "https:judge.example",
        "http://[::1",
        "https://judge.example:port/v1",
        "https://judge.example:99999/v1",
        "https://judge.example /v1",
        " ",
        "the judge",
    ],
)
def test_address_that_cannot_be_is_refused_and_shown(url: str) -> None:
    found = only_problem_of(EvaluationOptions.from_mapping, {"judge_url": url, "judge_model": MODEL})
    assert found.what == f"judge_url is {url!r}"
    assert found.rule.startswith(ADDRESS)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:{}@judge.example/v1",
        "https://{}@judge.example/v1",
        "https://:{}@judge.example/v1",
        "https://user:{}/x@judge.example",
        "https://user:{}#x@judge.example",
        "https://user:{}@[judge.example",
        "https://judge.example/v1?key={}",
        "https://judge.example/v1?key=a@{}",
        "https://judge.example/v1#{}",
        "ftp://user:{}@judge.example",
        "user:{}@judge.example",
        "https:user:{}@judge.example",
        "https://user:{}@",
    ],
)
@pytest.mark.parametrize("others", [{"judge_model": MODEL}, {}, {"judge_model": 5}, {"retention_margin": -1}])
def test_address_with_a_secret_is_refused_and_not_repeated(url: str, others: dict[str, Any]) -> None:
    found = problems_of(EvaluationOptions.from_mapping, {"judge_url": url.format(PASSWORD), **others})
    assert PASSWORD not in str(found)
    if others.get("judge_model") != 5:
        (address,) = [problem for problem in found if problem.where == "parameter judge_url"]
        assert "may hold a password" in address.what
        assert "JUDGE_API_KEY" in address.rule


@pytest.mark.parametrize("url", [[f"https://user:{PASSWORD}@judge.example"], {"key": f"https://x?{PASSWORD}"}])
def test_secret_in_a_value_that_is_no_text_is_not_repeated(url: Any) -> None:
    assert PASSWORD not in str(only_problem_of(EvaluationOptions.from_mapping, {"judge_url": url}))


def test_secret_in_the_wrong_parameter_is_not_repeated() -> None:
    address = f"https://user:{PASSWORD}@judge.example"
    for values in ({"judge_model": address}, {"max_answer_tokens": address}, {"judge_key": address}):
        assert PASSWORD not in str(only_problem_of(EvaluationOptions.from_mapping, values))


def test_an_endpoint_without_a_model_is_refused() -> None:
    found = only_problem_of(EvaluationOptions.from_mapping, {"judge_url": URL})
    assert found.where == "parameter judge_model"
    assert "--judge-model NAME" in found.remedy


@pytest.mark.parametrize(
    ("values", "local"),
    [
        ({"judge_model": MODEL}, MODEL),
        ({"judge_model": MODEL, "judge_url": URL}, ""),
        ({"judge_model": MODEL, "grader": "rules"}, ""),
        ({}, ""),
    ],
)
def test_a_judge_model_without_an_endpoint_judges_on_this_machine(values: dict[str, str], local: str) -> None:
    assert EvaluationOptions.from_mapping(values).local_judge == local


@pytest.mark.parametrize(
    "values", [{"grader": "endpoint"}, {"grader": "local", "judge_url": URL, "judge_model": MODEL}]
)
def test_a_grader_that_contradicts_the_address_is_refused(values: dict[str, str]) -> None:
    assert only_problem_of(EvaluationOptions.from_mapping, values).where == "evaluation option grader"


@pytest.mark.parametrize("name", EvaluationOptions.REPLACED)
def test_options_of_earlier_releases_are_refused_with_what_to_use(name: str) -> None:
    found = only_problem_of(EvaluationOptions.from_mapping, {name: 1})
    assert found.what.startswith(f"unknown evaluation option '{name}'")
    assert found.remedy == EvaluationOptions.REPLACED[name]


@pytest.mark.parametrize(
    ("text", "tasks"),
    [("", []), (" , ", []), ("arc_easy", ["arc_easy"]), (" arc_easy ,hellaswag,", ["arc_easy", "hellaswag"])],
)
def test_tasks_are_parsed(text: str, tasks: list[str]) -> None:
    assert EvaluationOptions(lm_eval_tasks=text).tasks == tasks


def test_defaults_are_those_that_the_project_promises() -> None:
    assert dataclasses.asdict(EvaluationOptions.from_mapping({})) == {
        "judge_url": "",
        "judge_model": "",
        "regressed_share_max": 0.1,
        "retention_margin": 10.0,
        "grader": "auto",
        "accept_differences": False,
        "judge_concurrency": 8,
        "judge_timeout_seconds": 60,
        "judge_reply_tokens": 400,
        "max_answer_tokens": 256,
        "lm_eval_tasks": "",
        "rewind": REWIND,
    }


def test_compiled_pipeline_has_every_option_with_its_default() -> None:
    pipeline = next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    own = NAMES & set(parameters)
    assert len(own) >= 4
    for name in own:
        assert parameters[name]["defaultValue"] == getattr(EvaluationOptions(), name), name
    for name in NAMES - own:
        assert name in parameters["evaluation_options"]["description"], name
    assert EvaluationOptions.from_mapping({name: parameters[name]["defaultValue"] for name in own}) == (
        EvaluationOptions()
    )
