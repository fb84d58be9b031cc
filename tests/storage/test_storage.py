"""What every store promises, asked of each of them."""

from __future__ import annotations

import gc
import hashlib
import random
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.storage.interface import CHUNK, ObjectExists, ObjectMissing, Storage, StorageError, StoredObject
from shared.storage.s3 import PART

KEY = "results/owner/job/1/0.bin"
MEDIA = "application/octet-stream"
BAD_KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", ".partial/a", "a/.b"]
BAD_KEYS += ["a\\b", "a\0b", "a\n"]


def content_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def uneven(content: bytes) -> Iterator[bytes]:
    """The content in chunks of every kind of size, empty ones too."""
    dice, start = random.Random(len(content)), 0
    while start < len(content):
        size = dice.choice([0, 1, 4093, 70_001, CHUNK, CHUNK + 1, 3 * CHUNK])
        yield content[start : start + size]
        start += size


def read(store: Storage, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join(store.read(key, start, end))


def failing(size: int) -> Iterator[bytes]:
    """Chunks that end in somebody else's error."""
    for _ in range(size // CHUNK):
        yield bytes(CHUNK)
    raise LookupError("the source broke")


@pytest.mark.parametrize("cut", [lambda content: [content], uneven], ids=["one-chunk", "uneven"])
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 7])
def test_what_is_put_is_read(store: Storage, size: int, cut: Callable[[bytes], Iterator[bytes]]) -> None:
    content = content_of(size)
    stored = store.put(KEY, cut(content), MEDIA)
    assert stored == StoredObject(KEY, size, hashlib.sha256(content).hexdigest(), zlib.crc32(content))
    assert store.size(KEY) == size
    chunks = list(store.read(KEY))
    assert b"".join(chunks) == content
    assert all(0 < len(chunk) <= CHUNK for chunk in chunks)


@pytest.mark.parametrize("size", [10, PART + 10])
def test_a_key_is_created_once(store: Storage, size: int) -> None:
    first = content_of(size)
    store.put(KEY, [first], MEDIA)
    with pytest.raises(ObjectExists):
        store.put(KEY, [bytes(size)], MEDIA)
    assert read(store, KEY) == first


@pytest.mark.parametrize("size", [10, PART + 10])
def test_of_simultaneous_writers_the_reader_sees_one_whole(store: Storage, size: int) -> None:
    """Swift looks and then writes, so both may win there; that exactly one does is asked of the folder alone."""
    together = Barrier(2)

    def chunks(letter: bytes) -> Iterator[bytes]:
        yield letter * (size - 1)
        together.wait(30)
        yield letter

    def put(letter: bytes) -> bool:
        try:
            store.put(KEY, chunks(letter), MEDIA)
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(put, [b"a", b"b"]))
    assert any(won)
    assert read(store, KEY) in [letter * size for letter, winner in zip([b"a", b"b"], won, strict=True) if winner]


@pytest.fixture
def hundred(store: Storage) -> bytes:
    content = bytes(range(100))
    store.put(KEY, [content], MEDIA)
    return content


@given(ends=st.tuples(st.integers(0, 100), st.integers(0, 100)))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_range_is_a_slice(store: Storage, hundred: bytes, ends: tuple[int, int]) -> None:
    start, end = ends
    assert read(store, KEY, start, end) == hundred[start:end]
    assert read(store, KEY, start) == hundred[start:]


def test_a_range_across_chunks(store: Storage) -> None:
    content = content_of(PART + CHUNK)
    store.put(KEY, [content], MEDIA)
    assert read(store, KEY, CHUNK - 1, PART + 1) == content[CHUNK - 1 : PART + 1]


@pytest.mark.parametrize(("start", "end"), [(0, 101), (99, 101), (100, 101), (101, 102), (101, 101)])
def test_a_range_past_the_end_is_an_error(store: Storage, hundred: bytes, start: int, end: int) -> None:
    with pytest.raises(StorageError, match=r"short|range|Range"):
        read(store, KEY, start, end)


def test_an_open_range_past_the_end_is_empty(store: Storage, hundred: bytes) -> None:
    assert read(store, KEY, 100) == read(store, KEY, 1000) == b""


def test_missing_keys(store: Storage) -> None:
    for ask in (
        lambda: read(store, KEY),
        lambda: read(store, KEY, 3, 5),
        lambda: read(store, KEY, 3, 3),
        lambda: store.size(KEY),
    ):
        with pytest.raises(ObjectMissing):
            ask()
    store.delete([KEY])
    assert list(store.list("results")) == []


def test_a_folder_is_not_an_object(store: Storage) -> None:
    store.put("a/b/c", [b"x"], MEDIA)
    with pytest.raises(ObjectMissing):
        store.size("a/b")
    with pytest.raises(ObjectMissing):
        read(store, "a/b")
    store.delete(["a/b"])
    assert read(store, "a/b/c") == b"x"


def test_list_and_delete(store: Storage) -> None:
    keys = {"a/1/x.png", "a/1/y/z.png", "a/10/x.png", "b/1/x.png"}
    for key in keys:
        store.put(key, [b"x"], MEDIA)
    assert set(store.list("a/1/")) == set(store.list("a/1")) == {"a/1/x.png", "a/1/y/z.png"}
    assert set(store.list("a")) == keys - {"b/1/x.png"}
    store.delete(store.list("a"))
    assert list(store.list("a")) == []
    assert list(store.list("b")) == ["b/1/x.png"]
    store.put("a/1/x.png", [b"again"], MEDIA)
    assert read(store, "a/1/x.png") == b"again"


@pytest.mark.parametrize("size", [CHUNK, PART + 3 * CHUNK])
def test_nothing_is_visible_of_a_writer_that_failed(store: Storage, size: int) -> None:
    with pytest.raises(LookupError):
        store.put(KEY, failing(size), MEDIA)
    with pytest.raises(ObjectMissing):
        store.size(KEY)
    assert list(store.list("results")) == []
    store.put(KEY, [b"second try"], MEDIA)
    assert read(store, KEY) == b"second try"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys(store: Storage, key: str) -> None:
    for ask in (
        lambda: store.put(key, [b"x"], MEDIA),
        lambda: read(store, key),
        lambda: read(store, key, 0, 0),
        lambda: store.size(key),
        lambda: store.delete([key]),
    ):
        with pytest.raises(ValueError, match="not a storage key"):
            ask()


@pytest.mark.parametrize("prefix", ["", "/", "..", "a/../b", ".partial"])
def test_bad_prefixes(store: Storage, prefix: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        list(store.list(prefix))


def test_a_reader_that_stops_early_leaks_nothing(store: Storage, open_files: Callable[[], int]) -> None:
    store.put(KEY, [content_of(PART + CHUNK)], MEDIA)
    read(store, KEY)
    before = open_files()
    for leave in (lambda chunks: chunks.close(), lambda chunks: None):
        chunks = store.read(KEY)
        next(chunks)
        leave(chunks)
        del chunks
    gc.collect()  # an unclosed file or socket would warn here, and a warning is an error
    assert open_files() <= before


def test_a_good_store_passes_its_check(store: Storage) -> None:
    store.check()
    store.put(KEY, [b"x"], MEDIA)
    store.check()
    assert list(store.list("results")) == [KEY]
