"""The stat cache gives back what it was given, except what it must not trust."""

from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.store import Stat, Store
from layersmith.store import statcache as module

STATS = st.builds(
    Stat,
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.integers(-(1 << 62), 1 << 62),
    st.integers(-(1 << 62), 1 << 62),
    st.binary(min_size=32, max_size=32),
)
PATHS = st.binary(min_size=1, max_size=20).map(lambda path: path.replace(b"\0", b"_"))


@given(st.dictionaries(PATHS, STATS, max_size=8))
@settings(max_examples=50)
def test_encoding_round_trip(files: dict[bytes, Stat]) -> None:
    """Any table reads back as itself."""
    assert module._decoded(module._encoded(files)) == files


def test_a_damaged_table_is_empty() -> None:
    """A flipped bit anywhere means that everything is hashed again."""
    data = module._encoded({b"a": Stat(1, 2, 3, 4, bytes(32)), b"b": Stat(5, 6, 7, 8, bytes(32))})
    for at in range(len(data)):
        damaged = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        assert module._decoded(damaged) == {}
        assert module._decoded(data[:at]) == {}


def test_files_changed_just_now_are_not_remembered(store: Store) -> None:
    """An edit within the clock's tick of the hashing could not be seen, so such a file is hashed again."""
    now = 10_000_000_000_000
    old = Stat(1, 2, 3, now - module.RACY_NS - 1, bytes(32))
    racy = Stat(1, 2, 3, now - module.RACY_NS, bytes(32))
    future = Stat(1, 2, 3, now + 1, bytes(32))
    store.statcache.save(b"/ctx", {b"old": old, b"racy": racy, b"future": future}, started_ns=now)
    assert store.statcache.load(b"/ctx") == {b"old": old}
    assert store.statcache.load(b"/other") == {}
