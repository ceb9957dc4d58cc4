"""Counting a compiled program: by hand on small texts, and on what the TPU compiler writes."""

import math

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from grm_jax.aot.counts import count
from grm_jax.aot.hlo import parse
from grm_jax.aot.topology import Topology

LOOP = """
HloModule m

%body (p: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %p = (s32[], f32[8,16]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8,16]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %w = f32[16,16]{1,0} constant({...})
  %dot = f32[8,16]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %sum = f32[8,16]{1,0} all-reduce(%dot), replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %out = (s32[], f32[8,16]{1,0}) tuple(%i, %sum)
}

%condition (q: (s32[], f32[8,16])) -> pred[] {
  %q = (s32[], f32[8,16]{1,0}) parameter(0)
  %n = s32[] constant(5)
  %j = s32[] get-tuple-element(%q), index=0
  ROOT %less = pred[] compare(%j, %n), direction=LT
}

ENTRY %main (a: f32[8,16]) -> f32[8,16] {
  %a = f32[8,16]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,16]{1,0}) tuple(%zero, %a)
  %loop = (s32[], f32[8,16]{1,0}) while(%start), condition=%condition, body=%body
  ROOT %result = f32[8,16]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_a_loop_counts_as_often_as_it_runs():
    counts = count(LOOP)
    assert counts.flops == 5 * 2 * 8 * 16 * 16
    assert counts.collectives == {"all-reduce": 5}
    assert counts.sent == {"all-reduce": 5 * 2 * (8 * 16 * 4) * 3 / 4}
    # dot reads x and w and writes; all-reduce reads and writes.
    assert counts.hbm == 5 * 4 * ((8 * 16 + 16 * 16 + 8 * 16) + 2 * 8 * 16)
    assert counts.unknown == 0


def test_what_starts_an_operation_writes_its_result_and_not_its_operand():
    """Into the fast memory, S(1), and out of it; from one chip to the next; and a slice of rows."""
    text = """
HloModule m

%slices (p: f32[8,16]) -> f32[2,16] {
  %p = f32[8,16]{1,0} parameter(0)
  ROOT %s = f32[2,16]{1,0} slice(%p), slice={[0:2], [0:16]}
}

ENTRY %main (a: f32[8,16]) -> f32[8,16] {
  %a = f32[8,16]{1,0} parameter(0)
  %in = (f32[8,16]{1,0:S(1)}, f32[8,16]{1,0}, u32[]{:S(2)}) copy-start(%a)
  %near = f32[8,16]{1,0:S(1)} copy-done(%in)
  %out = (f32[8,16]{1,0}, f32[8,16]{1,0:S(1)}, u32[]{:S(2)}) copy-start(%near)
  %far = f32[8,16]{1,0} copy-done(%out)
  %send = (f32[8,16]{1,0}, f32[8,16]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%far), source_target_pairs={{0,1}}
  %sent = f32[8,16]{1,0} collective-permute-done(%send)
  %part = ((f32[8,16]{1,0}), f32[2,16]{1,0}, u32[]{:S(2)}) async-start(%sent), calls=%slices
  %end = f32[2,16]{1,0} async-done(%part)
  %front = ((f32[8,16]{1,0}), f32[2,16]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%sent), slice={[0:2], [0:16]}
  ROOT %cut = f32[2,16]{1,0:S(1)} slice-done(%front)
}
"""  # noqa: E501
    whole, part = 4 * 8 * 16, 4 * 2 * 16
    # Read, written; read and written; a slice read and written; and one read.
    assert count(text).hbm == whole + whole + 2 * whole + 2 * part + part
    assert count(text).sent == {"collective-permute": whole}


def test_a_loop_that_counts_by_two_runs_half_as_often():
    text = LOOP.replace(
        "ROOT %out = (s32[], f32[8,16]{1,0}) tuple(%i, %sum)",
        "%two = s32[] constant(2)\n  %next = s32[] add(%i, %two)\n"
        "  ROOT %out = (s32[], f32[8,16]{1,0}) tuple(%next, %sum)",
    )
    assert count(text).flops == 3 * 2 * 8 * 16 * 16  # 0, 2 and 4 are below 5


def test_a_loop_without_a_known_count_runs_as_often_as_it_is_told():
    text = LOOP.replace("constant(5)", "get-tuple-element(%q), index=0")
    counts = count(text, trips=7)
    assert counts.flops == 7 * 2 * 8 * 16 * 16
    assert counts.unknown == 1
    told = LOOP.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"3"}}')
    assert count(told).flops == 3 * 2 * 8 * 16 * 16


CHOICE = """
%free (p: f32[8,16]) -> f32[8,16] {
  ROOT %p = f32[8,16]{1,0} parameter(0)
}

