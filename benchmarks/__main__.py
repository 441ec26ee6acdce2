"""All benchmarks, or those named, one after the other in one process; each result is written when it is there.

python -m benchmarks TOKENIZER_FOLDER WORK_FOLDER [NAME ...]
"""

import gc
import importlib
import shutil
import sys
import traceback
from pathlib import Path

import torch

NAMES = ("stock", "training_8b", "memory", "learning")  # the last one changes what the backend computes


def main() -> None:
    tokenizer, work, *asked = sys.argv[1:]
    failed = []
    for name in asked or NAMES:
        sys.argv = [f"benchmarks.{name}", tokenizer, str(Path(work) / name)]
        try:
            importlib.import_module(f"benchmarks.{name}").main()
        except Exception:  # the others are worth their time all the same
            traceback.print_exc()
            failed.append(name)
        shutil.rmtree(Path(work) / name, ignore_errors=True)
        gc.collect()
        torch.cuda.empty_cache()
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
