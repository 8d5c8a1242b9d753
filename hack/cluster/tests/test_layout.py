"""The embedded cluster's names and addresses: derived, never configured."""

from __future__ import annotations

import ipaddress
import itertools
from pathlib import Path

import pytest

from embedded.errors import ClusterError
from embedded.layout import Layout, Shape, cache_root, checked_name, known_clusters
from embedded.network import SLOTS, Subnets, free_slot
from embedded.starter import wanted_shape


def test_slots_share_no_address() -> None:
    networks = [ipaddress.ip_network(one) for slot in range(SLOTS) for one in Subnets(slot).all()]
    for one, other in itertools.combinations(networks, 2):
        assert not one.overlaps(other)


def test_every_address_is_in_its_subnet() -> None:
    subnets = Subnets(3)
    link = ipaddress.ip_network(subnets.link)
    for address in (subnets.host_ip, subnets.api_ip, subnets.node_ip(1), subnets.node_ip(8)):
        assert ipaddress.ip_address(address) in link
    pods = ipaddress.ip_network(subnets.pods)
    fakes = ipaddress.ip_network(subnets.kwok_pods)
    for number in range(1, 9):
        real = ipaddress.ip_network(subnets.node_pods(number))
        assert real.subnet_of(pods)  # type: ignore[arg-type]
        assert not real.overlaps(fakes)
    assert ipaddress.ip_address(subnets.dns_ip) in ipaddress.ip_network(subnets.services)


def test_names_of_links_fit_the_kernel() -> None:
    assert all(len(name) <= 15 for slot in range(SLOTS) for name in (Subnets(slot).host_link, Subnets(slot).inner_link))


def test_free_slot_skips_taken_ones_and_the_hosts_own_networks() -> None:
    assert free_slot([], []) == 0
    assert free_slot([0, 2], []) == 1
    assert free_slot([], ["10.200.0.0/24", "10.202.5.0/24", "192.168.1.0/24"]) == 2
    assert free_slot([], ["10.219.0.7/32"]) == 0
    assert free_slot([0, 1], ["10.219.0.7/32"]) == 3


def test_no_free_slot_says_what_to_do() -> None:
    with pytest.raises(ClusterError, match="down --all"):
        free_slot(range(SLOTS), [])


@pytest.mark.parametrize("name", ["mabeam", "a", "a-1", "x" * 30])
def test_good_names(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a.b", "x" * 31, "a\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ClusterError, match="cannot name a cluster"):
        checked_name(name)


def test_cache_root_prefers_the_most_specific_variable() -> None:
    everything = {"MABEAM_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}
    assert cache_root(everything) == Path("/c")
    assert cache_root({"XDG_CACHE_HOME": "/x", "HOME": "/h"}) == Path("/x/mabeam")
    assert cache_root({"HOME": "/h"}) == Path("/h/.cache/mabeam")


def test_a_name_in_two_caches_is_two_cgroups(tmp_path: Path) -> None:
    assert Layout("mabeam", tmp_path / "one").cgroup != Layout("mabeam", tmp_path / "two").cgroup


def test_shape_is_read_back(tmp_path: Path) -> None:
    where = Layout("mabeam", tmp_path)
    assert where.read_shape() is None
    where.write_shape(Shape(slot=4, nodes=2, kwok=7))
    assert where.read_shape() == Shape(slot=4, nodes=2, kwok=7)
    assert known_clusters(tmp_path) == ["mabeam"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"slot": 1, "colour": 2}'])
def test_damaged_shape_names_the_cure(tmp_path: Path, content: str) -> None:
    where = Layout("mabeam", tmp_path)
    where.state.mkdir(parents=True)
    where.shape_file.write_text(content)
    with pytest.raises(ClusterError, match="down --name mabeam"):
        where.read_shape()


def test_a_new_cluster_has_one_node() -> None:
    assert wanted_shape("x", None, None, None).nodes == 1
    assert wanted_shape("x", None, 0, 5) == Shape(slot=-1, nodes=0, kwok=5)
    assert wanted_shape("x", None, 0, None).control_plane_only


def test_up_without_arguments_repairs_what_was_asked_for_before() -> None:
    old = Shape(slot=2, nodes=3, kwok=10)
    assert wanted_shape("x", old, None, None) == old
    assert wanted_shape("x", old, 4, None) == Shape(slot=2, nodes=4, kwok=10)


def test_limits_of_requests_stay_as_they_are_until_something_else_is_asked_for() -> None:
    assert wanted_shape("x", None, 0, 2).unthrottled == "none"
    old = Shape(slot=2, nodes=0, kwok=2, unthrottled="all")
    assert wanted_shape("x", old, None, None) == old
    assert wanted_shape("x", old, None, None, "scheduler").unthrottled == "scheduler"


@pytest.mark.parametrize(("nodes", "kwok"), [(2, None), (0, None), (None, 9)])
def test_up_does_not_shrink(nodes: int | None, kwok: int | None) -> None:
    with pytest.raises(ClusterError, match="down --name x"):
        wanted_shape("x", Shape(slot=2, nodes=3, kwok=10), nodes, kwok)
