"""The text of a compiled program, read: its kernels, what they read and write, what devices send each other.

XLA's optimised program has the same form for every platform. A loop counts as often as XLA knows that it
runs; the loop of outer steps, whose length only a run knows, counts once. So all numbers are those of one
outer step on one device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
"""The operations by which devices send each other numbers, as XLA names them."""

_HOST = frozenset({"infeed", "outfeed", "send", "recv"})
_FREE = frozenset(
    {
        *(
            "parameter",
            "constant",
            "tuple",
            "get-tuple-element",
            "bitcast",
            "after-all",
            "opt-barrier",
            "iota",
        ),
        *("while", "conditional", "call", "partition-id", "replica-id"),
        *("async-done", "async-update", "copy-done", "all-reduce-done", "all-gather-done"),
    }
)
"""Operations that move nothing, or nothing that another operation does not count."""

_SLICES = frozenset({"dynamic-slice", "slice", "gather"})
_INSIDE = {
    "while": ("body",),
    "call": ("to_apply",),
    "conditional": ("branch_computations", "true_computation", "false_computation"),
    "async-start": ("calls",),
}
"""The attributes that name computations which run as part of an operation."""

_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) .*->.*\{$")
_OPERATION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](\{[^{}]*\})?")
_NAME = re.compile(r"%([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ALIAS = re.compile(r"\{[\d, ]*\}: \((\d+),")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_ALONE = re.compile(r"replica_groups=(\{\{\d+\}|\[\d+,1\])")
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")


class Operation(NamedTuple):
    """One operation of a program.

    Attributes:
        name: the name of the result.
        code: what is done, as XLA names it, such as `fusion` or `all-reduce`.
        shape: the text of the shape of the result.
        operands: the names of what is read; of a parameter its number, of a constant its value.
        attributes: the text of all else.
        is_root: whether the result is that of the computation.
    """

    name: str
    code: str
    shape: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    def called(self, *attributes: str) -> tuple[str, ...]:
        """The computations that attributes name.

        Args:
            *attributes: the names of the attributes, such as `body`.

        Returns:
            The names; none where the operation has no such attribute.
        """
        names: tuple[str, ...] = ()
        for attribute in attributes:
            found = re.search(rf"(?:^|[\s,]){attribute}=(\{{[^}}]*\}}|%[\w.-]+)", self.attributes)
            names += tuple(_NAME.findall(found[1])) if found else ()
        return names


class Collective(NamedTuple):
    """What devices send each other in one operation.

    Attributes:
        code: the operation, one of `COLLECTIVES`.
        num_bytes: the bytes of the result on one device.
        times: the number of times in one outer step.
    """

    code: str
    num_bytes: int
    times: int


Computation = Mapping[str, Operation]
"""The operations of a computation by name, in their order."""


class Program(NamedTuple):
    """A compiled program, as its text describes it.

    Attributes:
        computations: the computations by name.
        entry: the name of the computation that a call starts with.
        donated: the numbers of the arguments whose memory the results take over.
    """

    computations: Mapping[str, Computation]
    entry: str
    donated: frozenset[int]

    def steps(self) -> Iterator[tuple[Computation, Operation, int]]:
        """The operations of one outer step, those inside fusions left out.

        Yields:
            The computation around the operation, the operation, and the number of times that it runs. What
            is computed before and after the loop of outer steps is left out where there is such a loop.
        """
        yield from self._within(self._outer_loop(self.entry) or self.entry, 1)

    def _outer_loop(self, name: str) -> str | None:
        """The body of the first loop of which XLA does not know the length."""
        for operation in self.computations[name].values():
            if operation.code == "while" and self._rounds(operation) is None:
                return operation.called("body")[0]
            for inner in operation.called(*_INSIDE.get(operation.code, ())):
                if found := self._outer_loop(inner):
                    return found
        return None

    def _rounds(self, loop: Operation) -> int | None:
        """The rounds of a loop: the number that XLA knows, else the bound of a count from 0, else None."""
        if known := _TRIPS.search(loop.attributes):
            return int(known[1])
        condition = self.computations[loop.called("condition")[0]]
        (last,) = (one for one in condition.values() if one.is_root)
        if last.code != "compare" or "direction=LT" not in last.attributes:
            return None
        count, bound = (condition[name] for name in last.operands)
        is_count = count.code == "get-tuple-element" and bound.code == "constant"
        return int(bound.operands[0]) if is_count else None

    def _within(self, name: str, times: int) -> Iterator[tuple[Computation, Operation, int]]:
        computation = self.computations[name]
        for operation in computation.values():
            yield computation, operation, times
            rounds = (self._rounds(operation) or 1) if operation.code == "while" else 1
            for inner in operation.called(*_INSIDE.get(operation.code, ())):
                yield from self._within(inner, times * rounds)

    def collectives(self) -> list[Collective]:
        """What devices send each other in one outer step, the largest first; a device alone sends nothing."""
        found = [
            Collective(code, size_of(operation.shape), times)
            for _, operation, times in self.steps()
            if (code := operation.code.removesuffix("-start")) in COLLECTIVES
            and not _ALONE.search(operation.attributes)
        ]
        return sorted(found, key=lambda one: -one.num_bytes * one.times)

    def host_calls(self) -> list[str]:
        """The operations of one outer step that wait for the host: callbacks, infeeds and transfers."""
        found = []
        for _, operation, _ in self.steps():
            target = _TARGET.search(operation.attributes)
            if operation.code in _HOST or (target and "callback" in target[1].lower()):
                found.append(f"{operation.code} {target[1] if target else operation.name}")
        return found

    def dtypes(self) -> frozenset[str]:
        """The kinds of numbers of all results, as XLA names them, such as `f32`."""
        shapes = (one.shape for operations in self.computations.values() for one in operations.values())
        return frozenset(kind for shape in shapes for kind, _, _ in _ARRAY.findall(shape))

    def num_kernels(self) -> int:
        """The number of kernels that one device starts in an outer step."""
        return sum(times for _, operation, times in self.steps() if operation.code not in _FREE)

    def traffic(self) -> int:
        """The bytes that the kernels of an outer step read from and write to the memory of one device.

        An array of which a kernel reads parts counts with those parts. Arrays that the compiler keeps on the
        chip do not count. Of caches the compiler knows nothing: no array is thought to be in one.

        Returns:
            The number of bytes.
        """
        return sum(
            times * self._moved(around, operation)
            for around, operation, times in self.steps()
            if operation.code not in _FREE
        )

    def _moved(self, around: Computation, operation: Operation) -> int:
        """The bytes that a kernel reads and writes in one run."""
        shapes = [around[name].shape if name in around else "" for name in operation.operands]
        inner = operation.called("calls") if operation.code == "fusion" else ()
        if not inner:
            read = [operation.shape, *shapes[1:]] if operation.code in _SLICES else shapes
            if operation.code == "dynamic-update-slice":  # in place
                return 2 * size_of(shapes[1], in_memory=True)
            return sum(size_of(shape, in_memory=True) for shape in (operation.shape, *read))
        fused = self.computations[inner[0]]
        read = sum(
            _read(fused, parameter, shape)
            for parameter, shape in zip(_parameters(fused), shapes, strict=False)
        )
        return read + _written(fused, operation.shape)


def _parameters(fused: Computation) -> list[Operation]:
    """The parameters of a fusion, in the order of its operands."""
    found = [one for one in fused.values() if one.code == "parameter"]
    return sorted(found, key=lambda one: int(one.operands[0]))


def _read(fused: Computation, parameter: Operation, shape: str) -> int:
    """The bytes that a fusion reads of an operand."""
    whole = size_of(shape, in_memory=True)
    if not whole:
        return 0
    users = [one for one in fused.values() if parameter.name in one.operands]
    if users and all(one.code in _SLICES and one.operands[0] == parameter.name for one in users):
        return min(whole, sum(size_of(one.shape) for one in users))
    if users and all(
        one.code == "dynamic-update-slice" and one.operands[0] == parameter.name for one in users
    ):
        return 0
    return whole


def _written(fused: Computation, shape: str) -> int:
    """The bytes that a fusion writes; of an update in place, those of the update."""
    whole = size_of(shape, in_memory=True)
    (root,) = (one for one in fused.values() if one.is_root)
    if whole and root.code == "dynamic-update-slice" and root.operands[1] in fused:
        return min(whole, size_of(fused[root.operands[1]].shape))
    return whole


def read(text: str) -> Program:
    """The program of a text.

    Args:
        text: the optimised program of one module, as `jax.stages.Compiled.as_text` gives it.

    Returns:
        The program.

    Raises:
        ValueError: the text is no such program.
    """
    computations: dict[str, dict[str, Operation]] = {}
    entry, inside = "", None
    for line in text.splitlines():
        if line.startswith("}"):
            inside = None
        elif inside is None and (head := _HEAD.match(line)):
            inside = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif inside is not None and (operation := _operation(line)):
            inside[operation.name] = operation
    if not entry:
        raise ValueError(
            "program: expected the text of XLA's optimised program; got one without ENTRY. Give what "
            "as_text() of a compiled function returns."
        )
    _, _, aliases = text.split("\n", 1)[0].partition("input_output_alias={")
    donated = _ALIAS.findall(aliases.split("layout={")[0])
    return Program(computations, entry, frozenset(map(int, donated)))


def _operation(line: str) -> Operation | None:
    """The operation of a line; None where the line has none."""
    found = _OPERATION.match(line)
    if found is None:
        return None
    shape, rest = _split(found[3])
    code, _, rest = rest.strip().partition("(")
    operands, attributes = _split(f"({rest}")
    is_leaf = code in ("parameter", "constant")
    names = (operands[1:-1],) if is_leaf else tuple(_NAME.findall(operands))
    return Operation(found[2], code, shape, names, attributes, bool(found[1]))


def _split(text: str) -> tuple[str, str]:
    """A text after its first shape or first pair of brackets, `(...)`."""
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    depth = 0
    for found in re.finditer(r"[()]", text):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return text[: found.end()], text[found.end() :]
    return text, ""


def size_of(shape: str, *, in_memory: bool = False) -> int:
    """The bytes of a shape, without the padding of tiles.

    Args:
        shape: the text of the shape, of one array or of several.
        in_memory: whether arrays that the compiler keeps on the chip are left out.

    Returns:
        The number of bytes.
    """
    total = 0
    for kind, sizes, layout in _ARRAY.findall(shape):
        if in_memory and _ON_CHIP.search(layout):
            continue
        bits = re.search(r"\d+", kind)
        width = {"pred": 8, "token": 0, "opaque": 0}.get(kind, int(bits[0]) if bits else 0)
        total += math.prod(int(size) for size in sizes.split(",") if size) * width // 8
    return total
