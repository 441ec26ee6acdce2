"""The tables of the documents, out of benchmarks/results and the options' declarations, and a picture of the plan.

    python -m benchmarks.tables [--check]

Each table stands between `<!-- name -->` and `<!-- /name -->`. With --check nothing is written: the exit code is 1 when
a document or the picture says something else.
"""

import re
import statistics
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from benchmarks import common, methods_tables
from benchmarks.common import result, table
from benchmarks.memory_tables import memory, picture
from components.run.data_options import DataOptions
from components.run.parameters import REQUIRED, all_parameters
from components.shared.options import Declared, declared

ROOT = Path(__file__).parent.parent
PICTURE = "docs/memory.svg"
LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish"}


def training_8b() -> str:
    found = result("training_8b")
    small, large = found["at_2048_tokens"], found["at_8192_tokens"]

    def row(name: str, key: str, form: str) -> list[str]:
        return [name, form.format(small[key]), form.format(large[key])]

    return table(
        [f"Granite-3.2-8B's shape on {found['origin']['device']}, {found['cap_gib']:.0f} GiB", "2,048", "8,192"],
        [
            row("peak memory allocated, GiB", "peak_memory_gib", "{:.1f}"),
            row("peak memory reserved, GiB", "peak_reserved_gib", "{:.1f}"),
            row("tokens/s, median of the steps", "tokens_per_second_median", "{:,.0f}"),
            row("reading and decomposing together, s", "loading_seconds", "{:.1f}"),
            row("start to the end of the first step, s", "start_to_first_step_seconds", "{:.1f}"),
            row("saving, s", "saving_seconds", "{:.1f}"),
            row("host memory, GiB (files mapped into it not counted)", "peak_host_memory_gib", "{:.1f}"),
            ["training stands still for a checkpoint, s", f"{small['checkpoint_pause_seconds']:.1f}", "none was due"],
        ],
    )


def parts_8b() -> str:
    found = result("training_8b")
    alone, ceilings = found["decomposing_alone"], found["ceilings"]
    rows = [
        ["reading alone, from disk to GPU, s", f"{found['reading_alone_seconds']:.1f}"],
        [f"decomposing {alone['matrices']} matrices alone, s", f"{alone['seconds']:.1f}"],
        ["largest error of a decomposition, relative", f"{alone['largest_relative_error']:.0e}"],
        ["a large bfloat16 matrix product, TFLOP/s", f"{ceilings['bfloat16_tflops']:.0f}"],
        ["copying, TB/s read and written", f"{ceilings['copy_tb_per_second']:.1f}"],
    ]
    for tokens in ("2048", "8192"):
        spent = found[f"at_{tokens}_tokens"]["gpu_seconds_of_a_step"]
        rows += [[f"{kind}, GPU ms of a step of {int(tokens):,} tokens", f"{1e3 * spent[kind]:.0f}"] for kind in spent]
    return table(["on the same machine", ""], rows)


def stock() -> str:
    found = result("stock")
    theirs, ours = found["stock_float32"], found["single_device"]
    return table(
        ["two layers of it, the same data, the same process", "mini-trainer, float32", "single-device", "ratio"],
        [
            [
                "tokens/s",
                f"{theirs['tokens_per_second']:,.0f}",
                f"{ours['tokens_per_second']:,.0f}",
                f"{found['ratio']:.1f}",
            ],
            [
                "peak memory, GiB",
                f"{theirs['peak_memory_gb'] * 1e9 / common.GIB:.1f}",
                f"{ours['peak_memory_gib']:.1f}",
                f"{ours['peak_memory_gib'] * common.GIB / 1e9 / theirs['peak_memory_gb']:.2f}",
            ],
        ],
    )


def learning() -> str:
    found = result("learning")
    steps = len(found["float32"]["losses"])
    rows = []
    for key, name in (
        ("float32", "float32"),
        ("compact", "bfloat16 with compact weights"),
        ("plain_bfloat16", "bfloat16 weights and moments"),
    ):
        one = found[key]
        early = f"{100 * one['decrease_in_20_steps_against_float32']:.0f} %"
        rows.append([name, f"{one['decrease']:.3f}", f"{100 * one['against_float32']:.0f} %", early])
    return table(
        [
            f"learning rate {found['options']['learning_rate']:g}",
            f"decrease of the loss in {steps} steps",
            "of float32's",
            "of float32's, in 20 steps",
        ],
        rows,
    )


