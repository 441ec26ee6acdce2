"""The pipeline as objects for GitOps."""

import json

import pytest
from kfp import compiler

from pipeline import graph
from pipeline.cluster import release
from pipeline.cluster.compiled_file import PIPELINE, read_pipeline
from pipeline.settings import load_settings
from tests.cluster_file import compiled_for_a_cluster
from tests.fast.conftest import only_problem_of
from tests.kustomize import read_objects

MAX_OBJECT = 262144  # bytes of the annotation in which kubectl apply keeps an object


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return compiled_for_a_cluster(tmp_path_factory.mktemp("compiled"))


def test_a_release_holds_the_compiled_pipeline_and_is_named_as_upload_names_it(compiled, tmp_path):
    release.write_release(compiled, tmp_path / "release.yaml")
    pipeline = read_pipeline(compiled)
    spec, platform = read_objects(compiled)
    named, version = read_objects(tmp_path / "release.yaml")

    assert named["metadata"]["name"] == version["spec"]["pipelineName"] == spec["pipelineInfo"]["name"]
    assert version["metadata"]["name"] == version["spec"]["displayName"] == pipeline.version
    assert named["spec"]["displayName"] == pipeline.name, "by this name kfp finds a pipeline"
    assert version["spec"]["pipelineSpec"] == spec
    assert version["spec"]["platformSpec"] == platform


def test_objects_have_the_form_that_kfp_gives_them(tmp_path):
    options = compiler.KubernetesManifestOptions(include_pipeline_manifest=True)
    file = tmp_path / "kfp.yaml"
    compiler.Compiler().compile(
        graph.build(load_settings()), str(file), kubernetes_manifest_format=True, kubernetes_manifest_options=options
    )

    for theirs, ours in zip(read_objects(file), release.objects_of(PIPELINE), strict=True):
        assert (theirs["apiVersion"], theirs["kind"]) == (ours["apiVersion"], ours["kind"])
        assert set(ours["spec"]) == {*theirs["spec"], "description"}
        for key in ("pipelineName", "platformSpec"):
            assert theirs["spec"].get(key) == ours["spec"].get(key)


def test_an_object_is_small_enough_for_kubectl_apply(compiled):
    assert all(len(json.dumps(item)) < MAX_OBJECT for item in release.objects_of(compiled))


def test_a_release_of_something_else_is_refused_and_writes_nothing(compiled, tmp_path):
    output = tmp_path / "pipeline.yaml"
    other, half = tmp_path / "other.yaml", tmp_path / "half.yaml"
    other.write_text("kind: ConfigMap\n", encoding="utf-8")
    half.write_text(compiled.read_text(encoding="utf-8").split("\n---\n")[0], encoding="utf-8")

    for wrong, target in ((other, output), (half, output), (PIPELINE, output), (compiled, tmp_path)):
        named = tmp_path if target is tmp_path else wrong
        assert str(named) in only_problem_of(release.write_release, wrong, target).where
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.yaml", "other.yaml"]
