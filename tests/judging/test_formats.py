"""Judges with formats of their own: behind a server, and as a model of ours."""

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax import Example, Judge, presets
from grm_jax.cli import main
from grm_jax.judging.each import EachInput
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.principles import GivenPrinciples, WithPrinciples
from grm_jax.judging.token_prob import SPELLED
from grm_jax.sampling.request import Completion, Request
from tests.judging.test_endpoint import Reply, Server, completion, judge, sampled, server
from tests.judging.test_token_prob import Says

__all__ = ["server"]  # the fixture

PAIR = Example("q", ["worth 3", "worth 9"], id="a", label=1)


def worths(body: dict[str, Any]) -> list[int]:
    return [int(w) for w in re.findall(r"^worth (\d+)", body["messages"][0]["content"], re.M)]


def by_letter(text: str):
    def reply(body: dict[str, Any]) -> Reply:
        worth = worths(body)
        return completion(text.format("AB"[worth.index(max(worth))]))

    return reply


def by_score(text: str):
    return lambda body: completion(text.format(*worths(body)))


def by_yes(body: dict[str, Any]) -> Reply:
    """Yes with the odds that the response is worth, after a critique."""
    (worth,) = worths(body)
    word = " Yes" if worth > 5 else " No"
    pieces = ["It says Judgement: No.", "\nJudgement", ":", word]
    odds = {" Yes": worth / 10, " No": 1 - worth / 10, " yes": 1e-9, "x": 0.5}
    top = [{"token": t, "logprob": math.log(p)} for t, p in odds.items()]
    entries = [{"token": piece, "logprob": -0.1, "top_logprobs": []} for piece in pieces[:-1]]
    entries.append({"token": word, "logprob": math.log(odds[word]), "top_logprobs": top})
    status, headers, said = completion("".join(pieces))
    said["choices"][0]["logprobs"] = {"content": entries}
    return status, headers, said


def test_a_verdict_on_a_pair_is_one_and_nothing(server: Server) -> None:
    for name, text in (("pairwise", "B.\n[[{}]]"), ("rm_r1", "<answer>[[{}]]</answer>")):
        server.reply = by_letter(text)
        result = sampled(judge(server, templates=name), PAIR, k=4)["a"]
        assert [j.scores for j in result.judgments] == [(0, 1)] * 4
        assert len({j.order for j in result.judgments}) == 2
    server.reply = lambda body: completion("Both are wrong.\n[[C]]")
    (judgment,) = sampled(judge(server, templates="pairwise"), PAIR)["a"].judgments
    assert judgment.scores == (0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "text"),
    [("prometheus", "Feedback: Good. [RESULT] {}"), ("selene", "**Reasoning:** a\n**Result:** {}")],
)
def test_one_response_at_a_time_is_one_judgment_of_all(server: Server, name, text) -> None:
    server.reply = by_score(text)
    three = Example("q", ["worth 3", "worth 5", "worth 7"], id="t", label=1)
    source = EachInput(judge(server, templates=name))
    found = {r.example.id: r for r in source.sample_all([three, PAIR], 2)}  # type: ignore[union-attr]
    # 7 and 9 are beyond the scale of 1 to 5.
    assert [(j.scores, j.reason) for j in found["t"].judgments] == [(None, "out_of_range")] * 2
    two = Example("q", ["worth 3", "worth 5"], id="t", label=0)
    (result,) = source.sample_all([two], 2)
    assert isinstance(result, Sampled)
    assert result.example is two
    assert [j.scores for j in result.judgments] == [(3, 5)] * 2
    assert result.judgments[0].tokens == 20
    assert "[Response 2]\n" in result.judgments[0].text
    server.reply = lambda body: (400, {}, {"error": {"message": "no"}})
    (refusal,) = source.sample_all([two], 2)
    assert isinstance(refusal, Refusal)
    assert re.match(r"response [12]: ", refusal.error)


def test_json_scores_all_and_each_criterion(server: Server) -> None:
    said = {"analysis": "a", "criteria": {"accuracy": "{}", "tone": [1, 2], "odd": 3}}
    text = json.dumps({**said, "scores": "{}"}).replace('"{}"', "[{}, {}]")
    server.reply = lambda body: completion(text.replace("{}", "%s") % (*worths(body) * 2,))
    (result,) = judge(server, templates="json").sample_all([PAIR], 4)
    assert isinstance(result, Sampled)
    for judgment in result.judgments:
        assert judgment.scores == (3, 9)
        tone = (1, 2) if judgment.order == (0, 1) else (2, 1)
        assert judgment.criteria == {"accuracy": (3, 9), "tone": tone}
        assert (judgment.critique, judgment.principles) == ("a", "accuracy, tone")


def test_yes_is_worth_its_probability_among_the_two(server: Server) -> None:
    server.reply = by_yes
    asking = judge(server, templates="nemotron")
    (result,) = EachInput(asking).sample_all([PAIR], 2)
    assert isinstance(result, Sampled)
    for judgment in result.judgments:
        assert judgment.scores == pytest.approx((0.3, 0.9), rel=1e-6)
    assert all(body["logprobs"] and body["top_logprobs"] == 20 for body in server.asked)
    server.reply = lambda body: completion("Judgement: Yes")
    refusal = sampled(asking, Example("q", ["a"], id="b"))["b"]
    assert "sent no top_logprobs" in refusal.error


