"""A good model becomes available once, in the registry with its lineage, through the registry's own client."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from components.publish.core import publish, servable_uri
from components.run.plan import Generation
from components.run.publication import is_published, registered_name, registry_address
from components.shared.problems import Problems
from components.shared.storage import read_json, write_json
from tests.certificates import write_certificate
from tests.fast.conftest import only_problem_of
from tests.registry_server import RegistryServer
from tests.run_records import PLAN, REPORT, as_written, hand_on, write_summary
from tests.tables import table

KEY = "6fdfa8e78ea3eea2"
NAME = "granite-3.2-8b-instruct-osft"
URI = f"pvc://osft-workspace/adapted/{KEY}"


class Run:
    """A workspace with an adapted and evaluated model."""

    def __init__(self, workspace: Path, registry: str = "", name: str = NAME) -> None:
        self.workspace = workspace
        self.note = workspace / "runs" / KEY / "published.json"
        planned = dataclasses.replace(PLAN, publish={"name": name, "registry": "https://another.example"})
        self.registry = registry  # of the cluster file: what a plan says is not asked
        write_json(workspace / "plan.json", as_written(planned))
        write_json(workspace / "adapted" / KEY / "training_report.json", as_written(REPORT, plan=planned))
        write_summary(workspace / "runs" / KEY, "closed 7 of the 10", {"closed": 7.0})

    def publish(self, claim: str = "osft-workspace") -> dict[str, Any]:
        adapted = hand_on(self.workspace / "adapted" / KEY, self.workspace, "training_report.json")
        plan = self.workspace / "plan.json"
        note = self.workspace / "note"
        publish(
            adapted=adapted, plan=plan, workspace=self.workspace, claim=claim, registry=self.registry, note=note
        )  # fmt: skip
        return read_json(self.note)


def test_without_a_registry_the_workspace_knows_what_is_published(tmp_path):
    run = Run(tmp_path)
    assert not is_published(tmp_path, KEY, KEY, NAME, "")

    found = run.publish()

    assert found.pop("published_at")
    assert found == {
        "name": NAME, "version": KEY, "registry": "", "entry": "", "uri": URI,
    }  # fmt: skip
    assert is_published(tmp_path, KEY, KEY, NAME, "")
    assert not is_published(tmp_path, KEY, KEY, "another-name", "")
    assert not is_published(tmp_path, KEY, KEY, NAME, "https://registry.example")


def test_registry_gets_the_model_its_version_its_address_and_where_it_comes_from(tmp_path):
    with RegistryServer() as registry:
        found = Run(tmp_path, registry.url).publish()

    (model,), (version,), (artifact,) = registry.models, registry.versions, registry.artifacts
    assert model["name"] == NAME
    assert (version["name"], version["registeredModelId"], version["id"]) == (KEY, model["id"], found["entry"])
    assert version["description"] == "closed 7 of the 10"
    assert (artifact["uri"], artifact["modelFormatName"], artifact["version"]) == (URI, "safetensors", version["id"])
    values = {name: next(v for k, v in value.items() if k != "metadataType")
              for name, value in version["customProperties"].items()}  # fmt: skip
    assert values["base_model"] == "ibm-granite/granite-3.2-8b-instruct"
    assert values["base_model_commit"] == "0" * 40
    assert values["data_digest"] == "d1"
    assert values["option_learning_rate"] == 5e-6
    assert values["evaluation_closed"] == 7.0
    assert values["version_torch"] == "2.13.0"
    assert "option_target_patterns" not in values


def test_a_rewound_model_is_published_in_place_of_the_trained_one_with_what_it_started_from(tmp_path):
    key = f"{KEY}-0.75"
    earlier = Generation(
        run_key="1" * 16, model="1" * 16, data_digest="d0", data_source="qa.csv", samples=9, published_at="2026-01-02"
    )
    planned = dataclasses.replace(PLAN, lineage=[earlier])
    with RegistryServer() as registry:
        run = Run(tmp_path, registry.url)
        summary = tmp_path / "runs" / KEY / "summary.json"
        write_json(summary, read_json(summary) | {"adapted": str(tmp_path / "adapted" / key)})
        with pytest.raises(Problems, match="the model that was found good is not there any more"):
            run.publish()
        report = as_written(REPORT, plan=planned, rewound=0.75)
        write_json(tmp_path / "adapted" / key / "training_report.json", report)
        found = run.publish()

    assert (found["version"], found["uri"]) == (key, f"pvc://osft-workspace/adapted/{key}")
    assert read_json(tmp_path / "note")["path"] == f"adapted/{key}"
    assert is_published(tmp_path, KEY, key, NAME, registry.url)
    assert not is_published(tmp_path, KEY, KEY, NAME, registry.url)
    (version,) = registry.versions
    values = {name: next(v for k, v in value.items() if k != "metadataType")
              for name, value in version["customProperties"].items()}  # fmt: skip
    assert (values["share_of_change"], values["starts_from"]) == (0.75, "1" * 16)
    assert values["generation_1"] == earlier.words


def test_published_model_is_not_registered_again(tmp_path, capsys):
    with RegistryServer() as registry:
        run = Run(tmp_path, registry.url)
        first, writes = run.publish(), registry.writes
        assert run.publish() == first

    assert registry.writes == writes == 3
    assert "already published as" in capsys.readouterr().out


@pytest.mark.parametrize("writes", [1, 2])
def test_publishing_that_broke_off_goes_on_where_it_stopped(tmp_path, writes):
    with RegistryServer(fails_after=writes) as registry:
        run = Run(tmp_path, registry.url)
        with pytest.raises(Problems, match="the model registry answered 500"):
            run.publish()
        assert not run.note.exists()
        run.publish()

    assert (len(registry.models), len(registry.versions), len(registry.artifacts)) == (1, 1, 1)


def test_entry_without_a_note_is_taken_over(tmp_path, capsys):
    """A pod killed between the registry's last answer and the note."""
    with RegistryServer() as registry:
        run = Run(tmp_path, registry.url)
        first = run.publish()
        run.note.unlink()
        assert run.publish()["entry"] == first["entry"]

    assert len(registry.versions) == 1
    assert f"the registry already has {NAME}, version {KEY}" in capsys.readouterr().out


