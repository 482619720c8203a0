"""What a node is told, which ports it gets, and what happens to one that dies. No Java here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.stack import processes
from engagement.stack.broker import Broker
from engagement.stack.cluster import Cluster, OtherNodes
from engagement.stack.node import Address, BrokerFailed, server_properties

PORTS = st.lists(st.integers(1, 65535), min_size=6, max_size=6, unique=True)


@given(PORTS)
def test_three_nodes_agree_on_the_quorum_and_on_nothing_else_that_is_their_own(ports):
    everyone = [Address(number, ports[number - 1], ports[number + 2]) for number in (1, 2, 3)]
    told = [server_properties(at, everyone, Path(f"/data/node-{at.number}")) for at in everyone]
    own = {"node.id", "listeners", "advertised.listeners", "log.dirs"}
    assert all(len({str(one[name]) for one in told}) == (3 if name in own else 1) for name in told[0])
    quorum = told[0]["controller.quorum.voters"]
    assert quorum.split(",") == [f"{at.number}@127.0.0.1:{at.controller_port}" for at in everyone]
    for at, one in zip(everyone, told, strict=True):
        assert one["listeners"] == f"CLIENT://127.0.0.1:{at.port},CONTROLLER://127.0.0.1:{at.controller_port}"


@pytest.mark.parametrize(("nodes", "replicas", "in_sync"), [(1, 1, 1), (3, 3, 2)])
def test_every_kind_of_topic_is_on_all_nodes_and_acknowledged_by_a_majority(nodes, replicas, in_sync):
    everyone = [Address(number, 9000 + number, 9100 + number) for number in range(1, nodes + 1)]
    told = server_properties(everyone[0], everyone, Path("/data"))
    factors = {name: value for name, value in told.items() if name.endswith("replication.factor")}
    bounds = {name: value for name, value in told.items() if name.endswith(("min.isr", "min.insync.replicas"))}
    assert (set(factors.values()), len(factors)) == ({replicas}, 4)
    assert (set(bounds.values()), len(bounds)) == ({in_sync}, 3)
    assert told["unclean.leader.election.enable"] == "false"


def test_free_ports_are_different_and_below_those_of_outgoing_connections():
    ports = processes.free_ports("127.0.0.1", 50)
    assert len(set(ports)) == 50
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if lowest > 2 * processes.LOWEST_PORT:
        assert max(ports) < lowest


def test_a_range_of_outgoing_ports_that_leaves_no_room_is_used_itself(tmp_path, monkeypatch):
    (tmp_path / "range").write_text("1024\t65535\n")
    for place in (tmp_path / "range", tmp_path / "missing"):
        monkeypatch.setattr(processes, "OUTGOING_PORTS", place)
        assert len(set(processes.free_ports("127.0.0.1", 20))) == 20


@pytest.mark.parametrize(
    ("formatted", "starts"),
    [("log", Cluster), ("node-1/log", Broker), ("node-3/log", Broker)],
)
def test_a_folder_of_another_layout_is_refused_before_anything_starts(tmp_path, formatted, starts):
    (tmp_path / formatted).mkdir(parents=True)
    with pytest.raises(OtherNodes, match="choose another --data-dir"):
        starts(tmp_path).start()


def test_a_format_that_was_cut_off_goes_on_with_the_same_identity(tmp_path, monkeypatch):
    storage = tmp_path / "node-2" / "log"
    storage.mkdir(parents=True)
    (storage / "meta.properties").write_text("#\nversion=1\ncluster.id=the-first-one\nnode.id=2\n")
    cluster, asked = Cluster(tmp_path), []
    for number, node in cluster.nodes.items():
        monkeypatch.setattr(node, "begin_format", lambda identity, number=number: asked.append((number, identity)))
        monkeypatch.setattr(node, "end_format", lambda: None)
    cluster._format()
    assert asked == [(1, "the-first-one"), (3, "the-first-one")]


class Ended:
    """A node's process that has ended."""

    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code


class Enough(Exception):
    """Ends the watching."""


def test_one_of_three_that_dies_is_started_again_and_said(tmp_path, monkeypatch):
    cluster, said = Cluster(tmp_path), []
    cluster.nodes[2]._child = Ended(-9)

    def restart(number):
        raise Enough(number)

    monkeypatch.setattr(cluster, "restart", restart)
    with pytest.raises(Enough) as ended:
        cluster.wait(said.append)
    assert (ended.value.args, said) == ((2,), ["node 2 ended by itself (exit -9); starting it again"])


def test_the_end_of_the_only_one_is_the_end_of_all(tmp_path):
    broker = Broker(tmp_path)
    broker.nodes[1]._child = Ended(-9)
    with pytest.raises(BrokerFailed, match=r"node 1 ended by itself \(exit -9\); its log: .*broker\.log"):
        broker.wait(lambda _: None)
