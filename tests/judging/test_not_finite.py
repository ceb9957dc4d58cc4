"""NaN and infinity on the way through a model are an error that says so, and never a score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax import Example
from grm_jax.judging.cloud import CLoud
from grm_jax.judging.folder import bundled, load_model_folder
from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.pairs import PairInput
from grm_jax.judging.rater import Rater
from grm_jax.judging.scalar import BTRM, PairRM
from grm_jax.judging.token_prob import IndexReader
from grm_jax.judging.voting import guide
from grm_jax.sampling.request import Completion, Request

EXAMPLES = [Example("What is 1+1?", ["2", "3"], id="a"), Example("And 2+2?", ["4", "5"], id="b")]
WRITTEN = Judgment(0, (0, 1), "p", "c", (9, 1), None, "text", 3, -1.0)


@pytest.fixture(scope="module")
def rater() -> Rater:
    return Rater(load_model_folder("tiny-meta"), slots=2)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every first row of a batch has a score that is none."""
    for kind in (Rater, IndexReader):
        values = [[math.nan], [1.0]] if kind is Rater else [[[math.nan] * 9], [[1.0] * 9]]
        monkeypatch.setattr(kind, "compute", lambda *_, values=values: jnp.array(values))


def split(results: Iterator[Sampled | Refusal]) -> tuple[list[Refusal], list[Sampled]]:
    found = list(results)
    refused = [result for result in found if isinstance(result, Refusal)]
    return refused, [result for result in found if isinstance(result, Sampled)]


@pytest.mark.usefixtures("broken")
def test_a_meta_rm_that_gives_no_number_guides_nothing(rater: Rater) -> None:
    meta = MetaRM(rater.folder, slots=2)
    sampled = [Sampled(example, (WRITTEN,)) for example in EXAMPLES]
    (refusal,), (fine,) = split(meta.rate_all(sampled))
    assert refusal.id == "a"
    assert "the meta RM: a score that" in refusal.error
    assert "is not finite" in refusal.error
    assert fine.judgments[0].meta == 1.0


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("judge", [BTRM, PairRM])
def test_a_reward_that_is_no_number_is_the_rows_error(rater: Rater, judge) -> None:
    refused, _ = split(judge(rater).sample_all(EXAMPLES, 1))
    assert "a" in {refusal.id for refusal in refused}
    assert all("is not finite" in refusal.error for refusal in refused)


@pytest.mark.usefixtures("broken")
def test_a_value_head_that_gives_no_number(rater: Rater) -> None:
    class Critic:
        on_devices = True

        def sample_all(self, examples, k):
            for example in examples:
                yield Sampled(example, (replace(WRITTEN, order=(0,)),))

    refused, _ = split(CLoud(Critic(), rater).sample_all(EXAMPLES, 1))
    assert refused
    assert all("is not finite" in refusal.error for refusal in refused)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load("tiny", slots=2, kind="token-prob")


def writing(text: str, logprobs: dict[int, float], judge: Judge):
    """A sampler that writes this for every sample; some samples' log-probabilities are odd."""
    tokens = np.array(judge.folder.tokenizer.encode_completion(text))

    def sampler(requests: Iterator[Request]) -> Iterator[Completion]:
        for request in requests:
            for sample in request.samples:
                told = np.full(len(tokens), -0.5, np.float32)
                told[3] = logprobs.get(request.item % 2 * 100 + sample, -0.5)
                yield Completion(request, sample, tokens, told, True)

    sampler.seed, sampler.size = 0, judge.sampler.size
    sampler.check_length = lambda _: None
    return sampler


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_told_and_not_blamed_on_the_template(
    judge: Judge, monkeypatch, value: float
) -> None:
    judge = Judge(judge.folder, slots=2)  # whose scores are those that it writes
    for places, told in (({}, 0), ({0: value, 101: value, 1: value, 100: value}, 2)):
        monkeypatch.setattr(judge, "sampler", writing("no scores at all", places, judge))
        refused, _ = split(judge.sample_all(EXAMPLES, 2))
        assert len(refused) == told
        for refusal in refused:
            assert refusal.error.startswith(f"the logits of {judge.folder.path} are not finite")
            assert not refusal.passing


@pytest.mark.usefixtures("broken")
def test_logits_of_the_numbers_that_are_not_finite(judge: Judge, monkeypatch) -> None:
    text = "Analysis: a\nChoice: \\boxed{1}"
    monkeypatch.setattr(judge, "sampler", writing(text, {}, judge))
    (refusal,), (fine,) = split(judge.sample_all(EXAMPLES, 1))
    assert refusal.error.startswith("the logits of")
    assert fine.judgments[0].scores == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_was_rated_with_no_number_before_cannot_choose(value: float) -> None:
    with pytest.raises(ValueError, match=r"the meta score of sample 0 is .* not finite"):
        guide([replace(WRITTEN, meta=value)])
    assert guide([replace(WRITTEN, meta=None)])[0].counted


def test_a_passing_reason_stays_one_on_its_way_out() -> None:
    class Down:
        on_devices = False

        def sample_all(self, examples, k):
            for example in examples:
                yield Refusal(example.id, "the server is down", passing=True)

    three = Example("q", ["1", "2", "3"], id="a")
    (refusal,) = PairInput(Down()).sample_all([three], 1)
    assert (refusal.id, refusal.passing) == ("a", True)
    rater = type("R", (), {"__call__": lambda _, requests: requests})()
    (refusal,) = CLoud(Down(), rater).sample_all([three], 1)
    assert (refusal.id, refusal.passing) == ("a", True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{not json", r"grm\.json:1 is not JSON"),
        ("[]", r"grm\.json holds a list, where a JSON object is needed"),
        ('{"max_new_tokens": "many"}', r"grm\.json: max_new_tokens is 'many'; it must be a whole"),
        ('{"max_new_tokens": true}', r"max_new_tokens is True"),
        ('{"kind": ["grm"]}', r"kind is \['grm'\]; it must be one of grm, judge, token-prob"),
        ('{"critic": 7}', r"critic is 7; it must be the name of a folder"),
        ('{"tokenizer_sha256": null}', r"tokenizer_sha256 is None"),
    ],
)
def test_an_odd_grm_json_is_a_sentence(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((bundled("tiny") / "tokenizer.json").read_bytes())
    (tmp_path / "grm.json").write_text(content)
    with pytest.raises(ValueError, match=says) as caught:
        load_model_folder(tmp_path)
    assert str(tmp_path / "grm.json") in str(caught.value)
