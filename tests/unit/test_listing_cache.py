"""The cache of lists: bounded, and only ever asked for an exact generation."""

from shared.model import BranchName, Generation, RepoId
from shared.web.listing_cache import OVERHEAD, Body, Key, ListingCache


def key(name: str) -> Key:
    return (RepoId("team"), BranchName("main"), name)


def body(generation: int, size: int) -> Body:
    return Body(Generation(generation), b"x" * (size - OVERHEAD))


def test_a_body_is_given_for_its_generation_alone() -> None:
    cache = ListingCache(10_000)
    cache.put(key("a"), body(2, 2000))
    assert cache.get(key("a"), Generation(2))
    assert cache.get(key("a"), Generation(1)) is None
    assert cache.get(key("a"), Generation(3)) is None
    assert cache.get(key("b"), Generation(2)) is None


def test_the_least_recently_used_goes_first() -> None:
    cache = ListingCache(6000)
    for name in "abc":
        cache.put(key(name), body(1, 2000))
    assert cache.get(key("a"), Generation(1))
    cache.put(key("d"), body(1, 2000))
    assert [name for name in "abcd" if cache.get(key(name), Generation(1))] == ["a", "c", "d"]
    assert cache.size == 6000


def test_another_body_takes_the_place_and_the_size_of_the_one_before() -> None:
    cache = ListingCache(6000)
    cache.put(key("a"), body(1, 5000))
    cache.put(key("a"), body(2, 3000))
    assert cache.size == 3000
    assert cache.get(key("a"), Generation(1)) is None


def test_a_body_beyond_the_limit_is_not_kept_and_takes_the_older_one_along() -> None:
    cache = ListingCache(6000)
    cache.put(key("a"), body(1, 5000))
    cache.put(key("a"), body(2, 6001))
    assert cache.size == 0
    assert cache.get(key("a"), Generation(1)) is None


def test_many_small_bodies_count_too() -> None:
    cache = ListingCache(10 * OVERHEAD)
    for number in range(1000):
        cache.put(key(str(number)), body(1, OVERHEAD))
    assert cache.size == 10 * OVERHEAD
    assert sum(cache.get(key(str(number)), Generation(1)) is not None for number in range(1000)) == 10
