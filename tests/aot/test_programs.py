"""Programs on abstract arguments: meshes that divide, counts from sizes, and clear refusals."""

import re
from dataclasses import asdict, replace
from types import SimpleNamespace

import jax
import pytest

from grm_jax.aot.arguments import bytes_per_device
from grm_jax.aot.chips import TPUS
from grm_jax.aot.flops import decode_flops, forward_flops, head_size
from grm_jax.aot.measure import measure
from grm_jax.aot.meshes import decode_mesh, train_mesh
from grm_jax.aot.programs import build
from grm_jax.aot.topology import Topology
from grm_jax.aot.work import Work
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import PRESETS, DeepSeekConfig, Qwen3Config
from grm_jax.models.model import Model
from grm_jax.models.spec import Rope
from grm_jax.sharding import DECODE_RULES, TRAIN_RULES, check_divisible, make_mesh

TINY = PRESETS["tiny"]


@pytest.mark.parametrize(
    "preset", ["2b", "9b", "27b", "gemma3-27b", "qwen3-32b", "llama-70b", "deepseek-v3"]
)
@pytest.mark.parametrize("devices", [4, 8, 16, 32, 64, 128, 256])
def test_meshes_divide_the_model_and_the_rows(preset, devices):
    config = PRESETS[preset]
    for rows in (512, 1024):
        mesh = train_mesh(config, devices, rows)
        assert mesh.data * mesh.fsdp * mesh.tensor == devices
        assert rows % (mesh.data * mesh.fsdp) == 0
        check(config, mesh, TRAIN_RULES)
    mesh = decode_mesh(config, devices)
    assert mesh.data * mesh.tensor == devices
    check(config, mesh, DECODE_RULES)


def check(config, mesh, rules):
    model = Model(config)
    check_divisible(model.abstract(), model.axes(), SimpleNamespace(shape=asdict(mesh)), rules)


def test_a_mesh_divides_the_ranks_of_latent_vectors_too():
    """28 devices divide a model dimension of 7,168, but not 512."""
    assert train_mesh(PRESETS["deepseek-v3"], 28, 56) == MeshConfig(7, 4, 1)


@pytest.mark.parametrize("name", ["rft-step", "decode"])
def test_data_runs_over_slices_and_a_slice_is_as_it_would_be_alone(name):
    one = build(name, TINY, Topology("v5e:2x2").devices(), Work(8, 64, 8)).mesh.shape
    two = build(name, TINY, Topology("v5e:2x2*2").devices(), Work(16, 64, 8)).mesh.shape
    assert two == {**one, "data": 2 * one["data"]}


def test_a_mesh_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="7 sequences and a model dimension of 4608"):
        train_mesh(PRESETS["27b"], 64, 7)


@pytest.mark.parametrize("preset", ["tiny", "2b", "27b", "gemma3-27b", "qwen3-8b", "llama-70b"])
def test_weights_are_counted_once_per_token(preset):
    model = Model(PRESETS[preset])
    shapes = model.abstract()
    stacks = [shapes[segment.name] for segment in model.spec.segments]
    layers = [leaf for leaf in jax.tree.leaves(stacks) if leaf.ndim > 2]
    assert head_size(model) == shapes["embed"].size
    one = forward_flops(model, 1, 128, logits=128) / 128
    c = model.config
    pairs = 2 * c.num_layers * 2 * c.num_heads * c.head_dim  # one key: q k^T and the sum of values
    assert one == 2 * (sum(leaf.size for leaf in layers) + shapes["embed"].size) + 128 * pairs


def test_attention_grows_with_the_length_and_windows_stop_it():
    model = Model(TINY)
    heads = TINY.num_heads * TINY.head_dim
    a, b = (forward_flops(model, 1, n, logits=0) / n for n in (2048, 4096))
    # Global layers: half of 2,048 more keys. Local: 2 blocks of 512 each, the first one only 1.
    more = 2048 / 2 + (2 * 512 - 512 / 8) - (2 * 512 - 512 / 4)
    assert b - a == 2 * TINY.num_layers // 2 * 2 * more * heads
    c, d = (decode_flops(model, 1, n, 8) / 8 for n in (64, 128))
    assert d - c == 2 * TINY.num_layers // 2 * 2 * 64 * heads  # global layers only: 48 < 64
    assert decode_flops(model, 6, 64, 8) == 6 * decode_flops(model, 1, 64, 8)


@pytest.mark.slow
def test_a_training_step_on_a_tpu_keeps_no_square_of_logits(monkeypatch):
    """No array has two dimensions of the length, in the program and as compiled; with the
    reference some have. And its operations are those that were counted."""
    length = 384
    topology = Topology("v5e:2x2")
    program = build("rft-step", TINY, topology.devices(), Work(8, length), MeshConfig(1, 2, 2))
    cost, compiled = measure(program, topology)
    text = compiled.as_text()
    kernels = re.findall(r"%splash_mha_([a-z]+)_\S+ = .* custom-call", text)
    assert set(kernels) == {"fwd", "dq", "dkv"}
    assert not re.search(rf"\[(\d+,)*{length},(\d+,)*{length}[,\]]", text)
    assert cost.flops == pytest.approx(cost.flops_analytic, rel=0.03)
    assert cost.resident == 0
    assert cost.fits

    square = re.compile(rf"tensor<(\d+x)*{length}x(\d+x)*{length}x")

    def traced():
        step = build("rft-step", TINY, topology.devices(), Work(8, length), MeshConfig(1, 2, 2))
        with jax.set_mesh(step.mesh):
            return step.lower().as_text()

    assert not square.search(traced())
    monkeypatch.setattr("grm_jax.models.attention.for_tpu", lambda: False)
    assert square.search(traced())


