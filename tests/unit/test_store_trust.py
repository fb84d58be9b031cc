"""When a worker takes no jobs because what they make could not be stored."""

from __future__ import annotations

from typing import cast

from shared.storage.interface import ObjectMissing, Storage, StorageError
from workers.runtime.inputs import InputLost
from workers.runtime.store_trust import StoreTrust


class Store:
    """Works or not, and counts how often it is asked."""

    broken, asked = False, 0

    def check(self) -> None:
        self.asked += 1
        if self.broken:
            raise StorageError("full")


def test_a_store_that_works_is_asked_once_in_a_while() -> None:
    store = Store()
    trust = StoreTrust(cast(Storage, store))
    assert trust.works()
    assert trust.works()
    assert store.asked == 1


def test_after_an_error_it_must_say_that_it_works() -> None:
    store = Store()
    trust = StoreTrust(cast(Storage, store))
    assert trust.works()
    trust.heard(ValueError("somebody else's"))
    trust.heard(ObjectMissing("a file that has gone"))
    assert not trust.is_doubted
    store.broken = True
    trust.heard(StorageError("full"))
    assert trust.is_doubted
    assert not trust.works()
    store.broken = False
    assert trust.works()
    assert not trust.is_doubted


def test_an_input_that_could_not_be_read_is_an_error_of_the_store() -> None:
    trust = StoreTrust(cast(Storage, Store()))
    assert trust.works()
    lost = InputLost("a file")
    lost.__cause__ = StorageError("away")
    trust.heard(lost)
    assert trust.is_doubted
