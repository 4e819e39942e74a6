"""Tile paths and entry bundles: what is written is read back, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import tiles
from ledger.errors import ProofError
from ledger.tiles import TilePath

widths = st.integers(1, 256)
indexes = st.integers(0, tiles.INDEX_MAX)


@pytest.mark.parametrize(
    ("index", "path"),
    [(0, "000"), (5, "005"), (999, "999"), (1000, "x001/000"), (1234067, "x001/x234/067"), (10**6, "x001/x000/000")],
)
def test_known_indexes(index: int, path: str) -> None:
    assert tiles.index_path(index) == path


@given(st.integers(0, 63), indexes, widths)
def test_paths_of_tiles_are_read_back(level: int, index: int, width: int) -> None:
    assert tiles.parse_path(tiles.tile_path(level, index, width)) == TilePath(level, index, width)


@given(indexes, widths)
def test_paths_of_bundles_are_read_back(index: int, width: int) -> None:
    assert tiles.parse_path(tiles.bundle_path(index, width)) == TilePath(None, index, width)


@given(st.text("tile/0123456789x.p/entries", max_size=30).map(lambda text: "tile/0/" + text))
def test_only_what_would_be_written_is_read(path: str) -> None:
    try:
        found = tiles.parse_path(path)
    except ProofError:
        return
    assert found.level is not None
    assert tiles.tile_path(found.level, found.index, found.width) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/0/1000",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/001",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/999",
        "tile/0/000/",
        "/tile/0/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/../000",
        "tile/0/\u0660\u0660\u0660",
        "tile/0/000\n",
        "tile/0/" + "x001/" * 8 + "000",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ProofError, match="expected the path of a tile"):
        tiles.parse_path(path)


@pytest.mark.parametrize(("level", "index", "width"), [(64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)])
def test_tiles_that_no_tree_has_get_no_path(level: int, index: int, width: int) -> None:
    with pytest.raises(ProofError):
        tiles.tile_path(level, index, width)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=256))
def test_bundles_are_read_back_and_only_whole(entries: list[bytes]) -> None:
    data = tiles.encode_bundle(entries)
    assert tiles.decode_bundle(data, len(entries)) == entries
    assert len(data) == sum(2 + len(entry) for entry in entries)
    for wrong, width in ((data[:-1], len(entries)), (data + b"\0", len(entries)), (data, len(entries) + 1)):
        with pytest.raises(ProofError, match="entry bundle"):
            tiles.decode_bundle(wrong, width)
    if len(entries) > 1:
        with pytest.raises(ProofError, match="bytes more"):
            tiles.decode_bundle(data, len(entries) - 1)


def test_the_limits_of_bundles() -> None:
    largest = b"x" * 65_535
    assert tiles.decode_bundle(tiles.encode_bundle([largest]), 1) == [largest]
    for entries in ([], [b""] * 257, [largest + b"x"]):
        with pytest.raises(ProofError):
            tiles.encode_bundle(entries)


def test_how_many_tiles_a_level_has() -> None:
    assert tiles.widths(70_000, 0) == (273, 112)
    assert tiles.widths(70_000, 1) == (1, 17)
    assert tiles.widths(70_000, 2) == (0, 1)
    assert tiles.widths(256, 0) == (1, 0)
