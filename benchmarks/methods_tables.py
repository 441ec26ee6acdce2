"""What benchmarks.methods has measured, as tables: each method's results, and its differences from one of them.

Differences are tested on the questions that both were asked, each with its share of right answers over the seeds.
Questions about one fact stand or fall together, so facts are drawn and flipped, not questions.
"""

import random
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.common import result, table

AGAINST = "osft 0.25"
DRAWS = 10_000
GAP, CHOICE, OPEN = "gap", "multiple choice", "open-ended"


def methods() -> str:
    """Means over the seeds, lowest and highest in brackets."""
    found = result("methods")
    base = _base(found)
    rows = [["base model", "", *_shares([base], base), f"{base['perplexity']:.0f}", "", ""]]
    for name, runs in _by_setting(found).items():
        perplexities = [run["perplexity"] for run in runs]
        share = statistics.mean(run["audit"]["protected_change_ratio"] for run in runs)
        rows.append(
            [
                name,
                f"{runs[0]['job']['learning_rate']:g}",
                *_shares(runs, base),
                f"{statistics.mean(perplexities):.0f}",
                f"{runs[0]['audit']['word']}, {share:.0%}",
                f"{max(run['training']['peak_memory_gib'] for run in runs):.1f}",
            ]
        )
    head = ["method", "rate", "gap questions, %", "multiple choice, %", "open-ended, %"]
    return table([*head, "perplexity", "audit, share in protected directions", "GiB"], rows)


def in_short() -> str:
    """The settings that a newcomer chooses between."""
    found = result("methods")
    base, settings = _base(found), _by_setting(found)
    named = {
        "`osft`": "osft 0.25",
        "`lora_sft` with `lora_protect`": "protected lora r16",
        "`lora_sft` on the MLP, rank 10": "lora r10, MLP",
        "`sft`": "sft",
    }
    rows = [["base model", *_shares([base], base), ""]]
    for title, name in named.items():
        runs = settings[name]
        rows.append([title, *_shares(runs, base), "yes" if runs[0]["audit"]["word"] == "kept" else "no"])
    head = ["right answers in %", "gap questions", "multiple choice", "open-ended", "protected directions kept"]
    return table(head, rows)


def differences() -> str:
    """Every setting minus AGAINST in points, with 95 % intervals and Holm's p."""
    found = result("methods")
    base, settings = _base(found), _by_setting(found)
    tested: list[tuple[str, str, float, float, float, float]] = []
    for name, runs in settings.items():
        if name != AGAINST:
            for kind in (GAP, CHOICE, OPEN):
                clusters = _clusters(runs, settings[AGAINST], base, kind)
                tested.append((name, kind, *_interval(clusters), _p_value(clusters)))
    corrected = holm([one[-1] for one in tested])
    cells = {
        (name, kind): f"{difference:+.1f} ({low:+.1f} to {high:+.1f}), p {p:.2g}"
        for (name, kind, difference, low, high, _), p in zip(tested, corrected, strict=True)
    }
    names = list(dict.fromkeys(one[0] for one in tested))
    rows = [[name, *(cells[name, kind] for kind in (GAP, CHOICE, OPEN))] for name in names]
    return table([f"minus {AGAINST}, points", "gap questions", "multiple choice", "open-ended"], rows)


def rewound() -> str:
    """Part of the way from the base model to the adapted one."""
    found = result("methods")
    base = _base(found)
    rows = []
    for name, runs in _by_setting(found).items():
        if "rewound" in runs[0]:
            parts = {"1": runs} | {share: [run["rewound"][share] for run in runs] for share in runs[0]["rewound"]}
            for share, part in parts.items():
                perplexity = statistics.mean(run["perplexity"] for run in part)
                rows.append([name, share, *_shares(part, base), f"{perplexity:.0f}"])
    return table(
        ["method", "part of the way", "gap questions, %", "multiple choice, %", "open-ended, %", "perplexity"], rows
    )


def _base(found: dict[str, Any]) -> dict[str, Any]:
    return next(
        one for one in found["results"] if one["job"]["setting"] == "base" and one["job"]["asked"] == "reported"
    )


def _by_setting(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    runs = [one for one in found["results"] if one["job"]["asked"] == "reported" and one["job"]["setting"] != "base"]
    return {name: [run for run in runs if run["job"]["setting"] == name] for name in found["settings"]}


def _right(run: dict[str, Any], base: dict[str, Any], kind: str) -> list[int]:
    if kind == GAP:
        return [int(right) for right in run["gap"]]
    asked = base["questions"]["general"]
    return [int(r) for r, (_, choice, _) in zip(run["general"], asked, strict=True) if choice == (kind == CHOICE)]


def _shares(runs: list[dict[str, Any]], base: dict[str, Any]) -> list[str]:
    cells = []
    for kind in (GAP, CHOICE, OPEN):
        shares = [100 * statistics.mean(_right(run, base, kind)) for run in runs]
        ends = f" ({min(shares):.0f}-{max(shares):.0f})" if len(runs) > 1 else ""
        cells.append(f"{statistics.mean(shares):.1f}{ends}")
    return cells


def _clusters(
    runs: list[dict[str, Any]], others: list[dict[str, Any]], base: dict[str, Any], kind: str
) -> list[list[float]]:
    """Differences of the share of seeds that were right, by question; gap questions in pairs, by the fact."""

    def means(of: list[dict[str, Any]]) -> list[float]:
        return [statistics.mean(seeds) for seeds in zip(*(_right(run, base, kind) for run in of), strict=True)]

    changes = [one - other for one, other in zip(means(runs), means(others), strict=True)]
    size = 2 if kind == GAP else 1
    return [changes[start : start + size] for start in range(0, len(changes), size)]


def _mean(clusters: Sequence[list[float]]) -> float:
    return 100 * sum(map(sum, clusters)) / sum(map(len, clusters))


def _interval(clusters: list[list[float]]) -> tuple[float, float, float]:
    """The difference, and its 95 % interval by a bootstrap over the clusters."""
    draw = random.Random(0)  # noqa: S311 - statistics
    drawn = sorted(_mean(draw.choices(clusters, k=len(clusters))) for _ in range(DRAWS))
    return _mean(clusters), drawn[round(0.025 * DRAWS)], drawn[round(0.975 * DRAWS) - 1]


def _p_value(clusters: list[list[float]]) -> float:
    """Two-sided, by flipping the signs of whole clusters."""
    draw = random.Random(0)  # noqa: S311
    sums = [sum(cluster) for cluster in clusters]
    seen = abs(sum(sums)) - 1e-9
    extreme = sum(abs(sum(one * draw.choice((-1, 1)) for one in sums)) >= seen for _ in range(DRAWS))
    return (extreme + 1) / (DRAWS + 1)


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction for all tests of one table."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, most = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        most = max(most, min(1.0, p_values[index] * (len(p_values) - place)))
        corrected[index] = most
    return corrected


def others() -> str:
    """What implementations of OSFT leave in the directions that they promise to keep."""
    found = result("others")
    rows = [
        [
            name,
            f"{one['protected_change_ratio']:.2%}",
            f"{one['lowest']:.2%} to {one['highest']:.2%}",
            f"{one['mean_relative_change']:.1e}",
            one["word"],
        ]
        for name, one in found["implementations"].items()
    ]
    head = f"{found['layers']} layers, {found['steps']} steps, ratio {found['options']['unfreeze_rank_ratio']}"
    columns = ["of the change in protected directions", "single matrices", "mean relative change", "the audit says"]
    return table([head, *columns], rows)
