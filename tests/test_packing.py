"""Packed factors: Eigen's rules, what of them can run at once, and the memory of real products."""

from __future__ import annotations

import math

import pytest

from ddjax import hlo, packing
from ddjax.packing import Caches, Product

ON = Caches(48 * 1024, 2 * 2**20, 480 * 2**20)

PROGRAM = """HloModule m

ENTRY %main (x: f32[1600,216]) -> (f32[216,64], f32[36,128,128]) {
  %x = f32[1600,216]{1,0} parameter(0)
  %y = f32[1600,64]{1,0} parameter(1)
  %z = f32[36,256,128]{2,1,0} parameter(2)
  %w = f32[36,256,128]{2,1,0} parameter(3)
  %first = f32[216,64]{1,0} dot(%x, %y), lhs_contracting_dims={0}, rhs_contracting_dims={0}
  %copy = f32[216,64]{1,0} negate(%first)
  %second = f32[1600,64]{1,0} dot(%x, %copy), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %third = f32[216,64]{1,0} dot(%x, %second), lhs_contracting_dims={0}, rhs_contracting_dims={0}
  %many = f32[36,128,128]{2,1,0} dot(%z, %w), lhs_batch_dims={0}, lhs_contracting_dims={1}, \
rhs_batch_dims={0}, rhs_contracting_dims={1}
  ROOT %end = (f32[216,64]{1,0}, f32[36,128,128]{2,1,0}) tuple(%third, %many)
}
"""


@pytest.mark.parametrize(
    ("product", "num_bytes"),
    [
        (Product(12544, 24, 36), 2_305_216),
        (Product(1600, 64, 216), 2_156_608),
        (Product(64, 216, 1600), 860_224),
        (Product(1600, 216, 64), 675_904),
        (Product(1960, 24, 36), 432_064),
        (Product(1000, 1000, 100), 1_017_664),
        (Product(512, 512, 512), 2_654_272),
        (Product(2000, 2000, 64), 1_302_592),
    ],
)
def test_the_blocks_have_the_sizes_that_eigen_allocates(product, num_bytes):
    """Bytes seen by hooking malloc, on the machine of `ON`: jaxlib 0.10.2, two threads."""
    blocks, align = packing.blocks_of(product, 2, ON), 64
    sizes = (blocks.rows, blocks.columns)
    each = [math.ceil(size * blocks.depth * 4 / align) * align for size in sizes]
    slices = min(2, math.ceil(product.depth / blocks.depth))
    of_a_slice = sum(count * size for count, size in zip(blocks.counts(product), each, strict=True))
    assert slices * of_a_slice + align == num_bytes


@pytest.mark.parametrize(
    ("product", "floats"),
    [
        (Product(1600, 64, 216, rhs_turned=True), 1600 * 216 + 64 * 216),  # 64 columns are read in two blocks
        (Product(1600, 64, 216), 1600 * 216),
        (Product(1600, 216, 64), 1600 * 64),
        (Product(12544, 24, 36, rhs_turned=True), 24 * 36),  # 24 columns are one block
        (Product(64, 216, 1600, lhs_turned=True), (64 + 216) * 2 * 320),  # two slices of five
        (Product(128, 256, 128, lhs_turned=True), 128 * 128),
        (Product(128, 128, 256, count=36, rhs_turned=True), 36 * 128 * 256),
        (Product(8, 8, 8, count=1000, lhs_turned=True, rhs_turned=True), 0),  # too small for two threads
        (Product(10_000, 1, 500, lhs_turned=True), 0),
    ],
)
def test_a_factor_is_packed_where_it_cannot_be_read_as_it_lies(product, floats):
    assert packing.packed_bytes(product, 2, ON) == 4 * floats
    assert packing.packed_bytes(product, 1, ON) == 0


def test_a_long_product_packs_what_each_thread_needs():
    """32 tasks and more: each thread packs the 504 columns of its task, and all share the 64 rows."""
    assert packing.packed_bytes(Product(64, 16384, 256, rhs_turned=True), 2, ON) == 4 * 256 * (64 + 2 * 504)


def test_products_that_wait_for_each_other_do_not_count_together():
    program = hlo.read(PROGRAM)
    found = {
        name: packing.packed_bytes(product, 2, ON)
        for name, product in packing.products(program.computations["main"])
    }
    long, short, many = 4 * 216 * 2 * 320, 4 * 64 * 216, 36 * 4 * 128 * 256
    assert found == {"first": long, "second": short, "third": long, "many": many}
    assert packing.packed_at_once(program, 2, ON) == many + long
    assert packing.packed_at_once(program, 1, ON) == 0


def test_the_caches_are_those_that_linux_describes(tmp_path, monkeypatch):
    monkeypatch.setattr(packing.platform, "machine", lambda: "x86_64")
    assert packing.caches(tmp_path) is None
    for level, kind, size in ((1, "Data", 32), (1, "Instruction", 64), (2, "Unified", 512)):
        index = tmp_path / f"index{level}{kind}"
        index.mkdir()
        for name, value in (("level", level), ("type", kind), ("size", f"{size}K")):
            (index / name).write_text(f"{value}\n")
    assert packing.caches(tmp_path) == Caches(32 * 1024, 512 * 1024, 0)
    monkeypatch.setattr(packing.platform, "machine", lambda: "aarch64")
    assert packing.caches(tmp_path) is None
