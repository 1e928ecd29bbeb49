"""The rules of the HTTP server that need no socket: transfers, bytes, peers, and the order of dropping."""

import ipaddress
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.server.budget import ByteBudget
from api.server.peers import PeerPolicy, PeerShares, WaitingConnections, parse_networks
from api.server.transfer import MinimumRate
from api.server.uploads import find_loser

RATE = MinimumRate(stall_seconds=20, bytes_per_second=16_384)
MEGABYTE = 1_000_000


def get_duration(sizes: list[int], interval_seconds: float) -> float | None:
    """Return when a transfer of these sizes, one at each interval, is dropped; None if it completes."""
    now, deadline = 0.0, RATE.start(0.0)
    for size in sizes:
        now += interval_seconds
        if now >= deadline:
            return deadline
        deadline = RATE.extend(deadline, now, size)
    return None


def test_a_trickling_transfer_is_dropped_within_thirty_seconds() -> None:
    dropped_after = get_duration([1] * 1000, interval_seconds=12)

    assert dropped_after is not None and dropped_after < 30


def test_a_slow_uplink_sends_32_megabytes() -> None:
    # 20 KB/s, in bursts of ten seconds.
    assert get_duration([200_000] * 160, interval_seconds=10) is None


def test_a_transfer_that_stalls_after_a_fast_start_is_dropped() -> None:
    now = 5.0
    deadline = RATE.extend(RATE.start(0.0), now, 31 * MEGABYTE)

    assert deadline == now + RATE.stall_seconds


@given(sizes=st.lists(st.integers(1, 10**6), min_size=1, max_size=50), interval=st.floats(0.01, 60))
def test_a_transfer_lasts_no_longer_than_its_bytes_allow(sizes: list[int], interval: float) -> None:
    dropped_after = get_duration(sizes, interval)

    if dropped_after is not None:
        assert dropped_after <= RATE.stall_seconds + sum(sizes) / RATE.bytes_per_second
    else:
        assert interval * len(sizes) <= RATE.stall_seconds + sum(sizes) / RATE.bytes_per_second


def test_a_budget_refuses_what_exceeds_it_until_bytes_are_released() -> None:
    budget = ByteBudget(100)
    first = budget.reserve(80)

    assert first is not None
    assert budget.reserve(21) is None
    first.release()
    first.release()
    assert budget.reserve(100) is not None


def test_large_bodies_leave_an_eighth_of_the_budget_to_small_ones() -> None:
    budget = ByteBudget(3200)
    large = [budget.reserve(1400), budget.reserve(1400)]

    assert all(large)
    assert budget.reserve(101) is None
    assert all(budget.reserve(100) for _ in range(4))
    assert budget.reserve(1) is None


def test_a_large_body_that_is_alone_may_have_the_whole_budget() -> None:
    reservation = ByteBudget(3200).reserve(3000)

    assert reservation is not None and reservation.grow(200)


def test_a_reservation_shrinks_to_what_is_kept() -> None:
    budget = ByteBudget(100)
    reservation = budget.reserve(40)
    assert reservation is not None

    reservation.shrink(30)
    reservation.shrink(35)

    assert budget.used == 30


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["reserve", "grow", "shrink", "release"]), st.integers(0, 60)),
        max_size=40,
    )
)
def test_a_budget_never_exceeds_its_size_and_ends_empty(steps: list[tuple[str, int]]) -> None:
    budget, held = ByteBudget(100), []
    for step, number in steps:
        if step == "reserve":
            reservation = budget.reserve(number)
            held += [reservation] if reservation else []
        elif held:
            reservation = held[number % len(held)]
            arguments = [number] if step in ("grow", "shrink") else []
            getattr(reservation, step)(*arguments)
        assert budget.used == sum(one.nbytes for one in held) <= 100

    for reservation in held:
        reservation.release()
    assert budget.used == 0
    assert budget.reserve(100) is not None


def test_a_budget_is_exact_with_many_threads() -> None:
    budget = ByteBudget(1000)

    def use() -> None:
        for _ in range(2000):
            reservation = budget.reserve(7)
            if reservation:
                reservation.release()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert budget.used == 0


@dataclass(eq=False)
class Transfer:
    """An upload under way."""

    uploader: str | None
    nbytes: int
    deadline: float


def hold_all(*uploads: Transfer) -> PeerShares[Transfer]:
    shares: PeerShares[Transfer] = PeerShares()
    for one in uploads:
        shares.hold(one, one.uploader, one.nbytes)
    return shares


@pytest.mark.parametrize(
    ("held", "newcomer", "loser"),
    [
        # All move on, and no peer holds much: the one that comes is refused.
        ([("a", 20, 20), ("b", 25, 20)], ("c", 1, 20), None),
        # One stands still.
        ([("a", 20, 9), ("b", 25, 20)], ("c", 1, 20), 0),
        ([("a", 20, 9), ("a", 25, 20)], ("a", 1, 20), 0),
        # A peer holds more than a quarter, and more than the newcomer's; its slowest that holds much is dropped.
        ([("a", 20, 19), ("a", 30, 18), ("a", 1, 17), ("b", 25, 20)], ("c", 10, 20), 1),
        ([("a", 30, 20), ("b", 5, 20)], ("b", 40, 20), None),
        ([("a", 30, 20), ("a", 30, 20)], ("a", 1, 20), None),
        # Trusted proxies that tell no client are one peer.
        ([(None, 30, 20), (None, 30, 20)], ("a", 1, 20), 0),
        ([], ("a", 1, 20), None),
    ],
)
def test_the_upload_that_makes_room(
    held: list[tuple[str | None, int, float]], newcomer: tuple[str, int, float], loser: int | None
) -> None:
    uploads, new = [Transfer(*one) for one in held], Transfer(*newcomer)

    found = find_loser(hold_all(*uploads), new, new.nbytes, slow_before=10, max_bytes=100)

    assert found is (None if loser is None else uploads[loser])