def test_principles_are_asked_for_once_and_shown(server: Server, tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        asked = body["messages"][0]["content"]
        if "You are about to judge" in asked:
            return completion("Specific Criteria: worth (100%)")
        assert "[Criteria]\nGrade by these criteria:\nworth (100%)" in asked
        return completion(json.dumps({"scores": worths(body)}))

    server.reply = reply
    asking = judge(server, templates="json")
    given = GivenPrinciples(tmp_path, asking)
    rows = [PAIR, Example("q", ["worth 1", "worth 2"], id="b")]
    results = list(WithPrinciples(asking, given).sample_all(rows, 3))
    assert {r.judgments[0].scores for r in results if isinstance(r, Sampled)} == {(3, 9), (1, 2)}
    assert len(server.asked) == 7
    assert (given.usage.queries, given.usage.written, given.usage.judgments) == (1, 10, 6)


def test_the_command_shows_each_response_by_itself(server: Server, tmp_path: Path, capsys) -> None:
    rows = [{"prompt": f"q{i}", "chosen": "worth 5", "rejected": "worth 2"} for i in range(3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "rubric.json").write_text('{"worth": 1}')
    server.reply = by_score("Feedback: a. [RESULT] {}")
    asked = [
        "judge", "--input", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "out.jsonl"),
        "--endpoint.url", server.url, "--endpoint.model", "m", "--k", "2",
        "--endpoint.templates", "prometheus", "--principles", str(tmp_path / "rubric.json"),
    ]  # fmt: skip
    assert main(asked) == 0
    assert len(server.asked) == 12
    assert all("###Rubric:\nworth (1)" in b["messages"][0]["content"] for b in server.asked)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["scores"] for line in lines] == [[10, 4]] * 3
    assert "given to 6 judgments" in "".join(capsys.readouterr())


@pytest.fixture(scope="module")
def says_yes(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """The bundled model with Yes and No as tokens, in the place of its last merges."""
    folder = tmp_path_factory.mktemp("yes") / "tiny"
    shutil.copytree(presets.bundled("tiny"), folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    model = tokenizer["model"]
    for pair in (["Y", "es"], ["N", "o"]):
        gone = model["merges"].pop()
        model["vocab"]["".join(pair)] = model["vocab"].pop("".join(gone))
    model["merges"] += [["Y", "es"], ["N", "o"]]
    path.write_text(json.dumps(tokenizer))
    (folder / "grm.json").write_text('{"max_new_tokens": 80}')
    own = folder / "templates" / "grm.txt"
    own.write_text("{conversation}\n{responses}\n=== scale ===\n0 1\n=== answer ===\n{yes}\n")
    return Judge.load(folder, slots=4)


def share_by_hand(one: Judge, drawn: Completion, place: int) -> float:
    """The probability of Yes after the prompt and `place` tokens, by that of all tokens; whatever
    spelling is one token counts."""
    model, params = one.folder.model, one.folder.params
    ids = jnp.array([[*drawn.request.tokens, *drawn.tokens.tolist()]])
    hidden = jax.jit(model.hidden)(params, ids, jnp.arange(ids.shape[1])[None])
    logits = model.logits(params, hidden[0, len(drawn.request.tokens) + place - 1])
    shares = np.asarray(jax.nn.softmax(logits), float)
    spelled = [[one.folder.tokenizer.encode(word) for word in words] for words in SPELLED]
    yes, no = (sum(shares[ids[0]] for ids in words if len(ids) == 1) for words in spelled)
    return yes / (yes + no)


@pytest.mark.parametrize("text", ["Yes", "It is right.\nNo", "No, \\boxed{1}."])
def test_yes_is_worth_the_models_own_next_token(says_yes: Judge, text: str) -> None:
    script = Says(says_yes, text)
    one = Judge(says_yes.folder, slots=4)
    one.sampler = script  # type: ignore[assignment]
    (result,) = one.sample_all([Example("What is 61+21?", ["82"])], 2)
    assert isinstance(result, Sampled)
    encode = says_yes.folder.tokenizer.encode
    (yes,), (no,) = encode("Yes"), encode("No")
    place = next(i for i, token in enumerate(script.tokens) if token in (yes, no))
    share = share_by_hand(one, script.drawn[0], place)
    assert [j.scores for j in result.judgments] == [pytest.approx((share,), rel=1e-4)] * 2


class Cut(Says):
    """Ends after the first token, by the length limit."""

    def __call__(self, requests: Iterable[Request]) -> Iterator[Completion]:
        del self.tokens[1:]
        return (replace(said, finished=False) for said in super().__call__(requests))


def test_one_token_is_enough(says_yes: Judge) -> None:
    one = Judge(says_yes.folder, slots=4)
    one.sampler = script = Cut(one, "Yes")  # type: ignore[assignment]
    (result,) = one.sample_all([Example("What is 61+21?", ["82"])], 1)
    assert isinstance(result, Sampled)
    share = share_by_hand(one, script.drawn[0], 0)
    assert result.judgments[0].scores == pytest.approx((share,), rel=1e-4)


def test_a_tokenizer_without_the_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no token for Yes, or none for No"):
        Judge.load("tiny", templates="nemotron")
    own = "{conversation}\n{responses}\n=== answer ===\n[[{letter}]]"
    (tmp_path / "judge.txt").write_text(own)
    with pytest.raises(ValueError, match="has a format of its own for the answer"):
        Judge.load("tiny", templates=str(tmp_path), kind="token-prob")