def test_same_version_with_another_address_is_an_error_that_names_both(tmp_path):
    with RegistryServer() as registry:
        run = Run(tmp_path, registry.url)
        run.publish()
        run.note.unlink()
        with pytest.raises(Problems) as error:
            run.publish(claim="another-claim")

    assert URI in str(error.value)
    assert f"pvc://another-claim/adapted/{KEY}" in str(error.value)
    assert "publish_as" in str(error.value)
    assert not run.note.exists()


@pytest.mark.parametrize(
    ("status", "remedy", "may_pass"),
    [(400, "run again", False), (401, "user role", False), (403, "user role", False), (429, "run again", True),
     (500, "run again", True), (503, "run again", True)],
)  # fmt: skip
def test_registry_that_refuses_is_one_clear_error_that_says_whether_it_may_pass(tmp_path, status, remedy, may_pass):
    with RegistryServer(status=status) as registry:
        problem = only_problem_of(Run(tmp_path, registry.url).publish)

    assert f"answered {status}" in problem.what
    assert remedy in problem.remedy
    assert problem.may_pass == may_pass


@pytest.mark.parametrize(
    ("url", "cause", "may_pass"),
    [("http://127.0.0.1:9", "ClientConnectorError", True), ("https://registry.example", "FileNotFoundError", False)],
    ids=["a server that is away", "no token"],
)
def test_registry_that_cannot_be_reached_is_one_clear_error(tmp_path, url, cause, may_pass):
    problem = only_problem_of(Run(tmp_path, url).publish)

    assert problem.what == f"the model registry cannot be reached: {cause}"
    assert problem.may_pass == may_pass


@pytest.mark.parametrize(("url", "address"), table("publish", "addresses"))
def test_address_is_scheme_host_and_port(url, address):
    assert registry_address(url) == address


@pytest.mark.parametrize("url", table("publish", "no_addresses"))
def test_address_with_more_or_less_is_refused_and_not_shown(tmp_path, url):
    with pytest.raises(Problems, match="for instance https://registry") as error:
        registry_address(url)
    assert "s3cret" not in str(error.value)
    with pytest.raises(Problems, match="for instance https://registry"):
        Run(tmp_path, url).publish()


def test_token_of_the_pod_is_not_sent_without_tls(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("planted-token", encoding="utf-8")
    monkeypatch.setattr("components.publish.core.TOKEN_FILE", token)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    with RegistryServer() as registry:
        Run(tmp_path, registry.url).publish()

    assert not any("planted-token" in sent for sent in registry.authorizations)


def test_registry_with_tls_gets_the_token_and_is_trusted_by_the_authorities_of_the_pod(tmp_path, monkeypatch):
    """The way that a cluster uses: SSL_CERT_FILE is what a pod gets its authorities by."""
    token = tmp_path / "token"
    token.write_text("planted-token\n", encoding="utf-8")
    monkeypatch.setattr("components.publish.core.TOKEN_FILE", token)
    certificate = write_certificate(tmp_path / "server.pem")
    with RegistryServer(certificate=certificate) as registry:
        run = Run(tmp_path, registry.url + "/")
        untrusted = only_problem_of(run.publish)
        assert untrusted.what.endswith("cannot be reached: ClientConnectorCertificateError")
        assert not untrusted.may_pass
        assert registry.authorizations == set()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        found = run.publish()

    assert registry.authorizations == {"Bearer planted-token"}
    assert [version["id"] for version in registry.versions] == [found["entry"]]
    assert "planted-token" not in run.note.read_text(encoding="utf-8")


@pytest.mark.parametrize(("publish_as", "source", "name"), table("publish", "names"))
def test_name_is_the_users_or_comes_from_the_base_model(publish_as, source, name):
    assert registered_name(publish_as, source) == name


@pytest.mark.parametrize("publish_as", ["a b", "-a", "ä", "a/b", "a" * 128, "a\nb"])
def test_name_that_cannot_be_one_is_refused_with_an_example(publish_as):
    with pytest.raises(Problems, match="publish_as=granite"):
        registered_name(publish_as, "org/name")


@pytest.mark.parametrize(("adapted", "claim", "uri"), table("publish", "uris"))
def test_uri_is_the_claims_where_there_is_one(adapted, claim, uri):
    assert servable_uri(Path(adapted), claim, Path("/mnt/osft")) == uri