@pytest.mark.parametrize(
    ("addresses", "peer"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("198.51.100.1, 192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("192.0.2.7, 10.1.2.3", None),
        ("unknown", None),
        ("", None),
    ],
)
def test_the_client_of_a_proxy_is_a_peer(addresses: str, peer: str | None) -> None:
    assert PeerPolicy(parse_networks("10.0.0.0/8")).identify_forwarded(addresses) == peer


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.7", 1234), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1234, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3::4", 1234, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1234, 0, 2), "fe80::/64"),
        (("10.1.2.3", 1234), None),
        (("::ffff:10.1.2.3", 1234, 0, 0), None),
        (("2001:db8:ffff::1", 1234, 0, 0), None),
        ("", None),
    ],
)
def test_peers_are_told_apart_and_proxies_are_known(address: object, peer: str | None) -> None:
    policy = PeerPolicy(parse_networks("10.0.0.0/8, 2001:db8:ffff::1"))

    assert policy.identify(address) == peer


def test_what_is_no_network_is_reported() -> None:
    with pytest.raises(ValueError, match=r"10\.1"):
        parse_networks("127.0.0.1, 10.1/8")
    assert parse_networks("") == ()
    assert parse_networks("127.0.0.1") == (ipaddress.ip_network("127.0.0.1/32"),)


def test_the_oldest_connection_of_a_peer_exceeds_its_bound() -> None:
    waiting: WaitingConnections[str] = WaitingConnections(max_per_peer=2)

    assert [waiting.add(name, "a") for name in ("a1", "a2")] == [None, None]
    assert waiting.add("b1", "b") is None
    assert waiting.add("a3", "a") == "a1"


def test_a_connection_that_begins_a_request_is_the_newest_again() -> None:
    waiting: WaitingConnections[str] = WaitingConnections(max_per_peer=2)
    for name in ("a1", "a2"):
        waiting.add(name, "a")

    waiting.add("a1", "a")

    assert waiting.get_oldest() == "a2"
    assert waiting.add("a3", "a") == "a2"


def test_a_trusted_proxy_has_no_bound_of_its_own_but_counts_to_all() -> None:
    waiting: WaitingConnections[int] = WaitingConnections(max_per_peer=2)

    assert {waiting.add(number, None) for number in range(100)} == {None}
    assert (len(waiting), waiting.get_oldest()) == (100, 0)


def test_unread_bytes_are_dropped_from_the_peer_that_has_the_most() -> None:
    unread: PeerShares[str] = PeerShares()
    for name, nbytes in {"b1": 50, "a1": 10, "a2": 45, "b2": 5, "a3": 10}.items():
        unread.hold(name, name[0], nbytes)

    assert unread.find_surplus() == "a1"
    unread.hold("a2", "a", 5)
    assert (unread.total, unread.find_surplus()) == (80, "b1")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 5)), max_size=60))
def test_shares_are_the_sums_of_what_is_held(steps: list[tuple[bool, int, int]]) -> None:
    shares: PeerShares[int] = PeerShares()
    held: dict[int, int] = {}
    for is_held, number, amount in steps:
        if is_held:
            shares.hold(number, f"peer {number % 3}", amount)
            held[number] = amount
        else:
            shares.remove(number)
            held.pop(number, None)
        assert (len(shares), shares.total) == (len(held), sum(held.values()))
        if held:
            sums = [sum(amount for number, amount in held.items() if number % 3 == peer) for peer in range(3)]
            assert sums[shares.find_surplus() % 3] == max(sums)

    for number in held:
        shares.remove(number)
    assert (shares._by_peer, shares.sums) == ({}, {})


def test_a_surplus_is_found_among_many_connections_without_a_visit_to_each() -> None:
    visits = 0

    class Visited(int):
        def __hash__(self) -> int:
            nonlocal visits
            visits += 1
            return int(self)

    shares: PeerShares[Visited] = PeerShares()
    for number in range(10_000):
        shares.hold(Visited(number), f"peer {number % 20}", 1)
    visits = 0

    shares.remove(shares.find_surplus())

    assert visits < 10


def test_the_peer_with_the_most_connections_loses_its_oldest() -> None:
    waiting: WaitingConnections[str] = WaitingConnections(max_per_peer=9)
    for name in ("b1", "a1", "a2", "b2", "b3"):
        waiting.add(name, name[0])
    waiting.add("proxied", None)

    assert waiting.get_oldest() == "b1"
    waiting.remove("b2")
    waiting.remove("b3")
    assert waiting.get_oldest() == "a1"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_removed_connections_leave_nothing_behind(steps: list[tuple[bool, int]]) -> None:
    waiting: WaitingConnections[int] = WaitingConnections(max_per_peer=3)
    present: list[int] = []
    for is_added, number in steps:
        present = [one for one in present if one != number]
        if is_added:
            waiting.add(number, f"peer {number % 2}" if number % 3 else None)
            present.append(number)
        else:
            waiting.remove(number)
        assert len(waiting) == len(present)
        assert (waiting.get_oldest() in present) if present else waiting.get_oldest() is None

    for number in present:
        waiting.remove(number)
    assert waiting._by_peer == {}
