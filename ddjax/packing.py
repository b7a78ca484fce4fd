"""The memory that float32 matrix products take on a CPU besides XLA's temporary buffers.

XLA gives each product to Eigen, which copies ("packs") a factor unless the product can read the factor where
it lies. A product of many pairs of matrices starts all of them at once, so that the copies of all are held
together. XLA's `memory_analysis` does not count these copies. Their sizes follow here from Eigen's own rules.

Products that one thread computes hold no more than blocks of the size of a cache, and count nothing.

Sources: Eigen's `TensorContractionThreadPool.h` (`evalProductImpl`, `shardByCol`, `contractionCost`),
`TensorCostModel.h` and `GeneralBlockPanelKernel.h` (`evaluateProductBlockingSizesHeuristic`); XLA's
`eigen_contraction_kernel.h` (`TensorContractionBlocking`, `DirectColMajorAccess`) and `dot_thunk.cc`.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from ddjax import hlo, report

_FLOAT = 4
_PACKET, _MR, _NR = 8, 16, 4
"""The floats in a vector, and the rows and columns in registers, of Eigen in JAX's wheels for x86."""

_MOVED = _FLOAT * 11 / 64
"""Eigen's estimate of the cycles in which a number is read or written."""

_SIZES = re.compile(r"f32\[([\d,]*)\]\{([\d,]*)\}")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class Caches(NamedTuple):
    """The bytes of the data caches of one core; `third` is shared, and 0 where there is none."""

    first: int
    second: int
    third: int


class Product(NamedTuple):
    """Products of matrices of equal shapes, in Eigen's view: columns lie one after the other.

    Attributes:
        rows: the rows of the results.
        columns: the columns of the results.
        depth: the length of the sums.
        count: the number of pairs of matrices.
        lhs_turned: whether the left factor lies row after row.
        rhs_turned: whether the right factor lies row after row.
    """

    rows: int
    columns: int
    depth: int
    count: int = 1
    lhs_turned: bool = False
    rhs_turned: bool = False