@pytest.mark.slow
def test_a_layers_last_product_is_not_made_again_where_nothing_asks_for_it():
    """That of Qwen3 is added as it is, and is 6 % of an update; Gemma's is normed before."""
    config, topology = Qwen3Config(512, 4, 256, 1024, 4, 2, 64), Topology("v5e:2x2")
    program = build("rft-step", config, topology.devices(), Work(8, 256), MeshConfig(1, 2, 2))
    cost, _ = measure(program, topology)
    assert cost.flops == pytest.approx(cost.flops_analytic, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["full", "dots"])
def test_a_step_on_groups_runs_each_prompt_once_and_keeps_no_square(remat):
    """Its operations are those that were counted; with "dots" no kernel runs a second time."""
    prompt, new, group = 640, 128, 4  # blocks of 128, which the mask keeps some of
    topology = Topology("v5e:2x2")
    work = Work(8, prompt + new, new, group, remat=remat)
    program = build("grpo-step", TINY, topology.devices(), work, MeshConfig(1, 2, 2))
    cost, compiled = measure(program, topology)
    text = compiled.as_text()
    kernels = re.findall(r"%splash_mha_([a-z]+)_\S+ = .* custom-call", text)
    assert set(kernels) == {"fwd", "dq", "dkv"}
    layers = 2  # of the scanned body
    assert kernels.count("fwd") == layers * (2 if remat == "full" else 1)
    for length in (prompt, prompt + new, prompt + group * new):
        assert not re.search(rf"\[(\d+,)*{length},(\d+,)*{length}[,\]]", text)
    assert cost.flops == pytest.approx(cost.flops_analytic, rel=0.03)
    assert cost.fits


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, 4])
def test_decoding_with_experts_copies_none_of_them_and_shares_heads(group):
    """A kernel reads them where they lie, in the stack of all layers; and it does its share. So
    does attention, though latent vectors are the one key of all heads: for several samples too."""
    layers, experts, chosen, dim, heads, ways = 3, 8, 2, 256, 16, 2
    config = DeepSeekConfig(
        "deepseek_v2", 512, 1 + layers, 1, dim, 512, 128, experts, chosen, 1, heads, None,
        Rope(1e4),
    )  # fmt: skip
    topology, work = Topology("v5e:2x2"), Work(8 * group, 1024, 16, group)
    program = build("decode", config, topology.devices(), work, MeshConfig(2, 1, ways))
    cost, compiled = measure(program, topology)
    kernels = re.findall(
        r"%ragged-dot-none\S* = .*?operand_layout_constraints={.*", compiled.as_text()
    )
    assert len(kernels) == 3 * layers
    for kernel in kernels:
        assert re.search(rf"bf16\[{layers * experts // ways},(256,128|128,256)\]", kernel)
    # What every device does alike: the latent vectors and the gate.
    alike = (1 + layers) * dim * (512 + 64) + layers * dim * experts
    again = (ways - 1) * 2 * 8 * group * 16 * alike / 4
    assert cost.flops == pytest.approx(cost.flops_analytic + again, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "work", "kinds"),
    [
        ("grpo-score", Work(32, 256, 64, 4), {"all-gather"}),
        ("rft-step", Work(4, 256), {"all-gather", "all-reduce"}),
    ],
)
def test_experts_are_gathered_a_layer_at_a_time(name, work, kinds):
    """Not those of all layers at once; and their gradients are sent in bf16, as others are."""
    config = DeepSeekConfig("deepseek_v2", 512, 4, 1, 1024, 512, 128, 8, 2, 1, 4, None, Rope(1e4))
    topology = Topology("v5e:2x2")
    _, compiled = measure(
        build(name, config, topology.devices(), work, MeshConfig(1, 4, 1)), topology
    )
    sent = re.findall(r" = (\S.*?) (all-gather|all-reduce)(?:-start)?\(", compiled.as_text())
    experts = {
        (kind, shape)
        for shapes, kind in sent
        for shape in re.findall(r"(\w+\[\d+),8,(?:1024,128|128,1024)\]", shapes)
    }
    assert experts == {(kind, "bf16[1") for kind in kinds}


def test_a_device_holds_its_part_of_every_matrix():
    """Also of those between a latent vector and the heads, 3.3 billion numbers."""
    model = Model(PRESETS["deepseek-v3"], param_dtype="bfloat16")
    mesh = make_mesh(MeshConfig(1, 128, 1), Topology("v5p:4x4x8").devices())
    part = bytes_per_device(model, mesh, TRAIN_RULES)
    assert part == pytest.approx(2 * model.num_params() / 128, rel=2e-3)


