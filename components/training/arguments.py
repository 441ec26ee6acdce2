"""The arguments of training_hub's functions: this project's options are honoured, and none is dropped silently."""

import dataclasses
from typing import Any

from components.run.training_options import LORA, OSFT, TrainingOptions
from components.shared.problems import Checks, quote, suggest

NAME = "single-device"  # of the backend
PATHS = ("model_path", "data_path", "ckpt_output_dir")
# Options of training_hub's functions that this backend honours beside TrainingOptions.
HONOURED = ("unmask_messages", "callbacks")
# These state what holds anyway: one process on one device, checkpoints on SIGTERM, a model at the end.
HARMLESS = {
    "nproc_per_node": (1, "auto", "gpu"),
    "nnodes": (1,),
    "node_rank": (0,),
    "use_processed_dataset": (False,),
    "save_final_checkpoint": (True,),
    "enable_jit_checkpoint": (True,),
    "on_demand_checkpointing": (True,),  # training_hub says it again under this name
}
# What training_hub.lora_sft adds by itself.
HARMLESS_OF_LORA = {"init_lora_weights": (True,), "peft_enabled": (True,), "peft_type": ("lora",)}


def parse_options(params: dict[str, Any], method: str = OSFT) -> TrainingOptions:
    """The training options among the arguments of training_hub's function for this method.

    Raises:
        Problems: naming every option that is unknown here, or known and not honoured; none is dropped silently.
    """
    checks = Checks()
    option_names = [field.name for field in dataclasses.fields(TrainingOptions) if field.name != "method"]
    harmless: dict[str, tuple[Any, ...]] = HARMLESS | (HARMLESS_OF_LORA if method == LORA else {})
    known = {*option_names, *PATHS, *HONOURED, *harmless}
    options = {"method": method}
    for name, value in params.items():
        if value is None or (value is False and name not in option_names and name != "save_final_checkpoint"):
            continue  # not asked for
        if name in option_names:
            options[name] = value
        elif name not in known or value not in harmless.get(name, (value,)):
            rule = f"it honours {', '.join(sorted(known))}"
            if name in harmless:
                rule = "it is one process on one device, whose result is the adapted model: "
                rule += f"{name} can only be {harmless[name][0]!r}"
            checks.add(
                f"option {name} = {quote(value)} is not honoured by the backend {NAME}{suggest(name, known - {name})}",
                where=f"training_hub.{method}",
                rule=rule,
                remedy="correct the name, leave the option out, or use training_hub's own backend",
            )
    parsed = TrainingOptions()
    with checks.collecting():
        parsed = TrainingOptions.from_mapping(options)
    checks.raise_if_any()
    return parsed
