"""The engine: slots are refilled and prompts shared, and no bit of a sample depends on it."""

import dataclasses
import threading
from types import SimpleNamespace
from unittest import mock

import jax
import numpy as np
import pytest

from grm_jax.models import decoding
from grm_jax.models.cache import KeysValues
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model
from grm_jax.sampling import programs
from grm_jax.sampling.engine import Engine
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.size import EngineSize
from tests.devices import one_device

CONFIG = dataclasses.replace(
    PRESETS["tiny"], vocab_size=64, embed_dim=32, sliding_window=200, max_position=700
)
SIZE = EngineSize(slots=4, prompts=6, places=2, piece=16, steps=5)


@pytest.fixture(scope="module", params=[pytest.param("whole", marks=pytest.mark.slow), "by blocks"])
def make(request):
    """An engine of a model whose samples have very different lengths, and how it reads caches."""
    model = Model(CONFIG)
    params = model.init(jax.random.key(0))
    params = jax.tree.map(lambda w: w * 6 if w.ndim > 1 else w, params)
    loops = request.param == "by blocks"

    def make(size: EngineSize = SIZE) -> Engine:
        return Engine(model, params, stop_ids=[7, 9, 11], max_new_tokens=150, size=size)

    with mock.patch.object(decoding, "by_blocks", return_value=loops):
        jax.clear_caches()  # how caches are read is no argument of the programs
        yield make
    jax.clear_caches()


@pytest.mark.parametrize(("loops", "calls"), [(True, 2), (False, 1)])
def test_where_a_call_is_dear_a_prompt_of_a_narrow_cache_takes_one(loops, calls) -> None:
    model = Model(CONFIG)
    params = model.init(jax.random.key(0))
    jax.clear_caches()
    with mock.patch.object(decoding, "by_blocks", return_value=loops):
        engine = Engine(model, params, stop_ids=[7], max_new_tokens=2, size=EngineSize(slots=1))
        with mock.patch.object(programs, "extend", wraps=programs.extend) as extend:
            _all(engine, [Request([20] * 100, 0, (0,), "one")])
    jax.clear_caches()
    assert extend.call_count == calls


def _requests() -> list[Request]:
    """Prompts of all lengths, two of each item with the same front."""
    rng = np.random.default_rng(1)
    made = []
    for item in range(8):
        front = rng.integers(12, 64, rng.integers(3, 130)).tolist()
        for order in range(2):
            tokens = front + rng.integers(12, 64, 5 + item).tolist()
            made.append(Request(tokens, item, (order, order + 2, order + 4), (item, order)))
    return made


def _drawn(engine: Engine) -> dict[tuple, tuple[bytes, bytes]]:
    found = {}
    while not engine.idle:
        for one in engine.step():
            assert (one.request.tag, one.sample) not in found
            found[one.request.tag, one.sample] = _bits(one)
    return found


def _bits(one: Completion) -> tuple[bytes, bytes]:
    return one.tokens.tobytes(), one.logprobs.tobytes()


def _all(engine: Engine, requests: list[Request]) -> dict[tuple, tuple[bytes, bytes]]:
    for request in requests:
        engine.submit(request)
    return _drawn(engine)


