"""Splash's operations: what the kernel skips, what its call says, and what is counted by hand."""

import numpy as np
import pytest

from grm_jax.aot.counts import count
from grm_jax.aot.flops import attended
from grm_jax.aot.kernels import Routed, group_pairs, routed, splash_flops
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model
from grm_jax.models.splash import Group, block_size, row_kernel


@pytest.mark.parametrize(
    ("length", "window"), [(128, 48), (512, 512), (640, 129), (640, 130), (1536, 600), (4096, 1024)]
)
def test_both_counts_are_the_blocks_that_the_kernel_runs(length, window):
    """The one from the call's shapes, and the one from length and window, which share nothing."""
    kernel = row_kernel(2, length, window, 50.0)
    block = block_size(length)
    query, key = np.arange(length)[:, None], np.arange(length)[None]
    seen = (key <= query) & (query - key < window)
    blocks = seen.reshape(length // block, block, -1, block).any(axis=(1, 3)).sum()
    for phase, info, products in (
        ("fwd", kernel.fwd_mask_info, 2),
        ("dq", kernel.dq_mask_info, 3),
        ("dkv", kernel.dkv_mask_info, 4),
    ):
        assert (np.asarray(info.block_mask) > 0).sum() == blocks
        found = splash_flops(f"splash_mha_{phase}_any.3", info.block_mask.shape, (2, length, 64))
        assert found == 2 * products * 2 * 64 * blocks * block**2
    assert attended(length, window) == blocks * block**2


@pytest.mark.parametrize(
    ("group", "count", "window"),
    [
        (Group(512, 256), 4, None),
        (Group(768, 128), 4, 200),  # blocks of 256, which hold two completions
        (Group(200, 90), 3, 100),  # nothing is aligned
        (Group(1024, 512), 2, 4096),
    ],
)
def test_all_counts_of_groups_are_the_blocks_that_the_kernel_runs(group, count, window):
    real = group.prompt + count * group.completion
    length = real + -real % 128
    kernel = row_kernel(2, length, window, 50.0, group=group)
    block = block_size(length)
    at = np.arange(length)
    part = np.maximum((at - group.prompt) // group.completion + 1, 0)
    place = np.where(part, group.prompt + (at - group.prompt) % group.completion, at)
    ago = place[:, None] - place[None]
    seen = (ago >= 0) & ((part == 0) | (part == part[:, None]))
    seen &= ago < (window or length)
    blocks = seen.reshape(length // block, block, -1, block).any(axis=(1, 3)).sum()
    pairs = blocks * block**2
    for phase, info, products in (
        ("fwd", kernel.fwd_mask_info, 2),
        ("dq", kernel.dq_mask_info, 3),
        ("dkv", kernel.dkv_mask_info, 4),
    ):
        assert (np.asarray(info.block_mask) > 0).sum() == blocks
        name, shape = f"splash_mha_{phase}_any.3", info.block_mask.shape
        known = group_pairs(real, group, (window,))
        found = splash_flops(name, shape, (2, length, 64), known)
        assert found == 2 * products * 2 * 64 * pairs
    assert attended(real, window or length, group) == pairs


def test_values_may_be_fewer_than_keys():
    """As in latent attention: 192 numbers of queries and keys, 128 of values."""
    for phase, numbers in (("fwd", 192 + 128), ("dq", 2 * 192 + 128), ("dkv", 2 * (192 + 128))):
        found = splash_flops(f"splash_mha_{phase}_any.3", (1, 1, 1), (2, 128, 192), values=128)
        assert found == 2 * 2 * 128**2 * numbers


def test_rows_that_fill_no_block_count_as_padded():
    assert attended(300, 300) == 6 * 128**2


@pytest.mark.parametrize(
    ("name", "grid"), [("splash_mqa_fwd_segmented", (1, 2, 2)), ("splash_mha_fwd_any", (2, 2))]
)
def test_other_kernels_are_refused(name, grid):
    with pytest.raises(ValueError, match="how much it computes is not known"):
        splash_flops(name, grid, (2, 256, 64))


def test_products_with_experts_are_shared_by_the_devices_that_hold_them():
    text = """
HloModule m

ENTRY %main (rows: bf16[64,32], experts: bf16[4,32,16], sizes: s32[4]) -> bf16[64,16] {
  %rows = bf16[64,32]{1,0} parameter(0)
  %experts = bf16[4,32,16]{2,1,0} parameter(1)
  %sizes = s32[4]{0:S(1)} parameter(2)
  %ragged-dot-metadata.3 = (s32[5]{0:S(1)}, s32[7]{0:S(1)}) custom-call(%sizes), custom_call_target="tpu_custom_call"
  %table = s32[5]{0:S(1)} get-tuple-element(%ragged-dot-metadata.3), index=0
  ROOT %ragged-dot-none.7 = bf16[64,16]{1,0} custom-call(%table, %rows, %experts), custom_call_target="tpu_custom_call"
}
"""  # noqa: E501
    products, moved = 2 * 64 * 32 * 16, 2 * (64 * 32 + 64 * 16)
    assert (count(text).flops, count(text).hbm) == (products, moved + 2 * 4 * 32 * 16)
    half = count(text, routed=Routed(rows=0.5, read=1))
    assert (half.flops, half.hbm) == (products / 2, moved / 2 + 2 * 32 * 16)
    # Of 256 experts, 16 on each device, a token goes to 8; of 64 tokens, 13 % hear of none.
    v3 = Model(PRESETS["deepseek-v3"])
    assert routed(v3, 16, 1) == Routed(1 / 16, pytest.approx(8 / 16))
    assert routed(v3, 16, 64).read == pytest.approx(16 * (1 - (31 / 32) ** 64))
    assert routed(Model(PRESETS["27b"]), 16, 64) == Routed()


def test_the_gradient_of_experts_reads_rows_for_each_block_of_the_other_side():
    """Two blocks of 1,024 for 2,048; and the tables that it takes are counted as what they are."""
    text = """
HloModule m

ENTRY %main (rows: bf16[64,2048], out: bf16[64,16], sizes: s32[4]) -> bf16[4,2048,16] {
  %rows = bf16[64,2048]{1,0} parameter(0)
  %out = bf16[64,16]{1,0} parameter(1)
  %sizes = s32[4]{0} parameter(2)
  %transpose_jit_tgmm__.1 = s32[4]{0} copy(%sizes)
  ROOT %transpose_jit_tgmm__.2 = bf16[4,2048,16]{2,1,0} custom-call(%transpose_jit_tgmm__.1, %rows, %out), custom_call_target="tpu_custom_call"
}
"""  # noqa: E501
    products, tables = 2 * 64 * 2048 * 16, 2 * 4 * 4
    rows, out, made = 2 * 64 * 2048, 2 * 2 * 64 * 16, 2 * 4 * 2048 * 16
    assert count(text).flops == products
    assert count(text).hbm == tables + rows + out + made
    half = count(text, routed=Routed(rows=0.5, read=1))
    assert half.flops == products / 2
    assert half.hbm == tables + (rows + out) / 2 + made
