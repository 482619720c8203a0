"""The supervisor, with tiny children: order of start and stop, bounded restarts, no orphan after anything."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers import eventually

from engagement.stack import processes, supervisor
from engagement.stack.supervisor import MARK, Part, PartFailed, Supervisor

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
IGNORE_TERM = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"]
FAIL = [sys.executable, "-c", "raise SystemExit(3)"]
OK = [sys.executable, "-c", ""]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def boss(tmp_path: Path, said: list[str], clock: Clock):
    made = Supervisor(tmp_path, os.environ, said.append, clock=clock)
    yield made
    made.shut_down()


def is_up(boss: Supervisor, name: str) -> bool:
    log = boss.log_of(name)
    return log.exists() and "up" in log.read_text()


def turn_until(boss: Supervisor, predicate) -> None:
    def look() -> bool:
        boss.turn()
        return predicate()

    eventually(look)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_part_starts_when_what_it_needs_is_ready(boss: Supervisor) -> None:
    answers = []
    boss.start([Part("second", SLEEP, needs=["first"]), Part("first", SLEEP, ready=lambda: bool(answers))])
    turn_until(boss, lambda: is_up(boss, "first"))
    boss.turn()
    assert set(boss.pids()) == {"first"}
    answers.append(True)
    turn_until(boss, lambda: is_up(boss, "second"))


def test_a_once_part_is_ready_when_it_succeeded_and_is_not_run_again(boss: Supervisor, said: list[str]) -> None:
    boss.start([Part("once", OK, once=True)])
    turn_until(boss, lambda: boss.is_ready("once"))
    boss.turn()
    assert (boss.pids(), said) == ({}, [])


def test_a_once_part_that_fails_ends_it_all_with_its_log(boss: Supervisor) -> None:
    boss.start([Part("once", FAIL, once=True)])
    with pytest.raises(PartFailed, match=rf"once ended with exit code 3.*{boss.log_of('once')}"):
        turn_until(boss, lambda: False)


def test_a_part_that_does_not_get_ready_in_time_ends_it_all_with_its_log(boss: Supervisor, clock: Clock) -> None:
    boss.start([Part("slow", SLEEP, ready=lambda: False, deadline_seconds=90)])
    turn_until(boss, lambda: is_up(boss, "slow"))
    clock.now += 91
    with pytest.raises(PartFailed, match=rf"slow did not get ready within 90 s.*{boss.log_of('slow')}"):
        boss.turn()


def test_a_dying_part_is_restarted_with_growing_bounded_backoff_and_told_each_time(boss: Supervisor, said: list[str], clock: Clock) -> None:
    boss.start([Part("flaky", FAIL, deadline_seconds=10_000)])
    for count, backoff in enumerate([1, 2, 4, 8, 16, 30, 30], 1):
        turn_until(boss, lambda count=count: len(said) == count)
        assert f"exit code 3; starting it again in {backoff} s" in said[-1]
        clock.now += backoff - 0.1
        boss.turn()
        assert boss.pids() == {}
        clock.now += 0.2


SIGN_OFF = """
import signal, sys, time
def end(*_):
    open(sys.argv[1], "a").write(sys.argv[2])
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(600)
"""


def test_the_last_started_is_stopped_first(boss: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    boss.start([Part(name, [sys.executable, "-c", SIGN_OFF, str(order), name]) for name in "abc"])
    turn_until(boss, lambda: all(is_up(boss, name) for name in "abc"))
    boss.shut_down()
    assert order.read_text() == "cba"


def test_a_child_that_ignores_term_is_killed_after_the_grace(boss: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_GRACE_SECONDS", 0.2)
    boss.start([Part("stubborn", IGNORE_TERM)])
    turn_until(boss, lambda: is_up(boss, "stubborn"))
    child = psutil.Process(boss.pids()["stubborn"])
    boss.shut_down()
    assert gone(child)


def test_children_heed_sigint_even_where_we_ignore_it(boss: Supervisor) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        boss.start([Part("child", SLEEP)])
        turn_until(boss, lambda: is_up(boss, "child"))
    finally:
        signal.signal(signal.SIGINT, before)
    status = Path(f"/proc/{boss.pids()['child']}/status").read_text()
    ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
    assert not ignored & (1 << (signal.SIGINT - 1))


def test_each_child_leads_a_group_of_its_own_in_our_session(boss: Supervisor) -> None:
    boss.start([Part("child", SLEEP)])
    turn_until(boss, lambda: is_up(boss, "child"))
    pid = boss.pids()["child"]
    assert os.getpgid(pid) == pid
    assert os.getsid(pid) == os.getsid(0)  # nice values weigh nothing between sessions


KILLED_SUPERVISOR = """
import os, sys, time
from pathlib import Path
from engagement.stack.supervisor import Part, Supervisor
child = "import subprocess,sys,time; p=subprocess.Popen([sys.executable,'-c','import time; time.sleep(600)'],start_new_session=True)"
child += "; print(p.pid,flush=True); time.sleep(600)"
boss = Supervisor(Path(sys.argv[1]), os.environ, print)
boss.start([Part("parent", [sys.executable, "-c", child])])
while True:
    boss.turn()
    print(boss.pids().get("parent", ""), flush=True)
    time.sleep(0.05)
"""


def test_after_sigkill_of_the_supervisor_the_next_start_leaves_no_orphan_and_no_bystander_dies(boss: Supervisor, tmp_path: Path) -> None:
    bystander = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL, env={**os.environ, MARK: str(tmp_path / "another")})
    killed = subprocess.Popen([sys.executable, "-c", KILLED_SUPERVISOR, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert killed.stdout is not None
        child = psutil.Process(int(eventually(lambda: killed.stdout.readline().strip())))
        grandchild = psutil.Process(int(eventually(lambda: boss.log_of("parent").exists() and boss.log_of("parent").read_text().strip())))
        killed.kill()
        killed.wait()
        eventually(lambda: gone(child))
        assert not gone(grandchild)
        assert boss.sweep() == 1
        assert gone(grandchild)
        assert bystander.poll() is None
        assert boss.sweep() == 0
    finally:
        killed.kill()
        bystander.kill()
        bystander.wait()


def test_a_second_supervisor_leaves_the_first_alone(boss: Supervisor, tmp_path: Path) -> None:
    assert boss.sweep() == 0
    boss.start([Part("child", SLEEP)])
    turn_until(boss, lambda: is_up(boss, "child"))
    with pytest.raises(supervisor.AlreadyRuns, match=rf"process {os.getpid()} runs on {tmp_path}"):
        Supervisor(tmp_path, os.environ, print).sweep()
    assert set(boss.pids()) == {"child"}
    boss.shut_down()
    assert Supervisor(tmp_path, os.environ, print).sweep() == 0


def test_a_pid_with_its_start_time_names_one_process() -> None:
    child = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    assert processes.started_at(child.pid) == processes.started_at(child.pid) != processes.started_at(1)
    child.kill()
    eventually(lambda: processes.started_at(child.pid) is None)  # a zombie counts as gone
    child.wait()