@pytest.mark.slow
def test_a_sample_is_the_same_alone_and_in_a_crowd(make) -> None:
    """One request at a time; all at once, either way round; and some that come while it runs."""
    requests, engine = _requests(), make()
    together = _all(engine, requests)
    lengths = sorted(len(tokens) // 4 for tokens, _ in together.values())
    assert lengths[0] < 10 < 50 < lengths[-1]
    assert len(together) == 48
    assert _all(make(), requests[::-1]) == together
    alone = make()
    one_by_one: dict = {}
    for request in requests[:6]:
        one_by_one |= _all(alone, [request])
    assert one_by_one == {name: together[name] for name in one_by_one}
    late = make()
    for request in requests[:3]:
        late.submit(request)
    found = {(c.request.tag, c.sample): _bits(c) for _ in range(6) for c in late.step()}
    assert found, "some have ended, and left their slots"
    found |= _all(late, requests[3:])
    assert found == together


def test_what_prompts_have_in_common_is_prefilled_once(make) -> None:
    engine, front = make(), list(range(12, 60))
    prompts = [[*front, *end] for end in ([12] * 20, [13] * 20, [14] * 20)]
    extend = mock.Mock(wraps=programs.extend(platform="cpu"))
    with mock.patch.object(programs, "extend", return_value=extend):
        _all(engine, [Request(tokens, i, (0, 1, 2), i) for i, tokens in enumerate(prompts)])
        # 68 tokens are 5 pieces, 48 of them 3; a third sample has a row of its own: a copy.
        assert extend.call_count == 5 + 2 + 2
        _all(engine, [Request(prompts[2], 9, (0, 1), 9)])
        assert extend.call_count == 9, "it is still there"


def test_of_a_prompt_longer_than_the_window_all_is_shared_or_nothing(make) -> None:
    """Its local layers have forgotten its front."""
    long = np.random.default_rng(0).integers(12, 64, 300).tolist()
    requests = [
        Request(long, 0, (0, 1, 2, 3), "same"),
        Request([*long[:299], 12], 1, (0,), "other"),
    ]
    extend = mock.Mock(wraps=programs.extend(platform="cpu"))
    with mock.patch.object(programs, "extend", return_value=extend):
        together = _all(make(), requests)
        assert extend.call_count == 19 + 19
    assert _all(make(), requests[1:]) == {("other", 0): together["other", 0]}


@pytest.mark.slow
def test_room_for_long_prompts_is_made_when_one_comes(make) -> None:
    rng = np.random.default_rng(2)
    short, long = (Request(rng.integers(12, 64, n).tolist(), n, (0, 1), n) for n in (40, 540))
    engine = make()
    first = _all(engine, [short])
    both = _all(engine, [long, short])
    assert {name: both[name] for name in first} == first
    assert _all(make(), [long]) == {name: both[name] for name in both if name not in first}


@pytest.mark.slow
def test_room_for_more_prompts_is_made_when_they_come(make) -> None:
    requests = _requests()
    expected = _all(make(), requests)
    with mock.patch("grm_jax.sampling.bank.FEW_ROWS", 1):
        engine = make()
    alone = _all(engine, requests[:1])
    assert engine.banks[0].rows == 4
    assert alone == {name: expected[name] for name in alone}
    assert _all(engine, requests) == expected
    assert engine.banks[0].rows == 6


@pytest.mark.slow
def test_a_cancelled_request_leaves_at_once(make) -> None:
    requests, engine = _requests(), make()
    expected = _all(make(), requests[1:])
    handle = engine.submit(requests[0])
    engine.step()
    engine.cancel(handle)
    assert _all(engine, requests[1:]) == expected
    waiting = [engine.submit(request) for request in requests]
    for handle in waiting[1:]:
        engine.cancel(handle)
    rest = _drawn(engine)
    assert {name for name, _ in rest} == {requests[0].tag}
    assert _all(engine, requests[1:]) == expected, "the rows are free again"


def test_a_request_that_was_given_up_is_drawn_as_if_it_had_not_been(make) -> None:
    """Its old samples still hold their places on the device, until a call says otherwise."""
    requests, engine = _requests(), make()
    expected = _all(make(), requests[2:3])
    both = [engine.submit(request) for request in requests[1:3]]
    engine.step()
    for handle in both:
        engine.cancel(handle)
    assert _drawn(engine) == {}
    assert _all(engine, requests[2:3]) == expected


@pytest.mark.slow
def test_slots_are_refilled_while_others_go_on(make) -> None:
    """Of 4 slots, more than three quarters of the steps draw a token that is wanted."""
    engine = make(dataclasses.replace(SIZE, prompts=12))
    steps = []

    def watched(platform):
        advance = program(platform=platform)

        def call(*arguments, **static):
            slots, drawn = advance(*arguments, **static)
            steps.append(np.asarray(drawn.entry))
            return slots, drawn

        return call

    program = programs.advance
    with mock.patch.object(programs, "advance", watched):
        again = [dataclasses.replace(r, tag=(r.tag, i)) for i in range(3) for r in _requests()]
        drawn = _all(engine, again)
    used = np.concatenate([entry[:, 0] for entry in steps])
    used = used[used.max(1) >= 0]
    assert (used >= 0).mean() > 0.75
    assert len(drawn) == 144


def test_what_decoding_takes_as_training_has_it_is_not_copied() -> None:
    """The embedding of a small model is a large part of it."""
    params = Model(CONFIG).init(jax.random.key(0))
    taken = programs.split(params, "float32")
    where = [p["embed"].unsafe_buffer_pointer() for p in (params, taken)]
    assert where[0] == where[1]
    assert programs.split(params, "bfloat16")["embed"].dtype == "bfloat16"


def test_only_weights_that_are_converted_are_compiled_for_that() -> None:
    params = Model(CONFIG).init(jax.random.key(0))
    found = [programs.options_for(params, dtype) for dtype in ("float32", "bfloat16")]
    assert found == ["cpu", programs.CONVERTING]
    in_int8 = {**params, "q": SimpleNamespace(qvalue=0)}
    assert programs.options_for(in_int8, "float32") == programs.CONVERTING


def test_how_a_cache_is_read_does_not_depend_on_the_crowd() -> None:
    """Blocks and the whole sum in different orders, and a crowd makes more rows and positions."""
    shapes = [(1, rows, 2, length, 8) for rows in (1, 24, 384) for length in (16, 512)]
    caches = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    with one_device():
        assert {decoding.by_blocks(KeysValues(cache, cache)) for cache in caches} == {True}


TWO_BANKS = dataclasses.replace(SIZE, slots=8, prompts=12, banks=2)


@pytest.mark.slow
def test_samples_of_two_banks_are_those_of_one(make) -> None:
    """And they come back in the same order every time, whichever bank is faster."""
    requests = _requests()
    drawn = [list(_all(make(TWO_BANKS), requests).items()) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert dict(drawn[0]) == _all(make(), requests)


def test_calls_of_two_banks_are_under_way_at_the_same_time(make) -> None:
    both = threading.Barrier(2)

    def met(platform):
        advance = program(platform=platform)

        def call(*arguments, **static):
            both.wait(timeout=60)  # BrokenBarrierError, if the other does not come
            return advance(*arguments, **static)

        return call

    engine = make(TWO_BANKS)
    for request in _requests()[:2]:
        engine.submit(request)
    program = programs.advance
    with mock.patch.object(programs, "advance", met):
        engine.step()
        engine.step()
        assert [len(bank.unread) for bank in engine.banks] == [1, 1]
        for bank in engine.banks:
            bank.unread[0].result()


def test_what_fails_in_a_bank_is_told_and_nothing_is_drawn_after_it(make) -> None:
    engine = make(TWO_BANKS)
    with mock.patch.object(programs, "extend", side_effect=RuntimeError("out of memory")):
        for request in _requests()[:4]:
            engine.submit(request)
        with pytest.raises(RuntimeError, match="out of memory"):
            _drawn(engine)


def test_a_prompt_is_prefilled_in_one_bank_while_they_have_about_as_much_to_do(make) -> None:
    engine = make(dataclasses.replace(TWO_BANKS, slots=32, prompts=32))
    extend = mock.Mock(wraps=programs.extend(platform="cpu"))
    prompts = [list(range(12, 12 + length)) for length in (16, 17, 30)]
    with mock.patch.object(programs, "extend", return_value=extend):
        # Four samples are a quarter of a bank: with two to a row, both rows are in one bank.
        for item, (tokens, samples) in enumerate(zip(prompts, (4, 2, 2), strict=True)):
            engine.submit(Request(tokens, item, tuple(range(samples)), item))
        engine.step()
        engine.step()
        for bank in engine.banks:
            bank.unread[0].result()
    assert [len(bank.lanes[0].samples) for bank in engine.banks] == [6, 2]
    # One piece of the first, one more of the second; the third has the other bank to itself.
    assert extend.call_count == 1 + 1 + 2


def test_on_a_cpu_there_is_a_bank_for_every_32_slots() -> None:
    model = Model(CONFIG)
    params = model.init(jax.random.key(0))
    for slots, widths in ((8, [8]), (63, [63]), (64, [32, 32]), (97, [33, 33, 33])):
        engine = Engine(model, params, stop_ids=[7], max_new_tokens=4, size=EngineSize(slots=slots))
        assert [bank.width for bank in engine.banks] == widths
