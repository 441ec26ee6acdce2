"""Coverage-guided fuzzing of the small files that users write: none may give anything but values or a problem that a
user can solve.

    python -m pip install atheris          # not among the project's requirements
    python -m benchmarks.fuzz_files (parameters | cluster | records) WORK_FOLDER [SECONDS]

WORK_FOLDER keeps the corpus and what was found (crash-*, timeout-*, oom-*). Bounds: 5 seconds and 1 GiB for an input.
"""

import contextlib
import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

with contextlib.suppress(ImportError):
    import atheris

    with atheris.instrument_imports(include=["components", "pipeline", "yaml", "tomllib", "json"]):
        from components.shared import records
        from components.shared.problems import Problems
        from components.snapshot_model import manifest
        from pipeline.cluster.compiled_file import PIPELINE, read_pipeline
        from pipeline.parameters import read_parameters
        from pipeline.settings import load_settings

DEFAULT = Path(__file__).parents[1] / "pipeline" / "cluster_files" / "default.toml"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SEEDS = {
    "parameters": (
        b"data: /a.csv\nquestions: s3://b/c.csv\nnum_epochs: 3\nlearning_rate: 5e-6\nsystem_prompt: ''\n",
        b'training_options: {"warmup_steps": 10, "target_patterns": ["q_proj"]}\nevaluation_options:\n  a: [1, 2.5]\n',
        b"model: &a [*a]\n? [a]\n: b\n<<: {a: 1}\n",
        b"revision: 1:2:3\nseed: 0x10\nnum_epochs: !!int ''\nmodel: 2026-99-99\n--- !!bool x\n",
        b'data=/a.csv\0questions=https://u:p@h/c\0seed=7\0training_options={"warmup_steps": 1e999}\0model=org/name',
        b"unfreeze_rank_ratio=\xc2\xb2\0max_seq_len=99999999999999999999\0publish_as=a b\0=\0x",
    ),
    "cluster": (
        DEFAULT.read_bytes(),
        b'[images]\ncpu = "a.b/c@sha256:1"\n[gpu]\ncount = "0"\nmemory_gib = inf\ntolerations = [{key = "a"}]\n',
        b"labels.a.b.c = 0xffffffffffffffffff\ntimeout_seconds.train = 1979-05-27T07:32:00Z\n[retries]\ntrain = 1_0\n",
        b"notify.runs_page = 'https://[::1]/runs'\nmodel_registry.url = '''http://u:p@h'''\na = [[[[[[1]]]]]]\n",
    ),
    "records": (
        b'{"step": "evaluate", "state": "failed", "attempt": 1, "started_at": "2026", "error": "", "facts": {"a": 1}}',
        b'{"source": "a", "revision": "b", "commit": "' + COMMIT.encode() + b'", "card": {}, "bytes": 1, '
        b'"files": [{"name": "config.json", "size": 1, "sha256": "' + b"0" * 64 + b'"}]}',
        b'{"main": "' + COMMIT.encode() + b'"}',
        b'{"a": ' * 3000,
    ),
}


@functools.cache
def pipeline() -> Any:
    return read_pipeline(PIPELINE)


def try_parameters(content: bytes) -> None:
    """As a file, and as what follows --param."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".yaml") as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(Problems):
            read_parameters(pipeline(), [], Path(file.name))
        with contextlib.suppress(Problems):
            read_pipeline(Path(file.name))
    with contextlib.suppress(Problems):
        read_parameters(pipeline(), content.decode("utf-8", "surrogateescape").split("\0"), None)


def try_cluster(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file, contextlib.suppress(Problems):
        file.write(content)
        file.flush()
        load_settings(Path(file.name))


def try_records(content: bytes) -> None:
    """As each of the files in a workspace that steps read again."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, contextlib.redirect_stdout(None):
        place = Path(folder) / COMMIT
        place.mkdir()
        for name in ("evaluate.json", "snapshot.json", "revisions.json"):
            (place / name).write_bytes(content)
        records.read_records(place)
        if found := manifest.read_manifest(place):
            manifest.wrong_sizes(place, found)
        manifest.remembered_commit(place, "main")


TRIED: dict[str, Callable[[bytes], None]] = {
    "parameters": try_parameters,
    "cluster": try_cluster,
    "records": try_records,
}


def main() -> None:
    name, work = sys.argv[1], Path(sys.argv[2])
    corpus = work / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    seconds = (sys.argv[3:] or ["600"])[0]
    bounds = [f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=1024", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *bounds, f"-artifact_prefix={work}/", str(corpus)], TRIED[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
