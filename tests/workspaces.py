"""A workspace of small files, and what prunes it."""

import json
import os
import time
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from components.shared.problems import Problems
from pipeline.cli import workspace as workspace_cli
from pipeline.workspace import pruning
from pipeline.workspace.inventory import take_inventory
from pipeline.workspace.pruning import Decision, Policy, decide, remove
from pipeline.workspace.sizes import SECONDS_OF_DAY

NOW = time.time()
BASE, OTHER = "a1" * 20, "b2" * 20
MODEL = f"models/org--name/{BASE}"


def ignore_progress(_: int) -> None:
    """Progress that nobody looks at."""


class Workspace:
    """A workspace of small files that are as old as a test says."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        (self.root / "runs").mkdir(parents=True, exist_ok=True)

    def put(self, path: str, content: Any = "x", days: float = 30) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
        os.utime(file, (NOW - days * SECONDS_OF_DAY,) * 2)
        return file

    def base(self, commit: str = BASE, days: float = 30) -> None:
        self.put(f"models/org--name/{commit}/model.safetensors", days=days)
        self.put(f"models/org--name/{commit}/snapshot.json", days=days)

    def model(self, number: int, good: bool | None, days: float = 30, base: str = BASE, files: int = 1) -> str:
        key = f"{number:016x}"
        for shard in range(files):  # the report among them: no order of removal takes it first
            self.put(f"adapted/{key}/model-{shard}.safetensors", days=days)
            if shard == files // 2:
                self.put(f"adapted/{key}/training_report.json", {"plan": {"model": {"commit": base}}}, days)
        self.put(f"runs/{key}/metrics.jsonl", days=days)
        if good is not None:
            self.put(f"runs/{key}/summary.json", {"good": good}, days)
            self.put(f"runs/{key}/report.html", days=days)
            self.put(f"runs/{key}/report.md", days=days)
        return key

    def published(self, key: str, name: str, version: str, at: str, days: float = 30) -> None:
        said = {"registry": "https://registry", "name": name, "version": version, "entry": "", "uri": "pvc://"}
        self.put(f"runs/{key}/published.json", said | {"published_at": at}, days)

    def decisions(self, **policy: int) -> tuple[Decision, ...]:
        return decide(take_inventory(self.root, ignore_progress), Policy(**policy), NOW)

    def going(self, **policy: int) -> dict[str, str]:
        return {one.item.path: one.reason for one in self.decisions(**policy) if one.goes}

    def prune(self, **policy: int) -> None:
        going = sorted((one.item for one in self.decisions(**policy) if one.goes), key=pruning.order_of_removal)
        for outcome in remove(self.root, going, ignore_progress):
            assert not outcome.error

    def models(self) -> set[str]:
        """Adapted models that a reader takes for complete."""
        return {
            file.parent.name for file in self.root.glob("adapted/*/training_report.json") if file.parent.name[0] != "."
        }


def call(*arguments: str | Path) -> tuple[int, str]:
    """The command in this process: exit code (1 for problems, as the program has it) and what was printed."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(workspace_cli.commands, [str(one) for one in arguments])
    if isinstance(result.exception, Problems):
        return 1, f"{result.output}{result.exception}"
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
