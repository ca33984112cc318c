"""The pool of warm items: filled in the background, given out, destroyed whatever happens or taken back if clean."""

import itertools
import threading

import pytest
from nad_sandbox.backends.pool import WarmPool


class Items:
    """Makes numbers, and remembers which are gone and which threads made them."""

    def __init__(self):
        self.numbers = itertools.count()
        self.gone = []
        self.makers = set()
        self.unusable = set()
        self.fail = False

    def make(self):
        if self.fail:
            raise OSError("no more")
        self.makers.add(threading.current_thread())
        return next(self.numbers)

    def pool(self, size, workers=1):
        return WarmPool(self.make, self.gone.append, lambda item: item not in self.unusable, size, workers)


@pytest.fixture
def items():
    return Items()


@pytest.mark.parametrize("workers", [1, 3])
def test_it_is_filled_when_a_use_ends_and_each_item_is_used_once(items, workers):
    pool = items.pool(3, workers)
    assert len(pool) == 0
    taken = [pool.take()]
    pool.give_back(taken[0])
    pool.wait_idle()
    assert (len(pool), items.gone) == (3, taken)
    taken += [pool.take() for _ in range(5)]
    assert sorted(taken) == list(range(6))
    for item in taken[1:]:
        pool.give_back(item)
    pool.wait_idle()
    assert (len(pool), sorted(items.gone)) == (3, sorted(taken))
    pool.close()
    assert len(set(items.gone)) == len(items.gone) == next(items.numbers)


def test_the_threads_that_made_what_is_in_stock_live_as_long_as_it(items):
    pool = items.pool(2)
    pool.prepare()
    pool.wait_idle()
    assert all(thread.is_alive() for thread in items.makers)
    pool.close()
    assert not any(thread.is_alive() for thread in items.makers)


def test_what_has_become_unusable_is_not_given_out(items):
    pool = items.pool(2)
    pool.prepare()
    pool.wait_idle()
    items.unusable = {0, 1}
    assert pool.take() >= 2
    pool.wait_idle()
    assert {0, 1} <= set(items.gone)
    pool.close()


def test_an_item_that_cannot_be_made_is_the_takers_error_and_is_tried_again(items):
    pool = items.pool(2)
    items.fail = True
    pool.prepare()
    pool.wait_idle()
    with pytest.raises(OSError, match="no more"):
        pool.take()
    items.fail = False
    pool.give_back(pool.take())
    pool.wait_idle()
    assert len(pool) == 2
    pool.close()


class TestItemsThatGoOn:
    """Items may be given out again while they say so."""

    @pytest.fixture
    def worn(self):
        return set()

    @pytest.fixture
    def pool(self, items, worn):
        made = WarmPool(
            items.make, items.gone.append, lambda _: True, 2, workers=2, goes_on=lambda item: item not in worn
        )
        made.prepare()
        made.wait_idle()
        yield made
        made.close()

    def test_they_are_given_out_again_and_no_others_are_made_meanwhile(self, pool, items):
        first, second = pool.take(), pool.take()
        for _ in range(5):
            pool.give_back(first)
            assert pool.take() == first
        pool.give_back(second)
        pool.give_back(first)
        pool.wait_idle()
        assert (len(pool), items.gone, next(items.numbers)) == (2, [], 2)

    def test_what_is_worn_is_replaced(self, pool, items, worn):
        item = pool.take()
        worn.add(item)
        pool.give_back(item)
        pool.wait_idle()
        assert (len(pool), items.gone) == (2, [item])

    def test_what_a_taker_made_ends_with_its_thread_and_is_used_once(self, pool, items):
        taken = [pool.take() for _ in range(3)]
        assert taken[2] == 2
        for item in taken[::-1]:
            pool.give_back(item)
        pool.wait_idle()
        assert items.gone == [2]


def test_what_is_taken_when_it_closes_is_destroyed_when_it_comes_back(items):
    pool = items.pool(0)
    item = pool.take()
    pool.close()
    assert items.gone == []
    pool.give_back(item)
    assert items.gone == [item]
