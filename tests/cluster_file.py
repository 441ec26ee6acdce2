"""The pipeline as a platform team has it: compiled with a cluster file that names its images."""

from pathlib import Path

from pipeline.compile import write_compiled
from pipeline.settings import load_settings

CLUSTER = """
images.cpu = "registry.example.com/ai/osft-pipeline/cpu:0.1.0"
images.gpu = "registry.example.com/ai/osft-pipeline/gpu:0.1.0"
"""


def compiled_for_a_cluster(folder: Path, more: str = "") -> Path:
    """Compile into a folder, with further lines of the cluster file."""
    (folder / "my-cluster.toml").write_text(CLUSTER + more, encoding="utf-8")
    write_compiled(load_settings(folder / "my-cluster.toml"), folder / "pipeline.yaml")
    return folder / "pipeline.yaml"
