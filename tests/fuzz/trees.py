"""Files that are made of named parts (chunks, boxes, segments, fields), spoilt part by part.

A format is read into nodes, something happens to a node, and the format writes them again with right lengths and check
sums: what is damaged then reaches the code behind the first look at a header.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from . import damage


@dataclass
class Node:
    """A part of a file.

    Attributes:
        tag: its name or number, as the format has it.
        data: what is in it, where it has no parts; of one with parts, what stands before them.
        children: its parts; None where it is not made of any.
        lie: what is written in place of the right length or check sum, in a way that the format knows; None: the truth.
    """

    tag: bytes
    data: bytes = b""
    children: list[Node] | None = None
    lie: int | None = field(default=None)

    def copy(self) -> Node:
        """The same part once more, with all that is in it."""
        children = None if self.children is None else [child.copy() for child in self.children]
        return Node(self.tag, self.data, children, self.lie)


def lists(nodes: list[Node]) -> Iterator[list[Node]]:
    """Every list of parts: these, and those inside each."""
    yield nodes
    for node in nodes:
        if node.children is not None:
            yield from lists(node.children)


@dataclass(frozen=True)
class Format:
    """A format made of parts.

    Attributes:
        parse: bytes -> parts; ValueError or so where they are not of the format.
        join: parts -> bytes.
        extras: parts that a file of the format may have, or should not: they are put in.
        inside: tag -> what spoils the data of such a part, for those whose data have a form of their own.
    """

    parse: Callable[[bytes], list[Node]]
    join: Callable[[Sequence[Node]], bytes]
    extras: Callable[[Random], Node] | None = None
    inside: Callable[[Random, Node], bytes | None] | None = None

    def spoil(self, rng: Random, data: bytes) -> bytes:
        """A file of the format in which one to three parts are not what they should be."""
        nodes = self.parse(data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            self._change(rng, nodes)
        return self.join(nodes)

    def _change(self, rng: Random, nodes: list[Node]) -> None:
        places = [place for place in lists(nodes) if place]
        if not places:
            return
        place = rng.choice(places)
        k = rng.randrange(len(place))
        kind = rng.randrange(12)
        if kind == 0:
            del place[k]
        elif kind == 1:
            place.insert(rng.randrange(len(place) + 1), place[k].copy())
        elif kind == 2:
            place.insert(rng.randrange(len(place)), place.pop(k))
        elif kind == 3:
            other = rng.choice(rng.choice(places))
            place[k].tag = other.tag
        elif kind == 4:
            place[k].lie = damage.number(rng)
        elif kind == 5 and self.extras is not None:
            place.insert(rng.randrange(len(place) + 1), self.extras(rng))
        elif kind == 6:
            place.insert(k, rng.choice(rng.choice(places)).copy())
        elif kind == 7:
            place[k].data = b""
        elif kind == 8 and self.extras is not None:
            place[k] = self.extras(rng)
        else:
            self._spoil_data(rng, place[k])

    def _spoil_data(self, rng: Random, node: Node) -> None:
        if self.inside is not None and rng.random() < 0.7:
            changed = self.inside(rng, node)
            if changed is not None:
                node.data = changed
                return
        node.data = damage.spoil(rng, node.data)