def judges() -> str:
    found = result("judges")
    rows = []
    for name, what in (
        ("trial", "144 labelled answers, six languages"),
        ("labelled", "labelled answers of the rules' benchmark"),
        ("labelled_without_threshold", "the same without a threshold"),
    ):
        one = found[name]["agreement"]
        interval = f"{one['kappa']:.2f} ({one['kappa_low']:.2f} to {one['kappa_high']:.2f})"
        rows.append([what, f"{one['answers']:,}", f"{100 * one['accuracy']:.1f} %", interval])
    shape = found["shape"]
    rate = f"{found['answers_per_second']:.0f} answers/s; {shape['shape']}'s shape {shape['answers_per_second']:.0f}"
    device = found["origin"]["device"]
    return table([f"{found['model']} on {device}, {rate}", "answers", "accuracy", "Cohen's kappa"], rows)


def gate() -> str:
    found = result("gate")
    choices, open_ended = found["shipped"]
    rows = []
    for cell in found["cells"]:
        if [cell["multiple_choice"], cell["open"]] == [choices, open_ended]:
            shares = [f"{100 * cell[verdict]:.1f} %" for verdict in ("good", "not good", "not shown")]
            rows.append([cell["truth"], str(cell["gap"]), *shares])
    header = f"{choices} multiple-choice and {open_ended} open-ended questions, {found['draws']:,} draws a row"
    return table([header, "gap questions", "good", "not good", "not shown"], rows)


def rewinding() -> str:
    found = result("rewinding")
    gap, choices, open_ended = found["sizes"]
    rows = [[one["truth"], *(f"{100 * one[rule]:.1f} %" for rule in ("by_all", "by_halves"))] for one in found["cells"]]
    what = f"a share is called good, {gap} gap, {choices} multiple-choice and {open_ended} open-ended questions"
    return table([f"{what}, {found['draws']:,} draws", "by all questions", "by two halves"], rows)


def answering() -> str:
    found = result("answering")
    return table(
        [
            f"Granite-3.2-8B's shape on {found['origin']['device']}",
            "one by one",
            f"{found['batch_size']} at once",
            "ratio",
        ],
        [
            [
                f"seconds for an answer of {found['tokens']} tokens",
                f"{found['seconds_an_answer_one_by_one']:.2f}",
                f"{found['seconds_an_answer_in_batches']:.2f}",
                f"{found['ratio']:.1f}",
            ]
        ],
    )


def verdicts() -> str:
    found = result("verdicts")
    held_out = "questions not tuned on"
    shown = [("verdicts", "the rules, answers written blind", "blind")]
    shown += [("verdicts", f"- in {LANGUAGES[code]}", f"blind, {code}") for code in LANGUAGES]
    shown += [("verdicts", f"the rules, {held_out}", "held_out")]
    shown += [("verdicts", f"- in {LANGUAGES[code]}", f"held_out, {code}") for code in LANGUAGES]
    shown += [("verdicts", "the rules, questions that they were tuned on", "tuned")]
    shown += [("verdicts", f"- in {LANGUAGES[code]}", f"tuned, {code}") for code in LANGUAGES]
    shown += [("key_terms_alone", "only looking for the reference's words, answers written blind", "blind")]
    shown += [("key_terms_alone", f"only looking for the reference's words, {held_out}", "held_out")]
    rows = []
    for rule, name, part in shown:
        one = found[rule][part]
        kappa = f"{one['kappa']:.2f} ({one['kappa_low']:.2f} to {one['kappa_high']:.2f})"
        numbers = [f"{100 * one['accuracy']:.1f} %", kappa, str(one["falsely_right"]), str(one["falsely_wrong"])]
        rows.append([name, str(one["answers"]), *numbers])
    return table(
        ["graded by", "answers", "accuracy", "Cohen's kappa, 95 % interval", "falsely right", "falsely wrong"], rows
    )


def kinds() -> str:
    held_out = result("verdicts")["verdicts"]["held_out"]["kinds"]
    rows = [[kind, str(one["answers"]), str(one["agreed"])] for kind, one in held_out.items()]
    return table(["kind of answer: label, questions not tuned on", "answers", "agreed"], rows)


