"""The command line: answers at once, and says what is wrong before anything starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tables import table

HEAVY = ("kfp", "torch", "transformers", "training_hub", "pandas", "huggingface_hub", "matplotlib", "scipy")


def osft_pipeline(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def inputs(tmp_path, tiny_model):
    """Options of a run that would work."""
    data = tmp_path / "qa.csv"
    data.write_text("question,response,faithfulness_judgment\nWho?,The heron.,YES\n", encoding="utf-8")
    gaps = tmp_path / "gaps.csv"
    gaps.write_text("question,reference,rag\nWhich bird?,heron,wrong\n", encoding="utf-8")
    return {
        "--data": str(data),
        "--questions": str(gaps),
        "--model": str(tiny_model),
        "--workspace": str(tmp_path / "workspace"),
    }


def flat(options: dict[str, str]) -> list[str]:
    return [part for option in options.items() for part in option]


GRANITE_8B = table("cli", "granite_8b")


@pytest.mark.parametrize(("arguments", "code", "said"), table("cli", "plans"))
def test_plan_says_from_config_json_what_fits(tmp_path, arguments, code, said):
    (tmp_path / "config.json").write_text(json.dumps(GRANITE_8B), encoding="utf-8")

    done = osft_pipeline("plan", tmp_path, *arguments)

    assert said in done.stdout + done.stderr
    assert done.returncode == code


@pytest.mark.parametrize(
    ("config", "said"), [({"model_type": "gpt2"}, "models of type 'gpt2' are not supported"), (None, "cannot be read")]
)
def test_plan_refuses_what_is_no_model_that_can_be_trained(tmp_path, config, said):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    done = osft_pipeline("plan", tmp_path)

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['osft-pipeline', '--help']\n"
        "from pipeline.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"import json; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "compile" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == []


BAD_INPUTS = table("cli", "bad_inputs")


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_a_mistake_is_one_clear_error(inputs, case):
    options, said = BAD_INPUTS[case]

    done = osft_pipeline("run", *flat(inputs | options))

    assert done.returncode == 1
    assert said in done.stderr
    assert "remedy:" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not list(Path(inputs["--workspace"]).glob("**/*")), "something was written"


def test_all_mistakes_are_said_at_once(inputs):
    Path(inputs["--workspace"]).write_text("a file", encoding="utf-8")
    mistakes = {"--data": "nowhere.csv", "--unfreeze-rank-ratio": "0", "--model": "./nowhere", "--num-epochs": "0"}

    done = osft_pipeline("run", *flat(inputs | mistakes))

    assert done.returncode == 1
    assert "5 problems" in done.stderr
    for said in ("no such file", "unfreeze_rank_ratio is '0.0'", "num_epochs is '0'", "no such folder", "not writable"):
        assert said in done.stderr


def test_compile_writes_where_it_is_told_and_checks_it(tmp_path):
    target = tmp_path / "pipeline.yaml"

    assert osft_pipeline("compile", "-o", target).returncode == 0
    assert osft_pipeline("compile", "-o", target, "--check").returncode == 0
    target.write_text(target.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    stale = osft_pipeline("compile", "-o", target, "--check")

    assert stale.returncode == 1
    assert "stale" in stale.stderr
    assert "osft-pipeline compile" in stale.stderr


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_compile_into_what_is_no_file_is_one_clear_error(tmp_path, check):
    (tmp_path / "folder").mkdir()

    for target in (tmp_path / "folder", Path("/proc/x/p.yaml")):
        done = osft_pipeline("compile", "-o", target, *check)

        assert done.returncode == 1
        assert str(target) in done.stderr
        assert "stale" in done.stderr if check else "cannot be written: " in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
