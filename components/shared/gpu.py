"""Is this the GPU that the run was planned for? Asked in the pod, before a byte of the model is loaded.

Labels of nodes are made by people and by discovery, a GPU can be shared, and another process can hold its memory: to
find that out after half an hour of loading would be too late.
"""

import re

from components.shared import progress
from components.shared.problems import Checks
from components.shared.workspace import GIB

SHARED = re.compile(r"-shared$")  # what the GPU operator adds to a product's name where time is sliced


def check_gpu(gpus: int, gpu_memory_gib: float, gpu_product: str, needed_gib: float) -> None:
    """Compare the pod's GPUs with the planned ones; a plan for the CPU (memory 0) needs none. Raises Problems when
    there is no GPU, too few, another kind of GPU than the node's label names, or less than `needed_gib` free on one."""
    import torch

    if not gpu_memory_gib:
        return
    checks = Checks()
    where = "the pod's GPU"
    rule = f"the plan is for {gpus} x {gpu_product or 'any GPU'} with {needed_gib:.1f} GiB free"
    count = torch.cuda.device_count()
    if count < gpus:
        checks.add(
            f"{count or 'no'} usable GPU{'s' if count > 1 else ''} in this pod",
            where=where,
            rule=rule,
            remedy="look at the node's driver and the pod's limit of nvidia.com/gpu (cluster file, gpu.count)",
        )
    for number in range(min(count, gpus)):
        name = torch.cuda.get_device_name(number)
        free, total = (size / GIB for size in torch.cuda.mem_get_info(number))
        progress.log(f"GPU {number}: {name}, {free:.1f} of {total:.1f} GiB free")
        if gpu_product and _product(name) != _product(gpu_product):
            checks.add(
                f"GPU {number} is a {name}",
                where=where,
                rule=rule,
                remedy="correct the node's label nvidia.com/gpu.product, or gpu.node_selector in the cluster file",
            )
        if free < needed_gib:
            checks.add(
                f"GPU {number} has {free:.1f} GiB free of {total:.1f}",
                where=where,
                rule=rule,
                remedy="end what else runs on this GPU, or place the step on a GPU of its own (not a time-sliced one)",
                may_pass=True,
            )
    checks.raise_if_any()


def _product(name: str) -> str:
    """A GPU's name in the form in which the driver's and the label's are the same."""
    return SHARED.sub("", re.sub(r"[^a-z0-9.]+", "-", name.casefold()))
