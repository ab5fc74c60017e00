"""Containers that wait for another test of their profile: which are kept, and which are removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.slots.idle_slots import Shelf
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
def shelf(removed: list[Container]) -> Shelf[Container]:
    return Shelf(removed.append, most=2, most_bytes=10 * MIB)


def test_what_was_put_there_last_is_taken_first(shelf: Shelf[Container], removed: list[Container]) -> None:
    one, two = Container(profile()), Container(profile())
    shelf.put(one)
    shelf.put(two)
    assert shelf.take(profile()) is two
    assert shelf.take(profile()) is one
    assert shelf.take(profile()) is None
    assert removed == []


def test_only_an_equal_profile_will_do(shelf: Shelf[Container]) -> None:
    kept = Container(profile())
    shelf.put(kept)
    assert shelf.take(profile(pids=32)) is None
    assert shelf.take(profile()) is kept


def test_too_many_make_the_oldest_give_way(shelf: Shelf[Container], removed: list[Container]) -> None:
    all_of_them = [Container(profile()) for _ in range(4)]
    for one in all_of_them:
        shelf.put(one)
    assert removed == all_of_them[:2]


def test_too_much_memory_makes_the_oldest_give_way(shelf: Shelf[Container], removed: list[Container]) -> None:
    small, large, huge = (Container(profile(), size * MIB) for size in (4, 7, 11))
    shelf.put(small)
    shelf.put(large)
    assert removed == [small]
    shelf.put(huge)
    assert removed == [small, large, huge]


def test_one_of_which_too_little_is_known_is_not_kept(shelf: Shelf[Container], removed: list[Container]) -> None:
    unknown = Container(profile(), None)
    shelf.put(unknown)
    assert removed == [unknown]
    assert shelf.take(profile()) is None


def test_one_that_ended_meanwhile_is_removed_and_not_given(
    shelf: Shelf[Container], removed: list[Container]
) -> None:
    living, ended = Container(profile()), Container(profile())
    shelf.put(living)
    shelf.put(ended)
    ended.alive = False
    assert shelf.take(profile()) is living
    assert removed == [ended]


def test_closing_removes_all_and_keeps_nothing_more(shelf: Shelf[Container], removed: list[Container]) -> None:
    early, late = Container(profile()), Container(profile())
    shelf.put(early)
    shelf.close()
    shelf.put(late)
    shelf.close()
    assert removed == [early, late]
