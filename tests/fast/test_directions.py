"""Who may import whom: pipeline → steps → {training, grading} → models → {data, run} → shared, and no circles."""

import ast
from pathlib import Path

import networkx

ROOT = Path(__file__).parents[2]
LEVELS = {"shared": 0, "data": 1, "run": 1, "models": 2, "training": 3, "grading": 3}
STEP, PIPELINE = 4, 5


def modules() -> dict[str, Path]:
    files = [path for folder in ("components", "pipeline") for path in (ROOT / folder).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports_of(name: str, known: dict[str, Path]) -> set[str]:
    """The project's modules that a module imports, inside of functions as well; not those for types only."""
    found = set()
    tree = ast.parse(known[name].read_text(encoding="utf-8"))
    typing_only = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing_only:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known.keys() - {name}


def room(module: str) -> str:
    return module.split(".")[1] if module.startswith("components.") else "pipeline"


def level(module: str) -> int:
    return PIPELINE if room(module) == "pipeline" else LEVELS.get(room(module), STEP)


def test_imports_go_downwards_and_no_step_or_library_imports_its_neighbour():
    known = modules()
    assert len(known) > 100
    pairs = [(name, other) for name in known for other in imports_of(name, known) if room(name) != room(other)]
    offenders = sorted(f"{name} imports {other}" for name, other in pairs if level(name) <= level(other))

    assert offenders == []


def test_no_circles_of_files():
    known = modules()
    graph = networkx.DiGraph([(name, other) for name in known for other in imports_of(name, known)])
    graph.remove_edges_from([(name, other) for name, other in graph.edges if other in ("components", "pipeline")])

    assert list(networkx.simple_cycles(graph)) == []
