"""The cache never holds more bytes than it may, and never changes a picture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tilth.ops.letterbox import Placement
from tilth.train.picture_cache import PictureCache, Prepared

PLACEMENT = Placement(scale_x=1.0, scale_y=1.0, left=0, top=0)


def _prepare(key):
    return Prepared(np.full((10, 10, 3), key, dtype=np.uint8), PLACEMENT, (10, 10))


def _held(cache, keys):
    """Those of ``keys`` that the cache need not prepare again."""
    prepared = []

    def noted(key):
        prepared.append(key)
        return _prepare(key)

    for key in keys:
        cache.get(key, noted)
    return set(keys) - set(prepared)


def test_second_time_is_not_prepared_again():
    cache, calls = PictureCache(10_000), []

    def counted(key):
        calls.append(key)
        return _prepare(key)

    for key in (1, 2, 1, 2):
        assert cache.get(key, counted).image_rgb[0, 0, 0] == key
    assert calls == [1, 2]


def test_full_cache_keeps_the_first_and_still_gives_the_others():
    cache = PictureCache(650)  # two pictures of 300 bytes
    for key in (1, 2, 3, 3, 1):
        assert cache.get(key, _prepare).image_rgb[0, 0, 0] == key
    assert _held(cache, [1, 2, 3]) == {1, 2}


def test_threads_together_stay_within_the_limit():
    cache = PictureCache(1_000)
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda key: cache.get(key % 7, _prepare), range(200)))
    assert [picture.image_rgb[0, 0, 0] for picture in pictures] == [k % 7 for k in range(200)]
    assert len(_held(cache, range(7))) == 3  # of 300 bytes each


def test_no_memory_at_all_is_fine():
    cache = PictureCache(0)
    assert cache.get(4, _prepare).image_rgb[0, 0, 0] == 4
    assert not _held(cache, [4])