%costly (q: f32[8,16]) -> f32[8,16] {
  %q = f32[8,16]{1,0} parameter(0)
  %w = f32[16,16]{1,0} constant({...})
  ROOT %dot = f32[8,16]{1,0} dot(%q, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (which: s32[], a: f32[8,16]) -> f32[8,16] {
  %which = s32[] parameter(0)
  %a = f32[8,16]{1,0} parameter(1)
  ROOT %c = f32[8,16]{1,0} conditional(%which, %a, %a), BRANCHES, metadata={op_name="%loop"}
}
"""


@pytest.mark.parametrize(
    ("branches", "products"),
    [
        ("branch_computations={%costly, %free}", 0),
        ("branch_computations={%free, %costly, %costly}", 0),
        ("true_computation=%free, false_computation=%costly", 0),
        ("branch_computations={%costly, %costly}", 8 * 16 * 16),
        ("true_computation=%costly, false_computation=%costly", 8 * 16 * 16),
    ],
)
def test_no_run_does_less_than_what_is_counted(branches, products):
    """Of a conditional one branch runs: the others, such as top-k where it is off, cost nothing."""
    counts = count(CHOICE.replace("BRANCHES", branches))
    assert counts.flops == 2 * products
    assert counts.hbm == (4 * (8 * 16 + 16 * 16 + 8 * 16) if products else 0)


def convolution(left, kernel, out, rest):
    return f"""
ENTRY %main (a: f32[{left}], b: f32[{kernel}]) -> f32[{out}] {{
  %a = f32[{left}] parameter(0)
  %b = f32[{kernel}] parameter(1)
  ROOT %c = f32[{out}] convolution(%a, %b), {rest}
}}
"""


@pytest.mark.parametrize(
    ("left", "kernel", "out", "rest", "products"),
    [
        # A plain product [8,32] x [32,16].
        ("8,32", "32,16", "8,16", "dim_labels=bf_io->bf", 8 * 32 * 16),
        # [256,128] x [128,4,32]: heads are a spatial dimension of one input, slid over a kernel
        # of four with three of padding at both ends; each output meets one kernel position.
        (
            "256,128,1",
            "128,4,32",
            "256,4,32",
            "window={size=4 pad=3_3 rhs_reversal=1}, dim_labels=bf0_i0o->b0f",
            256 * 128 * 4 * 32,
        ),
        # A batch of two products [512,32] x [32,256]: dilated, so that only equals meet.
        (
            "2,512,32",
            "256,2,32",
            "2,512,256",
            "window={size=2 stride=1 pad=1_1 lhs_dilate=2 rhs_reversal=1}, dim_labels=0bf_o0i->0bf",
            None,
        ),
        # A real convolution in one dimension: 10 positions, kernel 3, the same size.
        ("1,10,4", "3,4,8", "1,10,8", "window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f", 28 * 32),
    ],
)
def test_convolutions_count_without_their_filling(left, kernel, out, rest, products):
    found = count(convolution(left, kernel, out, rest)).flops
    if products is None:  # lhs [2] dilated by 2 is x0x, padded 0x0x0, a window of 2 at 2 places
        products = 512 * 32 * 256 * 2
    assert found == 2 * products


@pytest.mark.parametrize(
    "taken",
    [
        "dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,64}",
        "slice(%p0), slice={[3:4], [0:64]}",
    ],
)
def test_only_the_slice_of_a_stack_is_read(taken):
    text = """
%inside (p0: f32[10,64], p1: s32[]) -> f32[1,64] {
  %p0 = f32[10,64]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = f32[1,64]{1,0} TAKEN
}

ENTRY %main (stack: f32[10,64], i: s32[]) -> f32[1,64] {
  %stack = f32[10,64]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %row = f32[1,64]{1,0} fusion(%stack, %i), kind=kLoop, calls=%inside
}
"""
    text = text.replace("TAKEN", taken)
    assert count(text).hbm == 2 * 64 * 4  # the index is no reading worth counting


def test_what_lies_near_the_arithmetic_is_no_traffic():
    text = """
ENTRY %main (a: f32[64]) -> f32[64] {
  %a = f32[64]{0} parameter(0)
  %b = f32[64]{0:T(128)S(1)} negate(%a)
  ROOT %c = f32[64]{0} negate(%b)
}
"""
    assert count(text).hbm == 2 * 64 * 4


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("[4,2]<=[8]", 2),
        ("mesh['a'=2,'b'=4] {'b'}", 4),
        ("mesh['a'=2,'b'=4] {'a','b'}", 8),
        ("mesh['a'=2,'b'=4] {'b':(1)2}", 2),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}", 2),
    ],
)
def test_groups_are_read_in_every_spelling(groups, size):
    text = LOOP.replace("[2,4]<=[8]", groups)
    assert count(text).sent["all-reduce"] == 5 * 2 * (8 * 16 * 4) * (size - 1) / size


def test_groups_in_another_spelling_are_refused():
    with pytest.raises(ValueError, match="no replica groups"):
        count(LOOP.replace("[2,4]<=[8]", "all"))


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="not the text of a compiled program"):
        parse("hello")


def test_the_tpu_compilers_own_text_counts_right():
    devices = Topology("v5e:2x2").devices()
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,), devices=devices)
    rows = NamedSharding(mesh, PartitionSpec("x"))

    def chain(x, w):
        x, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)
        return x.sum()

    x = jax.ShapeDtypeStruct((512, 256), jnp.float32, sharding=rows)
    w = jax.ShapeDtypeStruct(
        (6, 256, 256), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(None, "x"))
    )
    text = jax.jit(chain).lower(x, w).compile().as_text()
    counts = count(text)
    assert counts.flops == 6 * 2 * math.prod((512 // 4, 256, 256))
    # Every layer's weights come from the three others, rounded to bf16 first.
    assert counts.sent["all-gather"] == 6 * 256 * 256 * 2 * 3 / 4
    assert counts.collectives["all-gather"] == 6
    assert counts.unknown == 0
