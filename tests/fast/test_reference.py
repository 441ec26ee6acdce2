"""Models between steps: a note goes through KFP, the model stays where it is."""

import json
import re

import pytest
import yaml

from components.models.reference import find_judge, find_model, refer_to
from components.shared.problems import Problems
from components.snapshot_model.core import snapshot_model
from pipeline.compile import COMPILED
from tests.model_files import SMALL, weights, write
from tests.tables import table

MARKER = "snapshot.json"


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "workspace" / "models" / "org--name" / "0123"
    folder.mkdir(parents=True)
    (folder / MARKER).write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def note(model, tmp_path):
    refer_to(model, MARKER, tmp_path / "workspace", commit="0123", run_key="6fdf").write(tmp_path / "note")
    return tmp_path / "note"


def test_the_note_says_which_model_and_leads_to_it(model, note, tmp_path):
    said = json.loads(note.read_text(encoding="utf-8"))

    assert (said["path"], said["commit"], said["run_key"]) == ("models/org--name/0123", "0123", "6fdf")
    assert find_model(note, tmp_path / "workspace") == model
    assert note.stat().st_size < 1000


def test_a_judge_for_the_gpu_is_fetched_with_the_base_model_and_found_by_its_note(tmp_path):
    base, judge = (write(tmp_path / name, SMALL | {"model.safetensors": weights()}) for name in ("base", "judge"))
    workspace, note = tmp_path / "workspace", tmp_path / "note"
    step = {"model": str(base), "revision": "main", "workspace": workspace, "note": note}

    snapshot_model(**step, judge_model=str(judge))
    assert find_model(note, workspace).parent.name == "local--base"
    found = find_judge(note, workspace)
    assert found is not None
    assert found.parent.name == "local--judge"

    for given in ({}, {"judge_model": str(base)}, {"judge_model": "judge", "judge_url": "https://judge.example/v1"}):
        snapshot_model(**step, **given)
        assert find_judge(note, workspace) is None


def test_the_workspace_may_be_mounted_elsewhere_in_the_next_step(model, note, tmp_path):
    (tmp_path / "workspace").rename(tmp_path / "mounted")

    assert find_model(note, tmp_path / "mounted") == tmp_path / "mounted" / "models" / "org--name" / "0123"


@pytest.mark.parametrize(("changes", "found"), table("reference", "elsewhere"))
def test_a_note_that_leads_elsewhere_is_refused(model, note, tmp_path, changes, found):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / MARKER).write_text("{}", encoding="utf-8")
    (tmp_path / "workspace" / "models" / "link").symlink_to(tmp_path / "elsewhere")
    said = json.loads(note.read_text(encoding="utf-8"))
    note.write_text(changes if isinstance(changes, str) else json.dumps(said | changes), encoding="utf-8")

    with pytest.raises(Problems, match=found):
        find_model(note, tmp_path / "workspace")


def test_no_step_hands_anything_on_by_a_uri_of_its_own():
    pipeline = next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))
    programs = {
        name: item["container"]["command"][-1] for name, item in pipeline["deploymentSpec"]["executors"].items()
    }
    models = [
        (name, output)
        for name, component in pipeline["components"].items()
        for output, item in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        if item["artifactType"]["schemaTitle"] == "system.Model"
    ]

    assert models == [
        ("comp-publish", "published"),
        ("comp-snapshot-model", "snapshot"),
        ("comp-train-osft", "adapted"),
    ]
    assert len(programs) == 8
    for name, program in programs.items():
        assert not re.search(r"\.uri\s*=", program), name
    for component, output in models:
        program = programs[component.replace("comp-", "exec-")]
        assert f"{output}.path" in program, "the note is written where KFP uploads it from"
        assert f"{output}.metadata.update(" in program, "and the dashboard shows the same"
