"""Is the adapted model good enough? The run's acceptance thresholds against what was measured."""

from components.run.evaluation import Comparison, Gate
from components.run.evaluation_options import EvaluationOptions


def decide(gap: Comparison, general: dict[str, Comparison | None], options: EvaluationOptions) -> Gate:
    """Whether the adapted model meets the run's acceptance thresholds.

    Args:
        general: comparisons on general questions, by their names.
    """
    reasons = []
    if gap.closed < options.closed_min:
        reasons.append(f"{gap.closed} gap questions closed, at least {options.closed_min} required")
    if gap.regressed > options.regressed_max:
        reasons.append(f"{gap.regressed} gap questions regressed, at most {options.regressed_max} allowed")
    for name, compared in general.items():
        if compared and -compared.difference > options.retention_drop_max:
            drop = f"down {-compared.difference:.1f} percentage points"
            reasons.append(f"{name}: {drop}, at most {options.retention_drop_max:g} allowed")
    return Gate(good_enough=not reasons, reasons=reasons)
