"""Containers that wait for another test of their profile: which are kept, and which are removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.slots.idle_slots import IdleSlotPool
from tests.support.handmade import make_assignment

if TYPE_CHECKING:
    from orchestrator.model.profiles import Profile

MIB = 1 << 20


@dataclass(eq=False)
class Container:
    profile: Profile
    charged_bytes: int | None = MIB
    alive: bool = True


def profile(**changes: object) -> Profile:
    return make_assignment("true", **{"reuse": 10, **changes}).profile


@pytest.fixture
def removed() -> list[Container]:
    return []


@pytest.fixture
def pool(removed: list[Container]) -> IdleSlotPool[Container]:
    return IdleSlotPool(removed.append, max_slots=2, max_bytes=10 * MIB)


def test_what_was_put_there_last_is_taken_first(pool: IdleSlotPool[Container], removed: list[Container]) -> None:
    one, two = Container(profile()), Container(profile())
    pool.put(one)
    pool.put(two)
    assert pool.take(profile()) is two
    assert pool.take(profile()) is one
    assert pool.take(profile()) is None
    assert removed == []


def test_only_an_equal_profile_will_do(pool: IdleSlotPool[Container]) -> None:
    kept = Container(profile())
    pool.put(kept)
    assert pool.take(profile(pids=32)) is None
    assert pool.take(profile()) is kept


def test_too_many_make_the_oldest_give_way(pool: IdleSlotPool[Container], removed: list[Container]) -> None:
    all_of_them = [Container(profile()) for _ in range(4)]
    for one in all_of_them:
        pool.put(one)
    assert removed == all_of_them[:2]


def test_too_much_memory_makes_the_oldest_give_way(
    pool: IdleSlotPool[Container], removed: list[Container]
) -> None:
    small, large, huge = (Container(profile(), size * MIB) for size in (4, 7, 11))
    pool.put(small)
    pool.put(large)
    assert removed == [small]
    pool.put(huge)
    assert removed == [small, large, huge]


def test_one_of_which_too_little_is_known_is_not_kept(
    pool: IdleSlotPool[Container], removed: list[Container]
) -> None:
    unknown = Container(profile(), None)
    pool.put(unknown)
    assert removed == [unknown]
    assert pool.take(profile()) is None


def test_one_that_ended_meanwhile_is_removed_and_not_given(
    pool: IdleSlotPool[Container], removed: list[Container]
) -> None:
    living, ended = Container(profile()), Container(profile())
    pool.put(living)
    pool.put(ended)
    ended.alive = False
    assert pool.take(profile()) is living
    assert removed == [ended]


def test_closing_removes_all_and_keeps_nothing_more(
    pool: IdleSlotPool[Container], removed: list[Container]
) -> None:
    early, late = Container(profile()), Container(profile())
    pool.put(early)
    pool.close()
    pool.put(late)
    pool.close()
    assert removed == [early, late]
