"""What may wait gives way to the live path: backfills, upkeep and suites take what processor time nothing else asks for.

Nice values weigh only what the kernel puts into one group: a cgroup, else a session (autogroup). So all that a machine runs is
started in one session (`stack.processes`), and under systemd code server, daemon and runs belong into one unit.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def give_way(nice: int) -> None:
    """Lower the priority of this process for good: all its threads, and all that it starts from now on.

    Args:
        nice: The nice value (`ENGAGEMENT_BACKGROUND_NICE`): 19 is about a seventieth of the share of a process of the live path.
            A thread that has this one or a higher one stays as it is.
    """
    for thread in Path("/proc/self/task").iterdir():  # Linux keeps a nice value a thread; a pool of the engine may live already
        with contextlib.suppress(ProcessLookupError):
            if os.getpriority(os.PRIO_PROCESS, int(thread.name)) < nice:  # only root may raise one again
                os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
