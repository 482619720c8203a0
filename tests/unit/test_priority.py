"""What gives way gives way whole: Linux keeps a nice value a thread, and pools are started before."""

import os
import subprocess
import sys

from engagement import priority

GIVES_WAY = """
import os, subprocess, sys, threading
from engagement.priority import give_way
stay = threading.Event()
pool = threading.Thread(target=stay.wait)
pool.start()
give_way()
child = subprocess.run([sys.executable, "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"], capture_output=True, text=True)
print(*(os.getpriority(os.PRIO_PROCESS, thread) for thread in (0, pool.native_id)), child.stdout)
stay.set()
"""


def test_every_thread_gives_way_and_every_child_to_come():
    before = os.getpriority(os.PRIO_PROCESS, 0)
    found = subprocess.run([sys.executable, "-c", GIVES_WAY], capture_output=True, text=True, check=True)
    assert [int(item) for item in found.stdout.split()] == [priority.NICE] * 3 != [before] * 3
