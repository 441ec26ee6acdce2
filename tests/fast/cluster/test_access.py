"""Who asks, where, and what goes wrong on the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.cluster import runs
from pipeline.cluster.access import Access, find_access
from pipeline.cluster.connection import ApiError, connect
from tests.certificates import write_certificate
from tests.fast.cluster.conftest import PARAMETERS, QUICK, TOKEN
from tests.kfp_server import Fault, KfpServer

LOGIN_PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"
STACK = "\nFailed to compile job\ngithub.com/kubeflow/pipelines/backend/src/common/util.Wrap\n\terror.go:361"


def body(message: str) -> bytes:
    return json.dumps({"code": 13, "message": message}).encode()


@pytest.mark.parametrize(
    ("fault", "message", "attempts"),
    [
        (Fault(status=401, body=b"Unauthorized"), "does not accept the token (401)", 1),
        (Fault(status=403), "the KFP API forbids it (403): no healthy upstream", 1),
        (Fault(status=403, body=LOGIN_PAGE, content_type="text/html"), "the KFP API forbids it (403)\n", 1),
        (Fault(status=404, body=b"404 page not found"), "there is no KFP API: it answers with status 404", 1),
        (Fault(status=302, headers={"Location": "https://login.example/?token=x"}), "as a login page does", 1),
        (Fault(status=200, body=LOGIN_PAGE, content_type="text/html"), "it answers with a web page", 1),
        (Fault(status=200, body=b"\xff\xfe"), "something that is no JSON", 1),
        (Fault(status=200, body=b"[]"), "JSON of another kind", 1),
        (Fault(status=404, body=b"\xff\xfe"), "status 404", 1),
        (Fault(status=429), "the KFP API fails after 3 attempts (429): no healthy upstream", 3),
        (Fault(status=500, body=LOGIN_PAGE), "the KFP API fails after 3 attempts (500)\n", 3),
        (Fault(breaks_off=True), "the connection broke (3 attempts)", 3),
        (Fault(status=0, delay_seconds=2.0), "the host does not answer in time (3 attempts)", 3),
    ],
)
def test_a_fault_is_one_clear_error(server, fault, message, attempts):
    server.faults.append(fault)

    with pytest.raises(ApiError) as error:
        connect(Access(host=server.url, token=TOKEN), QUICK)

    assert message in str(error.value)
    assert server.url in str(error.value)
    assert all(problem.remedy and problem.rule for problem in error.value.problems)
    assert TOKEN not in str(error.value)
    assert len(server.requests) == attempts


@pytest.mark.parametrize(
    ("status", "text", "rule"),
    [
        # What upstream's 2.14.3 answers to a run of this pipeline.
        (500, f'compiling task "evaluate": proto: (line 1:618): unknown field "optional"{STACK}', "upstream KFP 2.15"),
        (
            500,
            'Failed to create a workflow: workflows.argoproj.io is forbidden: exceeded quota: "small"',
            "what the API",
        ),
        (500, 'admission webhook "policy" denied the request: no owner', "what the API says"),
        (501, "Method Not Allowed", "what the API says"),
    ],
)
def test_a_5xx_that_is_a_refusal_is_told_once(server, osft, status, text, rule):
    server.faults.append(Fault(method="POST", path="/runs", status=status, body=body(text)))

    code, _, err = osft("submit", *PARAMETERS)

    assert code == 1
    assert f"the KFP API refuses ({status}): {text.partition(chr(10))[0]}" in err
    assert rule in err
    assert "github.com" not in err
    assert [request.path for request in server.changes].count("/apis/v2beta1/runs") == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_fault_that_passes_goes_unnoticed(server, osft, status):
    server.faults = [
        Fault(path="/healthz", status=status, times=1, headers={"Retry-After": "1"}),
        Fault(path="/pipelines", breaks_off=True, times=1),
    ]

    code, _, err = osft("upload")

    assert (code, err) == (0, "")
    assert len(server.versions) == 1


@pytest.mark.parametrize(
    ("host", "message"),
    [("http://127.0.0.1:1", "the host cannot be reached"), ("http://no-such-host.invalid", "the host is not known")],
)
def test_a_host_that_is_not_there(host, message):
    with pytest.raises(ApiError, match=message):
        connect(Access(host=host), QUICK)


def test_a_certificate_of_an_unknown_authority(osft, tmp_path):
    certificate = write_certificate(tmp_path / "server.pem")
    with KfpServer(certificate=certificate) as server:
        refused = osft("status", "--host", server.url)
        accepted = osft("status", "--host", server.url, "--ca", certificate)

    assert refused[0] == 1
    assert "certificate is not trusted" in refused[2]
    assert "--ca FILE.pem or OSFT_KFP_CA" in refused[2]
    assert accepted[0] == 0


def test_everything_wrong_with_the_access_is_named_at_once(osft, tmp_path):
    (tmp_path / "ca.pem").write_text("none", encoding="utf-8")

    code, _, err = osft("status", "--host", "kfp.example", "--token", "two words", "--ca", tmp_path / "ca.pem")
    _, _, missing = osft("status", "--host", "https://user:secret@kfp.example", "--ca", tmp_path / "nowhere.pem")

    assert code == 1
    for message in ("3 problems", "'kfp.example' is no address", "the token has blanks", "holds no certificate"):
        assert message in err
    assert "cannot be read: No such file" in missing
    assert "secret" not in missing


def test_without_a_host_the_error_names_the_ways_to_give_one(osft, monkeypatch):
    monkeypatch.delenv("OSFT_KFP_HOST")

    code, _, err = osft("status")

    assert code == 1
    assert "--host, OSFT_KFP_HOST, the login with oc" in err


def test_a_pods_token_is_read_again_when_it_is_renewed(osft, server, monkeypatch, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN, encoding="utf-8")
    monkeypatch.delenv("OSFT_KFP_TOKEN")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    connection = connect(find_access(host=server.url), QUICK)

    server.token = "renewed"
    file.write_text("renewed", encoding="utf-8")
    runs.status(connection, "osft", 1)
    server.token = TOKEN
    with pytest.raises(ApiError, match="does not accept the token"):
        runs.status(connection, "osft", 1)

    assert {request.authorization for request in server.requests} == {f"Bearer {TOKEN}", "Bearer renewed"}


def test_inside_the_cluster_everything_comes_from_the_service_account(tmp_path):
    write_certificate(tmp_path / "service-ca.crt")
    (tmp_path / "namespace").write_text("team", encoding="utf-8")
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")

    access = find_access(environment={}, service_account=tmp_path)

    assert access.host == "https://ds-pipeline-dspa.team.svc.cluster.local:8443"
    assert access.token_file == str(tmp_path / "token")
    assert access.ca == str(tmp_path / "service-ca.crt")
    assert TOKEN not in repr(find_access(host="https://a.example", token=TOKEN))


def kubeconfig(path: Path, server: str, token: str = TOKEN) -> Path:
    """What oc login writes."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "team",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "team", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_login_with_oc_is_enough_until_it_expires(osft, server, monkeypatch, tmp_path):
    monkeypatch.delenv("OSFT_KFP_HOST")
    monkeypatch.delenv("OSFT_KFP_TOKEN")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", server.url)))
    done, _, _ = osft("upload")
    kubeconfig(tmp_path / "config", server.url, token="old")
    expired, _, err = osft("status")
    (tmp_path / "config").write_text("nonsense", encoding="utf-8")
    broken, _, message = osft("status")

    assert (done, expired, broken) == (0, 1, 1)
    assert len(server.versions) == 1
    assert "/namespaces/team/" in server.requests[0].path
    assert "the login with oc has expired" in err
    assert "cannot be used" in message


def test_a_login_is_not_sent_in_the_clear(tmp_path):
    environment = {"KUBECONFIG": str(kubeconfig(tmp_path / "config", "https://cluster.example"))}

    assert find_access(host="https://kfp.example", environment=environment).token == TOKEN
    assert find_access(host="http://kfp.example", environment=environment).token == ""


def test_a_process_of_its_own_ends_without_a_traceback(server, tmp_path):
    environment = os.environ | {"OSFT_KFP_HOST": server.url, "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pipeline", "status", "--token", "wrong"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    assert done.returncode == 1
    assert "does not accept the token" in done.stderr
    assert "Traceback" not in done.stderr
