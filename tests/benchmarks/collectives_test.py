"""Collectives in the text of a program."""

import pytest

from benchmarks import collectives
from benchmarks.collectives import Collective

TEXT = """
HloModule jit_step, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main {
  %all-reduce = f32[16,32,64]{2,1,0} all-reduce(%p), channel_id=1, \
replica_groups=[2,4]<=[8], to_apply=%add, metadata={op_name="x" id=231}
  %all-reduce.1 = (f32[64]{0}, bf16[4,8]{1,0:T(8,128)}, /*index=2*/f32[]) \
all-reduce(%q, %r, %s), channel_id=2, \
replica_groups=mesh['axis_0'=2,'axis_1'=1,'axis_2'=4] {'axis_0'}, to_apply=%add
  %part = f32[64]{0} get-tuple-element(%all-reduce.1), index=0
  %fusion = f32[64]{0} fusion(%part), kind=kLoop, calls=%c, \
metadata={op_name="jit(f)/psum all-reduce(x)"}
  ROOT %all-to-all = s8[8,2]{1,0} all-to-all(%t), replica_groups={{0,2},{1,3}}
  %collective-permute = pred[10]{0} collective-permute(%u), \
source_target_pairs={{0,1},{1,0}}
  %reduce-scatter.7 = u32[4]{0} reduce-scatter(%v), replica_groups={}, \
dimensions={0}, to_apply=%add
  %all-gather-start.3 = (f32[1,4]{1,0:T(8,128)}, f32[8,4]{1,0:T(8,128)}) \
all-gather-start(f32[1,4]{1,0:T(8,128)} %w), replica_groups=[1,8]<=[8]
  %all-gather-done.3 = f32[8,4]{1,0:T(8,128)} all-gather-done((f32[1,4]\
{1,0:T(8,128)}, f32[8,4]{1,0:T(8,128)}) %all-gather-start.3), id=5
}
"""


def test_all_are_found_with_their_bytes_and_groups():
    assert collectives.found_in(TEXT) == [
        Collective("all-reduce", 16 * 32 * 64 * 4, 4),
        Collective("all-reduce", 64 * 4 + 32 * 2 + 4, 2),
        Collective("all-to-all", 16, 2),
        Collective("collective-permute", 10, None),
        Collective("reduce-scatter", 16, None),
        # Started in one place and done in another, it is one.
        Collective("all-gather", 128, 8),
    ]


def test_a_group_of_parts_of_axes_has_as_many_devices():
    (found,) = collectives.found_in(
        "%a = f32[2]{0} all-reduce(%x), "
        "replica_groups=mesh['a'=8,'b'=3] {'a':(1)4, 'b'}, to_apply=%add"
    )
    assert found.group == 12


def test_unknown_groups_are_an_error():
    with pytest.raises(ValueError, match="no groups of devices: %x.,"):
        collectives.found_in("%a = f32[2]{0} all-reduce(%x), new={0}")


def test_a_program_of_one_device_has_none():
    assert not collectives.found_in("ROOT %sum = f32[] add(%a, %b)")
