"""Programs read from XLA's text: a text with every case, and programs of this machine's compiler."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ddjax import hlo, parallel

TEXT = """HloModule m, input_output_alias={ {0}: (0, {}, may-alias), {1}: (3, {}, may-alias) }, x_layout={()}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused (p0: f32[100,8], p1: s32[]) -> f32[1,8] {
  %p0 = f32[100,8]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,8]{1,0} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,8}
}

%few (t: (s32[], f32[1,8])) -> pred[] {
  %t = (s32[], f32[1,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %n = s32[] constant(3)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%inner (t.1: (s32[], f32[1,8])) -> (s32[], f32[1,8]) {
  %t.1 = (s32[], f32[1,8]{1,0}) parameter(0)
  %x = f32[1,8]{1,0} get-tuple-element(%t.1), index=1
  %called = f32[1,8]{1,0} custom-call(%x), custom_call_target="xla_ffi_python_cpu_callback"
  %i.1 = s32[] get-tuple-element(%t.1), index=0
  ROOT %out = (s32[], f32[1,8]{1,0}) tuple(%i.1, %called)
}

%on (t.2: (s32[], pred[])) -> pred[] {
  %t.2 = (s32[], pred[]) parameter(0)
  ROOT %goes = pred[] get-tuple-element(%t.2), index=1
}

%outer (t.3: (s32[], pred[])) -> (s32[], pred[]) {
  %t.3 = (s32[], pred[]) parameter(0)
  %data = f32[100,8]{1,0} constant({...})
  %chip = f32[100,8]{1,0:T(8,128)S(1)} constant({...})
  %at = s32[] get-tuple-element(%t.3), index=0
  %one = f32[1,8]{1,0} fusion(%data, %at), kind=kLoop, calls=%fused
  %near = f32[1,8]{1,0} fusion(%chip, %at), kind=kLoop, calls=%fused
  %start = (s32[], f32[1,8]{1,0}) tuple(%at, %one)
  %loop = (s32[], f32[1,8]{1,0}) while(%start), condition=%few, body=%inner
  %y = f32[1,8]{1,0} get-tuple-element(%loop), index=1
  %mean = (f32[1,8]{1,0}, /*index=1*/f32[]) all-reduce-start(%y, %y), replica_groups={{0,1}}, to_apply=%add
  %done = (f32[1,8]{1,0}, f32[]) all-reduce-done(%mean)
  %p = pred[] get-tuple-element(%t.3), index=1
  ROOT %next = (s32[], pred[]) tuple(%at, %p)
}

ENTRY %main (arg: s32[], arg.1: pred[]) -> (s32[], pred[]) {
  %arg = s32[] parameter(0)
  %arg.1 = pred[] parameter(1)
  %before = f64[1000]{0} broadcast(%arg), dimensions={}
  %first = (s32[], pred[]) tuple(%arg, %arg.1)
  ROOT %all = (s32[], pred[]) while(%first), condition=%on, body=%outer
}
"""


@pytest.fixture(scope="module")
def program():
    return hlo.read(TEXT)


def test_what_devices_send_counts_once_a_step_with_all_its_arrays(program):
    assert program.collectives() == [hlo.Collective("all-reduce", 8 * 4 + 4, 1)]


def test_a_callback_inside_a_loop_waits_for_the_host(program):
    assert program.host_calls() == ["custom-call xla_ffi_python_cpu_callback"]


def test_donations_and_kinds_of_numbers(program):
    assert program.donated == {0, 3}
    assert program.dtypes() == {"f32", "f64", "s32", "pred"}


def test_traffic_counts_rounds_and_the_parts_that_are_read(program):
    row = 8 * 4
    slice_from_memory, slice_from_the_chip = row + 4 + row, 4 + row
    three_calls, reduction = 3 * 2 * row, (row + 4) + 2 * row
    assert program.traffic() == slice_from_memory + slice_from_the_chip + three_calls + reduction
    # Two fusions, three calls, one reduction; what comes before the loop of outer steps is no part of one.
    assert program.num_kernels() == 6


@pytest.mark.parametrize("group", ["{{0}}", "[1,1]<=[1]"])
def test_a_device_alone_sends_nothing(group):
    assert hlo.read(TEXT.replace("{{0,1}}", group)).collectives() == []


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[2,3]{1,0}", 24),
        ("pred[]", 1),
        ("(s32[4], /*index=1*/bf16[2]{0:T(8,128)(2,1)})", 20),
        ("s4[3]", 1),
    ],
)
def test_sizes(shape, size):
    assert hlo.size_of(shape) == size


def test_another_text_is_refused():
    with pytest.raises(ValueError, match=r"got one without ENTRY\. Give what as_text"):
        hlo.read("module @jit_many {}")


@pytest.mark.slow
def test_a_program_of_this_machine_s_compiler():
    """A loop whose length only a run knows, around a scan of five rounds, on two devices."""
    mesh = parallel.make_mesh(jax.devices()[:2])

    def step(x):
        y = jax.lax.scan(lambda y, _: (jnp.sin(y @ y), None), x, length=5)[0]
        return jax.lax.pmean(y, parallel.AXIS)

    def many(x, stop):
        return jax.lax.while_loop(lambda c: c[0] < stop, lambda c: (c[0] + 1, step(c[1])), (0, x))[1]

    whole = parallel.P()
    mapped = jax.shard_map(many, mesh=mesh, in_specs=(whole, whole), out_specs=whole, check_vma=False)
    compiled = jax.jit(mapped, donate_argnums=0).lower(jnp.ones((16, 16)), 3).compile()
    program = hlo.read(compiled.as_text() or "")
    assert program.collectives() == [hlo.Collective("all-reduce", 16 * 16 * 4, 1)]
    assert program.donated == {0}
    assert program.host_calls() == []
    assert program.traffic() > 5 * 3 * 16 * 16 * 4
    assert "f64" not in program.dtypes()