# rft-step is compiled above, the others are in tests/cli/test_aot_command.py.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpo-score", "meta-step", "meta-score", "prefill"])
def test_programs_take_their_abstract_arguments(name):
    program = build(name, TINY, jax.devices(), Work(16, 64, 8))
    with jax.set_mesh(program.mesh):
        compiled = program.lower().compile()
    assert compiled.memory_analysis().argument_size_in_bytes > 0
    prompts = program.mesh.shape["data"] if name == "prefill" else 16  # 16 samples of 4 prompts
    assert program.tokens == 64 * prompts
    assert program.flops > 0


def test_what_is_made_again_to_save_memory_is_no_use():
    step = build("rft-step", PRESETS["2b"], jax.devices(), Work(16, 4096))
    # Forward, again, and twice as much backward: 3 of 4 (of attention 3 of 5.5, of the head all).
    assert 3 / 5.5 < step.useful / step.flops < 0.85
    # Where products are kept, attention's backward alone makes something again: 3 of 4.5.
    kept = build("rft-step", PRESETS["2b"], jax.devices(), Work(16, 4096, remat="dots"))
    assert kept.useful == step.useful
    assert 0.95 < kept.useful / kept.flops < 1
    assert build("decode", TINY, jax.devices(), Work(8, 64, 8)).useful == 0


def test_what_lies_beside_a_program_is_counted():
    norms = TINY.embed_dim * (4 * TINY.num_layers + 1)  # whole on every device
    weights = (Model(TINY).num_params() - norms) / 8 + norms
    mesh = MeshConfig(1, 8, 1)
    step = build("grpo-step", TINY, jax.devices(), Work(32, 64), mesh)
    score = build("grpo-score", TINY, jax.devices(), Work(32, 64), mesh)
    assert step.resident == 2 * weights  # the reference, in bf16
    assert score.resident == 3 * 4 * weights  # the policy and its two moments
    assert build("rft-step", TINY, jax.devices(), Work(16, 64), mesh).resident == 0


@pytest.mark.parametrize(
    ("name", "work", "mesh", "said"),
    [
        ("step", Work(16), None, "program is 'step'"),
        ("rft-step", Work(12, 64), MeshConfig(1, 8, 1), "multiple of 8"),
        ("rft-step", Work(16, 64), MeshConfig(1, 1, 8), "does not divide"),
        ("rft-step", Work(16, 64), MeshConfig(1, 3, 1), "mesh data=1 fsdp=3"),
        ("decode", Work(3, 64), MeshConfig(8, 1, 1), "sequences is 3"),
        ("grpo-step", Work(18, 64), None, "sequences is 18, in groups of 4"),
        ("grpo-step", Work(16, 64), MeshConfig(1, 8, 1), "sequences / group is 4"),
    ],
)
def test_what_does_not_divide_is_refused(name, work, mesh, said):
    with pytest.raises(ValueError, match=said):
        build(name, TINY, jax.devices(), work, mesh)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"sequences": 0}, "sequences is 0"), ({"microbatches": -1}, "microbatches is -1")],
)
def test_work_must_be_some(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(Work(4), **changes)


@pytest.mark.parametrize("name", ["v5p", "v9:2x2", "v5p:2by2", "v5p:2x2x2x2", "v5e:2x2*0"])
def test_topologies_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match="give a kind of chip"):
        Topology(name)


@pytest.mark.parametrize(
    ("name", "chips", "slices"),
    [
        ("v5e:4x4", 16, 1),
        ("v5p:4x4x4", 64, 1),
        ("v6e:16x16", 256, 1),
        ("v6e:1x1", 1, 1),
        ("tpu7x:2x2x1", 4, 1),
        ("v5p:2x2x2*1", 8, 1),
        ("v5e:4x4*3", 48, 3),
        ("tpu7x:2x2x1*2", 8, 2),
    ],
)
def test_the_compiler_knows_the_slices(name, chips, slices):
    topology, devices = Topology(name), Topology(name).devices()
    assert topology.chips == chips
    assert len(devices) == chips * TPUS[name.split(":")[0]].devices
    assert len({getattr(device, "slice_index", 0) for device in devices}) == slices


def test_a_slice_that_the_compiler_does_not_know_is_told():
    with pytest.raises(ValueError, match=r"the TPU compiler has no v5e:3x5"):
        Topology("v5e:3x5").devices()


def test_a_prompt_that_scores_share_is_counted_once():
    """Four sequences of 64 tokens, 16 of them their own: 256 tokens, or 48 + 4 * 16."""
    apart, shared = (
        build("meta-score", TINY, jax.devices(), Work(16, 64, 16, group)) for group in (0, 4)
    )
    assert shared.tokens == apart.tokens
    # Attention is of a block of 128 at least: one row instead of four.
    assert 1 / 4 < shared.flops / apart.flops < 112 / 256
    with jax.set_mesh(shared.mesh):
        shared.lower()
