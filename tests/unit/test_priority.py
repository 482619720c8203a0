"""What gives way gives way whole: Linux keeps a nice value a thread, and pools are started before."""

import os
import subprocess
import sys

GIVES_WAY = """
import os, subprocess, sys, threading
from engagement.priority import give_way
stay = threading.Event()
pool = threading.Thread(target=stay.wait)
pool.start()
give_way(int(sys.argv[1]))
child = subprocess.run([sys.executable, "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"], capture_output=True, text=True)
print(*(os.getpriority(os.PRIO_PROCESS, thread) for thread in (0, pool.native_id)), child.stdout)
stay.set()
"""


BEFORE = os.getpriority(os.PRIO_PROCESS, 0)


def nice_values(nice):
    found = subprocess.run([sys.executable, "-c", GIVES_WAY, str(nice)], capture_output=True, text=True, check=True)
    return [int(item) for item in found.stdout.split()]


def test_every_thread_gives_way_and_every_child_to_come():
    assert nice_values(19) == [19] * 3 != [BEFORE] * 3


def test_nothing_gives_way_where_the_settings_say_so():
    assert nice_values(0) == [BEFORE] * 3