class Blocks(NamedTuple):
    """The blocks in which Eigen computes a product.

    Attributes:
        rows: the rows of a block of the result.
        columns: the columns of a block of the result.
        depth: the length of the part of the sums that is added at a time.
        by_columns: whether the columns of the result are divided among the threads, rather than the rows.
    """

    rows: int
    columns: int
    depth: int
    by_columns: bool

    @property
    def cycles(self) -> float:
        """Eigen's estimate of the cycles for one number of the result."""
        slow = 4 if self.depth == 1 else 2 if self.rows < _NR or self.columns < _MR else 1
        return self.depth * slow / _PACKET + _MOVED

    def counts(self, product: Product) -> tuple[int, int]:
        """The numbers of blocks along the rows and along the columns of a product."""
        return -(-product.rows // self.rows), -(-product.columns // self.columns)


def caches(root: Path = _CACHES) -> Caches | None:
    """The caches by which Eigen chooses its blocks.

    Args:
        root: the directory in which Linux describes the caches of a core.

    Returns:
        The caches; None where Linux does not say, and off x86, where Eigen's blocks are others.
    """
    sizes = {}
    for index in root.glob("index*"):
        if (index / "type").read_text().strip() != "Instruction":
            size = (index / "size").read_text().strip()
            sizes[int((index / "level").read_text())] = 1024 * int(size.removesuffix("K"))
    if platform.machine() not in ("x86_64", "AMD64") or not {1, 2} <= sizes.keys():
        return None
    return Caches(sizes[1], sizes[2], sizes.get(3, 0))


def packed_by(compiled: jax.stages.Compiled) -> int:
    """The most bytes of packed factors that a program holds at a time on the CPU of this machine.

    Args:
        compiled: the program, compiled for a CPU.

    Returns:
        The bytes, see `packed_at_once`; 0 where the caches are not known or the program has no text.
    """
    threads, on = report.available_cores(), caches()
    if threads == 1 or on is None or not (text := compiled.as_text()):
        return 0
    return packed_at_once(hlo.read(text), threads, on)


def packed_at_once(program: hlo.Program, threads: int, on: Caches) -> int:
    """The most bytes of packed factors that a program holds at a time.

    As many products run at a time as there are threads, if none of them waits for another.

    Args:
        program: the compiled program.
        threads: the number of threads.
        on: the caches of the machine.

    Returns:
        The bytes: of the products that pack most and do not depend on each other, found greedily.
    """
    most = 0
    for computation in program.computations.values():
        sizes = {name: packed_bytes(product, threads, on) for name, product in products(computation)}
        sizes = {name: size for name, size in sizes.items() if size}
        before = _waits_for(computation, sizes.keys())
        chosen: list[str] = []
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            if not any(name in before[other] or other in before[name] for other in chosen):
                chosen.append(name)
        most = max(most, sum(sizes[name] for name in chosen[:threads]))
    return most


def _waits_for(computation: hlo.Computation, products: Collection[str]) -> dict[str, set[str]]:
    """The products that must be done before each operation can start."""
    before: dict[str, set[str]] = {}
    if products:
        for name, one in computation.items():  # Operands stand before what reads them.
            known = [before[operand] | {operand} for operand in one.operands if operand in before]
            before[name] = set().union(*known).intersection(products)
    return before


def packed_bytes(product: Product, threads: int, on: Caches) -> int:
    """The bytes of the factors that Eigen packs for all pairs of matrices of a product.

    Of a long sum, two slices are packed at a time. Where the result is divided into many tasks, each thread
    packs the part of one factor that its task needs; Eigen packs more where a thread falls behind in a long
    sum, and that is not counted.

    Args:
        product: the product.
        threads: the number of threads.
        on: the caches of the machine.

    Returns:
        The number of bytes; 0 where one thread computes a pair.
    """
    used = _threads_of(product, threads, on)
    if used == 1:
        return 0
    sizes, blocks = (product.rows, product.columns), blocks_of(product, used, on)
    depth, counts = blocks.depth, blocks.counts(product)
    grains, divided = _grains(blocks, counts, used), int(blocks.by_columns)
    lies_there = (
        not product.lhs_turned and (counts[0] == 1 or _is_read_there(counts[1], product.rows * depth)),
        not product.rhs_turned
        and (depth == product.depth or _is_read_there(counts[0], product.depth * blocks.columns)),
    )
    packed = [
        0 if there else size * min(product.depth, 2 * depth)
        for size, there in zip(sizes, lies_there, strict=True)
    ]
    if -(-counts[divided] // grains[divided]) >= _many_tasks(threads) and packed[divided]:
        packed[divided] = threads * grains[divided] * blocks[divided] * depth
    return product.count * sum(packed) * _FLOAT


def _many_tasks(threads: int) -> float:
    """The tasks from which on a thread computes all of a task, and no threads share one."""
    factors = ((4, 8.0), (8, 4.0), (16, 2.0), (32, 1.0), (64, 0.8))
    return threads * next((factor for most, factor in factors if threads <= most), 0.6)


def _is_read_there(times: int, size: int) -> bool:
    """Whether a factor of which each block is read so often is worth no copy."""
    return times == 1 or (times == 2 and size * _FLOAT < 256 * 1024)


def products(computation: hlo.Computation) -> Iterator[tuple[str, Product]]:
    """The products of float32 matrices in a computation.

    Args:
        computation: the operations of a compiled program.

    Yields:
        The name of the operation and the product.
    """
    for name, one in computation.items():
        if one.code == "dot" and all(operand in computation for operand in one.operands):
            shapes = (one.shape, *(computation[operand].shape for operand in one.operands))
            found = [_SIZES.match(shape) for shape in shapes]
            lhs, rhs = (_numbers(rf"{side}_contracting_dims", one.attributes) for side in ("lhs", "rhs"))
            batch = len(_numbers("lhs_batch_dims", one.attributes))
            ranks = [len(match[1].split(",")) for match in found if match]
            if ranks == [batch + 2] * 3 and len(lhs) == len(rhs) == 1:
                yield name, _product([(match[1], match[2]) for match in found if match], lhs[0], rhs[0])


def _product(arrays: list[tuple[str, str]], lhs: int, rhs: int) -> Product:
    """The product of arrays with sizes and layouts, of which the dimensions `lhs` and `rhs` are summed.

    The result lies row after row. Eigen computes the transposed result, from the factors in reverse order.
    """
    (_, left), (_, right) = arrays[1:]
    sizes = [[int(size) for size in text.split(",")] for text, _ in arrays]
    inner = [int(layout.split(",")[0]) for layout in (left, right)]
    return Product(
        rows=sizes[0][-1],
        columns=sizes[0][-2],
        depth=sizes[1][lhs],
        count=math.prod(sizes[0][:-2]),
        lhs_turned=inner[1] == rhs,
        rhs_turned=inner[0] != lhs,
    )


def _numbers(attribute: str, text: str) -> list[int]:
    found = re.search(rf"{attribute}=\{{([\d,]*)\}}", text)
    return [int(number) for number in found[1].split(",") if number] if found else []


def _up(size: float, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple


def _splits_columns(product: Product, threads: int) -> bool:
    """Whether the columns of the result are divided among the threads, rather than the rows."""
    rows, columns, each = product.rows, product.columns, threads * _NR
    few = columns // threads < 4 * _NR and columns % each != 0
    if rows // threads >= _NR and (
        columns // threads < _NR or (few and (rows % each == 0 or rows // columns >= 6))
    ):
        return False
    return columns // threads >= 16 * _NR or rows <= 32 * columns


def blocks_of(product: Product, threads: int, on: Caches) -> Blocks:
    """The blocks in which Eigen computes a product.

    Args:
        product: the product.
        threads: the number of threads that compute it.
        on: the caches of the machine.

    Returns:
        The blocks.
    """
    by_columns = _splits_columns(product, threads)
    wide, other = (product.columns, product.rows) if by_columns else (product.rows, product.columns)
    in_first = (on.first - _MR * _NR * _FLOAT) // ((_MR + _NR) * _FLOAT)
    depth = min(product.depth, max(8, min(in_first, 320) // 8 * 8))
    in_second = (on.second - on.first) // (_NR * _FLOAT * depth)
    each = -(-wide // threads)
    wide = in_second // _NR * _NR if in_second <= each else min(wide, _up(each, _NR))
    if on.third > on.second:
        in_third = (on.third - on.second) // (_FLOAT * depth * threads)
        each = -(-other // threads)
        other = in_third // _MR * _MR if _MR <= in_third < each else min(other, _up(each, _MR))
    rows, columns = (other, wide) if by_columns else (wide, other)
    slices = -(-product.depth // depth)
    return Blocks(
        min(product.rows, _up(int(1.5 * rows), 48)),
        min(product.columns, _up(columns, 24)),
        min(product.depth, _up(product.depth // slices, _PACKET)),
        by_columns,
    )


def _grains(blocks: Blocks, counts: tuple[int, int], threads: int) -> tuple[int, int]:
    """The blocks of rows and of columns that make one task."""
    grains = [1, 1]
    for axis in (0, 1) if blocks.by_columns else (1, 0):
        tasks = counts[axis]
        for grain in range(2, counts[axis] + 1):
            if -(-counts[axis] // grain) == tasks:
                continue
            tasks = -(-counts[axis] // grain)
            size = blocks.rows * blocks.columns * grain * grains[1 - axis] * blocks.cycles / 40_000
            if size > 2:
                break
            new, old = (
                _busy(tasks_of * -(-counts[1 - axis] // grains[1 - axis]), threads)
                for tasks_of in (tasks, -(-counts[axis] // grains[axis]))
            )
            if size < 1 or new > old or new == 1:
                grains[axis] = grain
    return grains[0], grains[1]


def _busy(tasks: int, threads: int) -> float:
    """The part of the threads that equal tasks keep busy."""
    return tasks / _up(tasks, threads)


def _threads_of(product: Product, threads: int, on: Caches) -> int:
    """The number of threads by which Eigen computes a product of two matrices: those that its cost repays."""
    if threads == 1 or product.columns == 1:
        return 1
    blocks = blocks_of(product, 2, on)
    loaded = blocks.depth / (product.rows if blocks.by_columns else product.columns)
    cycles = blocks.cycles + loaded * _MOVED
    repaid = (product.rows * product.columns * cycles - 100_000) / 100_000 + 0.9
    return min(threads, max(1, int(repaid)))
