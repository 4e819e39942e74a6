"""The forest of spans: missing parents, circles, and what is above what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from projections.steps.forest import Forest

NODES = st.sampled_from("abcdefgh")
links = st.dictionaries(NODES, NODES, max_size=8).map(
    lambda parents: {node: parent for node, parent in parents.items() if node != parent}
)


def test_a_parent_that_was_never_told_is_a_node_without_one() -> None:
    forest = Forest({"leaf": "step", "step": "root", "other": "gone"})

    assert [forest.depth(node) for node in ("root", "step", "leaf", "gone", "other")] == [0, 1, 2, 0, 1]
    assert (forest.top("leaf"), forest.top("other"), forest.top("elsewhere")) == ("root", "gone", "elsewhere")
    assert forest.has_children("step")
    assert not forest.has_children("leaf")


def test_a_circle_is_cut_above_its_least_node() -> None:
    forest = Forest({"b": "c", "c": "a", "a": "b", "leaf": "b"})

    assert [forest.depth(node) for node in ("a", "c", "b", "leaf")] == [0, 1, 2, 3]


def test_the_nearest_above() -> None:
    forest = Forest({"e": "d", "d": "c", "c": "b", "b": "a", "z": "a"})

    assert forest.nearest({"a", "c"}) == {"b": "a", "c": "a", "d": "c", "e": "c", "z": "a"}
    above = forest.nearest_with({"e": ["x", "y"], "d": ["y"], "b": ["x"], "a": ["y"], "z": ["x", "y"]})
    assert above == {("e", "y"): "d", ("e", "x"): "b", ("d", "y"): "a", ("z", "y"): "a"}


@given(links)
def test_the_order_of_telling_changes_nothing(parents: dict[str, str]) -> None:
    forest, other = Forest(parents), Forest(dict(reversed(parents.items())))

    assert forest.nodes == other.nodes
    assert [forest.top(node) for node in forest.nodes] == [other.top(node) for node in forest.nodes]


@given(links, st.dictionaries(NODES, st.sets(st.sampled_from("xy"))))
def test_what_is_nearest_is_found_by_walking_up_too(parents: dict[str, str], keys: dict[str, set[str]]) -> None:
    forest = Forest(parents)
    found = forest.nearest_with(keys)
    marked = {node for node, own in keys.items() if own}
    nearest = forest.nearest(marked)

    for node in forest.nodes:
        above = _walk_up(parents, forest, node)
        assert nearest.get(node) == next((one for one in above if one in marked), None)
        for key in keys.get(node, ()):
            assert found.get((node, key)) == next((one for one in above if key in keys.get(one, ())), None)


def _walk_up(parents: dict[str, str], forest: Forest, node: str) -> list[str]:
    """The nodes above, nearest first: as many as its depth says, which is fewer than the links where a circle was
    cut."""
    above = []
    for _ in range(forest.depth(node)):
        node = parents[node]
        above.append(node)
    return above


def test_a_chain_of_many_spans_is_no_recursion() -> None:
    long = 50_000
    forest = Forest({str(at): str(at + 1) for at in range(long)})

    assert forest.depth("0") == long
    assert forest.nearest_with({"0": ["x"], str(long): ["x"]}) == {("0", "x"): str(long)}
