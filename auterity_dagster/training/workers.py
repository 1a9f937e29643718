"""Several processes that train one stage together: which one this is, and how they agree."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of `processes`; alone unless a launcher said otherwise."""

    rank: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        """True for the one that reports, seals checkpoints and writes the outcome."""
        return self.rank == 0

    def wait_for_all(self) -> None:
        """Return when every process is here."""
        if self.processes > 1 and dist.is_initialized():
            dist.barrier()

    def any_of_all(self, flag: bool, *, device: torch.device) -> bool:
        """Return whether any process raised its flag: all of them stop at the same step, or none does."""
        if self.processes == 1 or not dist.is_initialized():
            return flag
        flags = torch.tensor([int(flag)], device=device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())


def this_worker() -> Worker:
    """Read what torch's launcher told this process."""
    return Worker(rank=int(os.environ.get("RANK", "0")), processes=int(os.environ.get("WORLD_SIZE", "1")))
