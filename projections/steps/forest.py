"""What contains what: spans by their parents, as a forest. Pure.

Nodes are texts, and the parent of a node need not be among those that were told: a child comes before its parent, which
may come late or never. Then it is a node all the same, without a parent of its own.

Guarantees: any mapping becomes a forest, since a cycle is cut above its least node; the same links make the same forest
in whatever order they were told. Linear in the number of nodes, but for one sort by depth.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from typing import Final


class Forest:
    """Nodes with their depths (0 at the top), in an order in which parents come first."""

    def __init__(self, parents: Mapping[str, str]) -> None:
        self._parent = _without_cycles(parents)
        self._depth: dict[str, int] = {}
        self._top: dict[str, str] = {}
        for node in (*parents, *parents.values()):
            self._settle(node)
        self.nodes: Final = sorted(self._depth, key=lambda node: (self._depth[node], node))
        self._children: dict[str, list[str]] = {}
        for node in self.nodes:
            parent = self._parent.get(node)
            if parent is not None:
                self._children.setdefault(parent, []).append(node)

    def depth(self, node: str) -> int:
        """How many nodes are known above it."""
        return self._depth.get(node, 0)

    def top(self, node: str) -> str:
        """The highest known node above it, or itself."""
        return self._top.get(node, node)

    def has_children(self, node: str) -> bool:
        """Whether a node is known that has this one as its parent."""
        return node in self._children

    def children(self, node: str) -> tuple[str, ...]:
        """The nodes that have this one as their parent."""
        return tuple(self._children.get(node, ()))

    def nearest(self, marked: Container[str]) -> dict[str, str]:
        """For each node that has one: the nearest of the marked nodes above it."""
        found: dict[str, str] = {}
        for node in self.nodes:
            parent = self._parent.get(node)
            if parent is None:
                continue
            if parent in marked:
                found[node] = parent
            elif parent in found:
                found[node] = found[parent]
        return found

    def nearest_with(self, keys: Mapping[str, Collection[str]]) -> dict[tuple[str, str], str]:
        """For each node and key of it: the nearest node above that has that key too, if there is one."""
        found: dict[tuple[str, str], str] = {}
        open_by_key: dict[str, list[str]] = {}
        stack = [(node, False) for node in reversed(self.nodes) if node not in self._parent]
        while stack:
            node, left = stack.pop()
            own = keys.get(node, ())
            if left:
                for key in own:
                    open_by_key[key].pop()
                continue
            for key in own:
                above = open_by_key.setdefault(key, [])
                if above:
                    found[node, key] = above[-1]
                above.append(node)
            stack.append((node, True))
            stack.extend((child, False) for child in self._children.get(node, ()))
        return found

    def _settle(self, node: str) -> None:
        """Depth and top of a node, from the first settled one above it downwards."""
        path: list[str] = []
        while node not in self._depth:
            path.append(node)
            parent = self._parent.get(node)
            if parent is None:
                break
            node = parent
        while path:
            node = path.pop()
            above = self._parent.get(node)
            self._depth[node] = 0 if above is None else self._depth[above] + 1
            self._top[node] = node if above is None else self._top[above]


def _without_cycles(parents: Mapping[str, str]) -> dict[str, str]:
    """The same links, each cycle cut above its least node. A node has one parent, so cycles don't share nodes."""
    kept = dict(parents)
    seen_from: dict[str, str] = {}  # node -> where the walk that first met it began
    for start in parents:
        node = start
        while node not in seen_from and node in parents:
            seen_from[node] = start
            node = parents[node]
        if seen_from.get(node) == start and node in parents:
            cycle = [node]
            while (node := parents[node]) != cycle[0]:
                cycle.append(node)
            kept.pop(min(cycle), None)
    return kept