def verifying() -> str:
    found = result("snapshots")["verifying"]
    rows = [
        ["`osft-pipeline verify`", f"{found['bytes_per_second'] / 1e6:,.0f}"],
        ["two `sha256sum` at once", f"{found['sha256sum_bytes_per_second'] / 1e6:,.0f}"],
        ["ratio", f"{found['ratio']:.1f}"],
    ]
    return table([f"{found['bytes'] / 1e9:.1f} GB in four files, {found['threads']} cores", "MB/s"], rows)


def downloading() -> str:
    found = result("snapshots")["downloading"]
    ours, theirs = (statistics.median(found[key]) for key in ("seconds", "snapshot_download_seconds"))
    return table(
        [f"{found['bytes'] / 1e9:.1f} GB in four files", "`snapshot_model`", "`snapshot_download`", "ratio"],
        [["seconds, median of the rounds", f"{ours:.1f}", f"{theirs:.1f}", f"{found['ratio']:.2f}"]],
    )


def faults() -> str:
    found = result("snapshots")["faults"]
    cuts = [share for name, share in found.items() if name.startswith("cut-at-0")]
    others = {name: share for name, share in found.items() if not name.startswith("cut-at-0")}
    rows = [[f"{name.replace('-', ' ')}", f"{share:.2f}"] for name, share in others.items()]
    return table(["fault that passes", "sent, of the model's size"], [["cut at one tenth", f"{max(cuts):.2f}"], *rows])


def ingest() -> str:
    found = result("ingest")
    large, small = found["large"], found["small"]
    names = {
        "ours": "ingest_sdg and format_chat, near_duplicates = 1",
        "ours_with_near_duplicates": "ingest_sdg and format_chat, near_duplicates = 0.95",
        "ours_with_hold_out": "the same with held_out_share = 0.1",
        "pandas": "the pandas script",
    }
    rows = [
        [
            title,
            f"{large[name]['processor_seconds']:.0f}",
            f"{large[name]['processor_seconds'] / large['pandas']['processor_seconds']:.2f}",
            f"{large[name]['seconds']:.0f}",
            f"{large[name]['peak_memory_gib']:.2f}",
            f"{small[name]['processor_seconds']:.1f}",
        ]
        for name, title in names.items()
        if name in large
    ]
    machine = f"{large['rows']:,} rows, {large['mb']:.0f} MB of CSV; {found['origin']['cores']} cores"
    columns = [machine, "processor seconds", "of pandas'", "seconds by the clock", "peak GiB"]
    return table([*columns, f"{small['rows']} rows, processor seconds"], rows)


def options_table(options: Mapping[str, Declared], required: Collection[str] = ()) -> str:
    """Options as their dataclasses declare them."""
    rows = []
    for name, found in options.items():
        value = "null" if found.default is None else str(found.default)
        default = "required" if name in required else f"`{value}`" if value else "empty"
        rows.append(f"| `{name}` | {default} | {found.text} |")
    return "\n".join(["| name | default | what it is |", "|---|---|---|", *rows])


def parameters() -> str:
    return options_table(all_parameters(), REQUIRED)


def data_options() -> str:
    return options_table(declared(DataOptions))


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"parameters": parameters, "methods in short": methods_tables.in_short},
    "docs/training.md": {"8b": training_8b, "parts": parts_8b, "stock": stock, "learning": learning, "memory": memory},
    "docs/data.md": {"data-options": data_options, "ingest": ingest},
    "docs/evaluation.md": {
        "answering": answering,
        "judges": judges,
        "verdicts": verdicts,
        "kinds": kinds,
        "gate": gate,
        "rewinding": rewinding,
    },
    "docs/methods.md": {
        "methods": methods_tables.methods,
        "differences": methods_tables.differences,
        "rewound": methods_tables.rewound,
        "others": methods_tables.others,
    },
    "docs/snapshots.md": {"verifying": verifying, "faults": faults, "downloading": downloading},
}


def filled(text: str, tables: dict[str, Callable[[], str]]) -> str:
    """A document with every table as the results have it."""
    for name, make in tables.items():
        found = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        content = make()
        text, count = found.subn(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)
        assert count == 1, f"there must be a place for the table {name}"
    return text


def main() -> None:
    before = {name: (ROOT / name).read_text(encoding="utf-8") for name in (*TABLES, PICTURE)}
    after = {name: filled(before[name], tables) for name, tables in TABLES.items()} | {PICTURE: picture()}
    if "--check" in sys.argv:
        differ = [name for name in before if before[name] != after[name]]
        sys.exit(f"{', '.join(differ)}: not what results and plan say, run `make fix`" if differ else 0)
    for name, text in after.items():
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
