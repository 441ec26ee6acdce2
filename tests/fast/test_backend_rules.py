"""KFP's driver and launcher by their rules: what they hand on, refuse, and lose. Each row was seen on KFP 2.16.1."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.local.driver import (
    LOGS,
    BackendError,
    Dag,
    Outputs,
    as_protobuf,
    provision_outputs,
    resolve_inputs,
    will_trigger,
)
from pipeline.local.launcher import ObjectStore, Pod, StepExited, as_metadata, launch
from tests.tables import table

ROOT = "minio://mlpipeline/v2/artifacts/osft/run/task/0000"
DEFINED = {
    "artifacts": {"model": {"artifactType": {"schemaTitle": "system.Model"}}},
    "parameters": {"Output": {"parameterType": "BOOLEAN"}},
}


@pytest.fixture
def pod(tmp_path):
    return Pod.make(tmp_path / "pod")


@pytest.fixture
def store(tmp_path):
    return ObjectStore(folder=tmp_path / "store")


def given(uri: str = "", defined: dict[str, Any] = DEFINED) -> dict[str, Any]:
    artifacts = {"data": {"artifacts": [{"name": "1", "uri": uri}]}} if uri else {}
    outputs = provision_outputs({"outputDefinitions": defined}, ROOT)
    return {"inputs": {"parameterValues": {}, "artifacts": artifacts}, "outputs": outputs}


def writing(code: int = 0, content: str | None = "note", **output: Any) -> Any:
    """An executor that writes its artifact, and what the SDK would write about it."""

    def execute(told: dict[str, Any], log: Path) -> int:
        log.write_text("what it printed\n", encoding="utf-8")
        path = Path(told["outputs"]["outputFile"]).parent / "model"
        if content is not None:
            path.write_text(content, encoding="utf-8")
        Path(told["outputs"]["outputFile"]).write_text(json.dumps(output), encoding="utf-8")
        return code

    return execute


def about_model(**values: Any) -> dict[str, Any]:
    return {"artifacts": {"model": {"artifacts": [values]}}, "parameterValues": {"Output": True}}


@pytest.mark.parametrize(
    "uri", ["/mnt/osft/models/a", "file:///mnt/osft/a", "pvc://claim/a", "https://host/a", "minio:/a"]
)
def test_an_input_artifact_outside_of_the_object_stores_ends_the_task_before_its_step(pod, store, uri):
    def never(told: dict[str, Any], log: Path) -> int:
        raise AssertionError("the step was started")

    with pytest.raises(BackendError, match="unrecognized uri format"):
        launch(given(uri), {}, pod, store, never)


def test_input_artifacts_are_copied_to_the_pods_own_folder(pod, store, tmp_path):
    (tmp_path / "rows").write_text("rows", encoding="utf-8")
    store.upload(tmp_path / "rows", "s3://bucket/rows")

    launch(given("s3://bucket/rows"), {}, pod, store, writing())

    assert (pod.root / "s3" / "bucket" / "rows").read_text(encoding="utf-8") == "rows"


def test_an_input_artifact_that_nobody_wrote_ends_the_task(pod, store):
    with pytest.raises(BackendError, match="nothing is there"):
        launch(given("minio://mlpipeline/a"), {}, pod, store, writing())


def test_outputs_are_uploaded_under_kfps_uri_and_the_log_beside_them(pod, store):
    made = launch(given(), {"Output": {}}, pod, store, writing(**about_model(metadata={"steps": 3})))

    assert made.artifacts["model"]["uri"] == f"{ROOT}/model"
    assert made.artifacts["model"]["metadata"] == {"steps": 3}
    assert made.parameters == {"Output": True}
    assert store.path_of(f"{ROOT}/model").read_text(encoding="utf-8") == "note"
    assert store.path_of(f"{ROOT}/{LOGS}").read_text(encoding="utf-8") == "what it printed\n"


def test_a_uri_that_the_executor_changed_is_kept_and_nothing_is_uploaded(pod, store):
    made = launch(given(), {"Output": {}}, pod, store, writing(**about_model(uri="pvc://claim/model")))

    assert made.artifacts["model"]["uri"] == "pvc://claim/model"
    assert not store.path_of(f"{ROOT}/model").exists()


def test_a_missing_output_file_is_no_error_of_the_task(pod, store):
    made = launch(given(), {"Output": {}}, pod, store, writing(content=None, **about_model()))

    assert made.artifacts["model"]["uri"] == f"{ROOT}/model"


def test_a_missing_output_parameter_is_one(pod, store):
    with pytest.raises(BackendError, match="output parameter name='Output'"):
        launch(given(), {"Output": {}}, pod, store, writing())


def test_of_a_step_that_failed_only_the_log_is_kept(pod, store):
    with pytest.raises(StepExited, match="exit status 1"):
        launch(given(), {"Output": {}}, pod, store, writing(code=1, **about_model()))

    assert store.path_of(f"{ROOT}/{LOGS}").exists()
    assert not store.path_of(f"{ROOT}/model").exists()


@pytest.mark.parametrize(("value", "found"), table("backend_rules", "metadata"))
def test_metadata_comes_back_through_ml_metadata(value, found):
    assert as_metadata({"value": value}, "model") == {"value": found}
    assert type(as_metadata({"value": value}, "model")["value"]) is type(found)


def test_metadata_without_a_value_ends_the_task_after_its_work():
    with pytest.raises(BackendError, match="'model': commit is null"):
        as_metadata({"run_key": "a", "commit": None}, "model")


@pytest.mark.parametrize(
    ("value", "found"),
    [(5.0, 5), (5, 5), (5e-06, 5e-06), (True, True), ({"a": [1.0, "b", None]}, {"a": [1, "b", None]}), (1e22, 1e22)],
)
def test_the_kind_of_a_number_is_not_kept(value, found):
    assert as_protobuf(value) == found
    assert type(as_protobuf(value)) is type(found)


def test_inputs_come_from_the_dag_from_tasks_from_constants_and_from_defaults():
    task = {
        "inputs": {
            "parameters": {
                "a": {"componentInputParameter": "given"},
                "b": {"taskOutputParameter": {"producerTask": "before", "outputParameterKey": "Output"}},
                "c": {"runtimeValue": {"constant": 4.0}},
                "status": {"taskFinalStatus": {"producerTask": "all"}},
            },
            "artifacts": {"d": {"taskOutputArtifact": {"producerTask": "before", "outputArtifactKey": "model"}}},
        }
    }
    component = {"inputDefinitions": {"parameters": {"e": {"defaultValue": 1.0}, "a": {"defaultValue": "no"}}}}
    before = Outputs(parameters={"Output": True}, artifacts={"model": {"uri": "minio://a"}})

    parameters, artifacts = resolve_inputs(
        task, component, Dag(parameters={"given": "x"}, artifacts={}, tasks={"before": before}), "osft-1"
    )

    assert parameters == {
        "a": "x", "b": True, "c": 4, "e": 1,
        "status": {"state": "RUNNING", "pipelineTaskName": "all", "pipelineJobResourceName": "osft-1", "error": {}},
    }  # fmt: skip
    assert artifacts == {"d": {"uri": "minio://a"}}


@pytest.mark.parametrize("missing", ["parameter", "artifact"])
def test_an_input_that_no_task_made_is_refused(missing):
    source = {"producerTask": "before", "outputParameterKey": "x", "outputArtifactKey": "x"}
    inputs = {
        "parameter": {"parameters": {"a": {"taskOutputParameter": source}}},
        "artifact": {"artifacts": {"a": {"taskOutputArtifact": source}}},
    }
    dag = Dag(parameters={}, artifacts={}, tasks={"before": Outputs(parameters={}, artifacts={})})

    with pytest.raises(BackendError, match=missing):
        resolve_inputs({"inputs": inputs[missing]}, {}, dag, "run")


@pytest.mark.parametrize(
    ("value", "runs"), [(True, True), (False, False), ("true", False), (1, False)]
)  # a comparison of CEL: of one type only
def test_a_condition_compares_one_output_with_true(value, runs):
    task = {"triggerPolicy": {"condition": "inputs.parameter_values['plan-Output'] == true"}}

    assert will_trigger(task, {"plan-Output": value}) is runs


def test_any_other_condition_is_refused_and_not_guessed():
    with pytest.raises(BackendError, match="condition"):
        will_trigger({"triggerPolicy": {"condition": "inputs.parameter_values['a'] == 'x'"}}, {"a": "x"})
