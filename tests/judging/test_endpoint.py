"""Judging through a server: against a real one, which answers as OpenAI's does."""

import json
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grm_jax import Example
from grm_jax.cli import main
from grm_jax.judging.endpoint import EndpointConfig, EndpointJudge
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.randomness import item_key, response_order

pytest.importorskip("openai")

Reply = tuple[int, dict[str, str], Any]


def completion(text: str | None, finish: str = "stop", **changes: Any) -> Reply:
    """A chat completion that used 100 tokens of prompt and 10 of its own."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
    return 200, {}, body | changes


def error(status: int, message: str = "no", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, {"error": {"message": message, "type": "t", "param": None, "code": None}}


def by_worth(body: dict[str, Any]) -> Reply:
    """Scores each response by the number that it says it is worth, in the order shown."""
    worth = re.findall(r"^worth (\d+)", body["messages"][0]["content"], re.M)
    return completion(f"Specific Criteria: w\nAnalysis: a\nScores: \\boxed{{{', '.join(worth)}}}")


def by_choice(body: dict[str, Any]) -> Reply:
    """Chooses the response that says it is worth most."""
    worth = [int(w) for w in re.findall(r"^worth (\d+)", body["messages"][0]["content"], re.M)]
    choice = worth.index(max(worth)) + 1
    return completion(f"Specific Criteria: w\nAnalysis: a\nChoice: \\boxed{{{choice}}}")


def by_odds(body: dict[str, Any], before: str = "") -> Reply:
    """The same with the log-probabilities of its tokens: a number's odds are what it is worth."""
    worth = [int(w) for w in re.findall(r"^worth (\d+)", body["messages"][0]["content"], re.M)]
    number = f"{before}{worth.index(max(worth)) + 1}"
    pieces = [
        "Analysis: \\boxed{1}? ",
        "\u00e9",
        "\nChoice: \\boxed",
        "{",
        number,
        "}",
    ]
    if before == "{":
        del pieces[3]

    def entry(piece: str) -> dict[str, Any]:
        told = {piece: -0.1, "x": -3.0}
        if piece == number:
            told = {f"{before}{i}": math.log(w / 100) for i, w in enumerate(worth, 1) if w} | told
            told[piece] = math.log(max(worth) / 100)
        top = [{"token": t, "logprob": x, "bytes": list(t.encode())} for t, x in told.items()]
        return top[list(told).index(piece)] | {"top_logprobs": top}

    status, headers, said = completion("".join(pieces))
    said["choices"][0]["logprobs"] = {"content": [entry(piece) for piece in pieces]}
    return status, headers, said


class Server(ThreadingHTTPServer):
    """Records what is asked, and answers with `reply`; None drops the connection."""

    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply: Callable[[dict[str, Any]], Reply | None] = by_worth
        self.lock = threading.Lock()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.busy = self.busiest = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        with server.lock:
            server.asked.append(body)
            server.keys.append(self.headers["Authorization"])
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
        reply = server.reply(body)
        with server.lock:
            server.busy -= 1
        if reply is None:
            return
        status, headers, said = reply
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def judge(server: Server, **settings: Any) -> EndpointJudge:
    names = {"seed", "training", "hinted", "reference", "kind"} & set(settings)
    own = {name: settings.pop(name) for name in names}
    return EndpointJudge(EndpointConfig(server.url, "m", **settings), **own)


def sampled(judge: EndpointJudge, *examples: Example, k: int = 1) -> dict[str, Any]:
    results = list(judge.sample_all(examples, k))
    found = {r.id if isinstance(r, Refusal) else r.example.id: r for r in results}
    assert len(found) == len(results) == len(examples)
    return found


QUESTION = Example("q", ["worth 3", "worth 9", "worth 5"], id="a", label=1)
OTHER = Example("another", ["worth 2", "worth 1"], id="b")


def test_scores_go_back_to_the_responses_they_belong_to(server: Server) -> None:
    found = sampled(judge(server, seed=7, concurrency=3), QUESTION, OTHER, k=6)
    result = found["a"]
    assert isinstance(result, Sampled)
    assert result.example is QUESTION
    assert [j.sample for j in result.judgments] == list(range(6))
    assert [j.scores for j in result.judgments] == [(3, 9, 5)] * 6
    assert [j.scores for j in found["b"].judgments] == [(2, 1)] * 6
    orders = [response_order(7, item_key(QUESTION.digest), sample, 3) for sample in range(6)]
    assert [j.order for j in result.judgments] == orders
    assert len(set(orders)) > 1
    judgment = result.judgments[0]
    assert (judgment.critique, judgment.tokens, judgment.counted) == ("a", 10, True)


def test_a_rerun_asks_the_same_and_no_two_samples_do(server: Server) -> None:
    def asked(seed: int) -> list[str]:
        server.asked.clear()
        sampled(judge(server, seed=seed), QUESTION, OTHER, k=4)
        return sorted(json.dumps(body, sort_keys=True) for body in server.asked)

    first = asked(0)
    assert len({json.loads(body)["seed"] for body in first}) == 8
    assert asked(0) == first
    assert not set(asked(1)) & set(first)


def test_settings_and_the_key_are_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled(judge(server, temperature=0.25, top_p=0.75, max_tokens=33), OTHER)
    (body,) = server.asked
    assert set(body) == {"model", "messages", "temperature", "top_p", "max_tokens", "seed"}
    assert [body[name] for name in ("model", "temperature", "top_p", "max_tokens")] == [
        "m", 0.25, 0.75, 33,
    ]  # fmt: skip
    assert [turn["role"] for turn in body["messages"]] == ["user"]
    monkeypatch.setenv("OPENAI_API_KEY", "openai's")
    monkeypatch.setenv("MINE", "mine")
    sampled(judge(server, api_key_env="MINE"), OTHER)
    sampled(judge(server, api_key_env="UNSET"), OTHER)
    assert server.keys == [None, "Bearer mine", None]


def test_fields_that_openai_does_not_have_are_sent(server: Server) -> None:
    asking = judge(server, extra_body={"repeat_penalty": 1.0})
    sampled(asking, OTHER)
    assert server.asked[0].items() >= {"repeat_penalty": 1.0, "model": "m"}.items()
    assert asking.made_by["extra_body"] == {"repeat_penalty": 1.0}
    assert "extra_body" not in judge(server).made_by  # as before there was one


def test_requests_run_side_by_side_and_no_more_than_allowed(server: Server) -> None:
    # Nobody is answered before three have asked: fewer at a time would break the barrier.
    barrier = threading.Barrier(3, timeout=60)

    def reply(body: dict[str, Any]) -> Reply:
        barrier.wait()
        return by_worth(body)

    server.reply = reply
    found = sampled(judge(server, concurrency=3, retries=0), QUESTION, k=9)
    found |= sampled(
        judge(server, concurrency=3, retries=0),
        *(Example(f"q{i}", ["worth 1", "worth 2"], id=str(i)) for i in range(9)),
    )
    assert all(isinstance(result, Sampled) for result in found.values())
    assert server.busiest == 3


def test_an_overloaded_or_broken_server_is_asked_again_when_it_says(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", waits.append)
    replies = iter([error(status, retry_after="0.01") for status in (429, 500, 503, 429, 502)])
    server.reply = lambda body: next(replies, None) or by_worth(body)
    asking = judge(server)
    result = sampled(asking, OTHER)["b"]
    assert result.judgments[0].scores == (2, 1)
    assert (asking.usage.requests, asking.usage.retries, len(server.asked)) == (1, 5, 6)
    assert waits == [0.01] * 5


def test_a_dropped_connection_is_asked_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    replies = iter([True])
    server.reply = lambda body: None if next(replies, False) else by_worth(body)
    asking = judge(server)
    assert sampled(asking, OTHER)["b"].judgments[0].scores == (2, 1)
    assert asking.usage.retries == 1


def test_a_refused_question_leaves_the_others_alone(server: Server) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        bad = "another" in body["messages"][0]["content"]
        return error(400, "the prompt is too long") if bad else by_worth(body)

    server.reply = reply
    asking = judge(server, concurrency=1)
    third = Example("third", ["worth 4", "worth 1"], id="c")
    found = sampled(asking, QUESTION, OTHER, third, k=5)
    assert found["a"].judgments[4].scores == (3, 9, 5)
    assert found["c"].judgments[4].scores == (4, 1)
    refusal = found["b"]
    assert isinstance(refusal, Refusal)
    assert refusal.error.startswith(f"{server.url} answered 400: ")
    assert "the prompt is too long" in refusal.error
    assert asking.usage.retries == 0
    assert len(server.asked) < 15, "what was not yet asked of a refused Example is not asked"


def test_retries_end(server: Server) -> None:
    server.reply = lambda body: error(503, "x" * 1000, retry_after="0.01")
    asking = judge(server, retries=2)
    refusal = sampled(asking, OTHER)["b"]
    assert "answered 503" in refusal.error
    assert len(refusal.error) < 300
    assert (asking.usage.requests, asking.usage.retries, len(server.asked)) == (1, 2, 3)


def test_a_silent_server_is_a_refusal(server: Server) -> None:
    done = threading.Event()

    def reply(body: dict[str, Any]) -> None:
        done.wait(5)

    server.reply = reply
    refusal = sampled(judge(server, retries=0, timeout=0.1), OTHER)["b"]
    done.set()
    assert refusal.error == f"{server.url} gave no answer (timed out)."


def test_no_server_is_a_refusal(server: Server) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        port = other.server_port
    config = EndpointConfig(f"http://127.0.0.1:{port}", "m", retries=0)
    (refusal,) = EndpointJudge(config).sample_all([OTHER], 1)
    assert isinstance(refusal, Refusal)
    assert "refused" in refusal.error


def test_a_judge_votes_for_the_response_it_chose_wherever_that_stood(server: Server) -> None:
    server.reply = by_choice
    found = sampled(judge(server, kind="judge"), QUESTION, OTHER, k=6)
    assert [j.scores for j in found["a"].judgments] == [(0, 1, 0)] * 6
    assert [j.scores for j in found["b"].judgments] == [(1, 0)] * 6
    assert len({j.order for j in found["a"].judgments}) > 1
    assert "Choose the best response" in server.asked[0]["messages"][0]["content"]
    assert "logprobs" not in server.asked[0]
    alone = sampled(judge(server, kind="judge"), Example("q", ["worth 1"], id="one"))["one"]
    assert "asks for the best of several responses, and there is 1" in alone.error


@pytest.mark.parametrize("before", ["", " ", "{"])
def test_token_prob_is_read_from_top_logprobs(server: Server, before: str) -> None:
    server.reply = lambda body: by_odds(body, before)
    last = Example("q", ["worth 0", "worth 4", "worth 4"], id="c")
    found = sampled(judge(server, kind="token-prob"), QUESTION, last, k=4)
    assert server.asked[0]["top_logprobs"] == 20
    for judgment in found["a"].judgments:
        assert judgment.scores == pytest.approx((3 / 17, 9 / 17, 5 / 17))
    for judgment in found["c"].judgments:  # a number that is not told of has no share
        assert judgment.scores == pytest.approx((0, 0.5, 0.5))


def test_token_prob_without_top_logprobs_is_a_refusal(server: Server) -> None:
    server.reply = by_choice
    refusal = sampled(judge(server, kind="token-prob"), OTHER)["b"]
    assert refusal.error.startswith(f"{server.url} sent no top_logprobs")
    assert "the kind judge" in refusal.error
    ten = Example("q", [f"worth {i}" for i in range(10)], id="ten")
    assert "there are 10 responses" in sampled(judge(server, kind="token-prob"), ten)["ten"].error


def test_token_prob_of_a_number_in_another_token_has_no_scores(server: Server) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        status, headers, said = by_odds(body)
        entries = said["choices"][0]["logprobs"]["content"]
        entries[-2]["token"] += "}"
        entries[-2]["bytes"] = list(entries.pop(-2)["token"].encode())
        return status, headers, said

    server.reply = reply
    (judgment,) = sampled(judge(server, kind="token-prob"), OTHER)["b"].judgments
    assert (judgment.scores, judgment.reason, judgment.counted) == (None, "no_index_token", False)


def test_the_reference_is_shown_when_asked_for_only(server: Server) -> None:
    known = Example("q", ["worth 3", "worth 9"], id="a", reference="the right one")
    for kind in ("grm", "judge"):
        server.asked.clear()
        server.reply = by_worth if kind == "grm" else by_choice
        sampled(judge(server, kind=kind), known)
        sampled(judge(server, kind=kind, reference=True), known)
        plain, shown = (body["messages"][0]["content"] for body in server.asked)
        assert "the right one" not in plain
        assert "the right one" in shown


@pytest.mark.parametrize(
    "reply",
    [
        (200, {"Content-Type": "text/html"}, b"<html>welcome</html>"),
        (200, {}, {"error": "welcome"}),
        (200, {}, b'{"choices": [{"message": {"welc'),
        completion("", choices=[]),
    ],
)
def test_what_is_no_chat_completion_is_a_refusal(server: Server, reply: Reply) -> None:
    server.reply = lambda body: reply
    assert "sent no chat completion: " in sampled(judge(server), OTHER)["b"].error


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (completion("Analysis: so long", "length"), "truncated"),
        (completion("no scores"), "no_box"),
        (completion(None), "no_box"),
        (completion(None, "length"), "truncated"),
        (completion(r"\boxed{1, 2, 3}", usage=None), "wrong_count"),
        (completion("half a character \ud83d"), "no_box"),
    ],
)
def test_an_unreadable_answer_is_a_judgment_with_a_reason(
    server: Server, reply: Reply, reason: str
) -> None:
    server.reply = lambda body: reply
    (judgment,) = sampled(judge(server), OTHER)["b"].judgments
    assert (judgment.scores, judgment.reason) == (None, reason)
    assert judgment.text.encode() is not None
    assert judgment.tokens == (10 if reply[2]["usage"] else 0)


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], Reply]:
    """The answer of `by_odds` with one of its nodes replaced, or (...) taken away."""

    def reply(body: dict[str, Any]) -> Reply:
        status, headers, said = by_odds(body)
        *way, last = [int(part) if part.lstrip("-").isdigit() else part for part in path.split(".")]
        node = said
        for part in way:
            node = node[part]
        if value is ...:
            del node[last]
        else:
            node[last] = value
        return status, headers, said

    return reply


ENTRY = "choices.0.logprobs.content"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("choices", "text", 'choices is "text"'),
        ("choices", {"0": {}}, 'choices is {"0": {}}'),
        ("choices.0", None, "choices is [null]"),
        ("choices.0.message", None, "choices[0].message is null"),
        ("choices.0.message", ..., "choices[0].message is null"),
        ("choices.0.message.content", [{"type": "text", "text": "x"}], "content is [{"),
        ("choices.0.message.content", 7, "choices[0].message.content is 7 and no text"),
        ("usage", "text", 'usage.prompt_tokens is "text"'),
        ("usage.prompt_tokens", "12", 'usage.prompt_tokens is "12"'),
        ("usage.completion_tokens", -5, "usage.completion_tokens is -5"),
        ("usage.completion_tokens", math.nan, "usage.completion_tokens is NaN"),
        ("choices.0.logprobs", "text", 'choices[0].logprobs is "text"'),
        ("choices.0.logprobs.content", {"a": 1}, "choices[0].logprobs is {"),
        (f"{ENTRY}.0", None, "a token of logprobs is null"),
        (f"{ENTRY}.0.token", 5, "a token of logprobs is 5"),
        (f"{ENTRY}.4.logprob", None, "is null"),
        (f"{ENTRY}.4.logprob", math.nan, "is NaN"),
        (f"{ENTRY}.4.logprob", 10**400, "is 1000"),
        (f"{ENTRY}.4.logprob", -(10**400), "is -1000"),
        (f"{ENTRY}.4.top_logprobs.0.logprob", math.nan, "is NaN"),
        (f"{ENTRY}.4.top_logprobs.0.logprob", math.inf, "is Infinity"),
        (f"{ENTRY}.4.top_logprobs.0", "text", "a token of logprobs is null"),
        (f"{ENTRY}.4.top_logprobs", "text", 'top_logprobs of the token "'),
        (f"{ENTRY}.0.bytes", [256], "is [256]"),
        (f"{ENTRY}.4.top_logprobs", None, "sent no top_logprobs of the number that it chose"),
        (f"{ENTRY}.4.top_logprobs", [], "sent no top_logprobs of the number that it chose"),
    ],
)
def test_an_odd_answer_is_this_rows_error_and_no_score(
    server: Server, path: str, value: Any, says: str
) -> None:
    server.reply = lambda body: (
        changed(path, value)(body) if "another" in str(body["messages"]) else by_odds(body)
    )
    found = sampled(judge(server, kind="token-prob"), OTHER, QUESTION)
    assert isinstance(found["a"], Sampled)
    refusal = found["b"]
    assert isinstance(refusal, Refusal)
    assert refusal.error.startswith(f"{server.url} sent ")
    assert says.replace("'", '"') in refusal.error.replace("'", '"')
    assert not refusal.passing, "it answered, and would answer so again"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("usage", None),
        ("usage", ...),
        ("usage.completion_tokens", 10.0),
        ("choices.0.index", ...),
        ("choices.0.finish_reason", None),
        ("id", ...),
        (f"{ENTRY}.0.top_logprobs", None),
        (f"{ENTRY}.0.bytes", None),
        (f"{ENTRY}.0.logprob", -math.inf),
        (f"{ENTRY}.4.top_logprobs.0.logprob", -math.inf),
    ],
)
def test_what_is_left_out_is_not_missed(server: Server, path: str, value: Any) -> None:
    server.reply = changed(path, value)
    (judgment,) = sampled(judge(server, kind="token-prob"), OTHER)["b"].judgments
    assert sum(judgment.scores) == pytest.approx(1)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["token", "logprob", "content", "bytes"]), inner, max_size=3
        )
    ),
    max_leaves=4,
)


def nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, as what holds it and its key there."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from nodes(tree[key])


@lru_cache
def kept(server: Server, kind: str) -> EndpointJudge:
    """A judge of a server, made once: a client reads all certificates, which takes longest."""
    return judge(server, kind=kind)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["grm", "judge", "token-prob"]))
def test_no_answer_ends_the_run_or_becomes_a_number_that_is_none(
    server: Server, data: st.DataObject, kind: str
) -> None:
    template = by_worth if kind == "grm" else by_odds
    _, _, said = template({"messages": [{"content": "worth 2\nworth 1"}]})
    for _ in range(data.draw(st.integers(1, 2))):
        places = list(nodes(said))
        holder, key = places[data.draw(st.integers(0, len(places) - 1))]
        holder[key] = data.draw(ODD)
    server.reply = lambda body: (200, {}, said)
    result = sampled(kept(server, kind), OTHER)["b"]
    if isinstance(result, Refusal):
        assert server.url in result.error
    else:
        (judgment,) = result.judgments
        assert judgment.tokens >= 0
        if judgment.scores is None:
            assert judgment.reason
        else:
            assert all(math.isfinite(score) for score in judgment.scores)


def test_headers_that_name_another_encoding_hide_no_answer(server: Server) -> None:
    wrong = {"Content-Type": "application/json; charset=utf-16"}
    server.reply = lambda body: (200, wrong, by_worth(body)[2])
    assert sampled(judge(server), OTHER)["b"].judgments[0].scores
    for status in (200, 400):
        server.reply = lambda body, status=status: (status, wrong, b"[]")
        refusal = sampled(judge(server, retries=0), OTHER)["b"]
        assert refusal.error.startswith(server.url)
        assert refusal.passing


def test_only_what_was_not_answered_is_to_be_asked_again(server: Server) -> None:
    def refusal(reply: Reply | None) -> Refusal:
        server.reply = lambda body: reply
        return sampled(judge(server, retries=0), OTHER)["b"]

    for status in (400, 401, 403, 404, 429, 500):
        assert refusal(error(status)).passing
    assert refusal(None).passing
    assert refusal((200, {}, b"<html>")).passing
    assert refusal((200, {}, {"error": {"message": "busy"}})).passing
    assert not refusal(completion("", choices="text")).passing
    ten = Example("q", [f"worth {i}" for i in range(10)], id="ten")
    assert not sampled(judge(server, kind="token-prob"), ten)["ten"].passing


def test_the_hint_is_shown_when_hinted_only(server: Server) -> None:
    sampled(judge(server), QUESTION)
    found = sampled(judge(server, hinted=True), QUESTION, OTHER)
    plain, hinted = (body["messages"][0]["content"] for body in server.asked)
    place = found["a"].judgments[0].order.index(1) + 1
    assert f"Response {place} is the best" in hinted
    assert "is the best" not in plain
    assert "a hint needs the label" in found["b"].error


def test_a_single_response_is_right_or_wrong_in_training(server: Server) -> None:
    one = Example("q", ["worth 1"], id="one", label=1)
    assert sampled(judge(server), one)["one"].judgments[0].scores == (1,)
    sampled(judge(server, training=True, hinted=True), one)
    plain, training = (body["messages"][0]["content"] for body in server.asked)
    assert "from 1 to 10" in plain
    assert "right score of this response is 1" in training
    assert "a hint for one response" in sampled(judge(server, hinted=True), one)["one"].error


def test_usage_and_cost_are_counted(server: Server) -> None:
    asking = judge(server, price_in=2.0, price_out=30.0)
    sampled(asking, QUESTION, k=3)
    assert (asking.usage.prompt_tokens, asking.usage.completion_tokens) == (300, 30)
    assert asking.usage.cost == pytest.approx((300 * 2 + 30 * 30) / 1e6)
    free = judge(server)
    sampled(free, QUESTION)
    assert free.usage.cost is None


def test_a_long_stream_is_read_as_it_is_needed(server: Server) -> None:
    read = 0

    def examples() -> Iterator[Example]:
        nonlocal read
        for i in range(200):
            read += 1
            label = None if i % 5 == 0 else 0  # a hint cannot be given: refused unasked
            yield Example(f"q{i}", ["worth 1", "worth 2"], id=str(i), label=label)

    seen, ahead = set(), 0
    for result in judge(server, concurrency=4, hinted=True).sample_all(examples(), 1):
        seen.add(result.id if isinstance(result, Refusal) else result.example.id)
        ahead = max(ahead, read - len(seen))
    assert len(seen) == 200
    assert len(server.asked) == 160
    assert 4 <= ahead <= 8, "four that are asked about, four that are finished"


def test_stopping_early_asks_no_further(server: Server) -> None:
    stream = (Example(f"q{i}", ["worth 1", "worth 2"], id=str(i)) for i in range(200))
    results = judge(server, concurrency=2, retries=0).sample_all(stream, 4)
    next(results)
    results.close()
    assert len(server.asked) < 40


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url": "localhost:8000"}, "url is 'localhost:8000'; give a base URL"),
        ({"url": "http://"}, "url is 'http://'; give a base URL"),
        ({"url": "http://here:99999"}, "url is 'http://here:99999'; give a base URL"),
        ({"url": "http://[here"}, "url is 'http://[here'; give a base URL"),
        ({"model": ""}, "model is ''; give the name"),
        ({"concurrency": 0}, "concurrency is 0; give 1 or more."),
        ({"retries": -1}, "retries is -1; give 0 (none) or more."),
        ({"timeout": 0.0}, "timeout is 0.0; give more than 0 seconds."),
        ({"max_tokens": 0}, "max_tokens is 0; give 1 or more."),
        ({"temperature": -1.0}, "temperature is -1.0; give 0 (greedy)"),
        ({"top_p": 0.0}, "top_p is 0.0; give a number above 0"),
        ({"price_in": -1.0, "price_out": 1.0}, "price_in is -1.0; give 0 or more."),
        (
            {"extra_body": {"top_p": 1.0}},
            "extra_body has 'top_p', which every request has already; give --endpoint.top_p.",
        ),
        ({"extra_body": {"n": 2}}, "extra_body has 'n', which every request has already; leave it"),
        ({"extra_body": {"top_k": math.nan}}, "extra_body is no JSON (Out of range float"),
        ({"price_in": 1.0}, "price_out is None; price_in is 1.0: give both prices, or neither."),
    ],
)
def test_bad_settings_are_sentences(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        EndpointConfig(**{"url": "http://here/v1", "model": "m"} | settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key_env": "sk-secret"},
        {"api_key_env": "hf_secretsecretsecret"},
        {"api_key_env": "AIzaSysecret"},
        {"api_key_env": "A1B2C3D4E5F6A7B8C9SECRET"},
        {"url": "https://me:secret@here/v1"},
        {"url": "https://secret@here/v1"},
        {"url": "https://me:secret@[here/v1"},
        {"url": "https://here/v1?api-key=secret"},
        {"url": "https://here/v1#secret"},
    ],
)
def test_a_secret_is_refused_before_it_is_written_and_not_shown(
    settings: dict[str, str], tmp_path, monkeypatch, capsys
) -> None:
    with pytest.raises(ValueError, match="written beside every result") as caught:
        EndpointConfig(**{"url": "http://here/v1", "model": "m"} | settings)
    assert "secret" not in str(caught.value).lower()
    monkeypatch.chdir(tmp_path)
    given = [
        f"--endpoint.{n}={v}" for n, v in ({"url": "http://h", "model": "m"} | settings).items()
    ]
    assert main(["eval", *given, "--endpoint.concurrency=0"]) == 2
    shown = capsys.readouterr()
    assert "secret" not in (shown.out + shown.err).lower()
    assert not list(tmp_path.iterdir())


def test_a_variable_in_small_letters_is_one_where_it_is_set(monkeypatch) -> None:
    monkeypatch.setenv("my_key", "k")
    assert EndpointConfig("http://here/v1", "m", api_key_env="my_key").api_key_env == "my_key"


def test_another_scheme_is_sent_as_it_stands(server: Server, monkeypatch) -> None:
    monkeypatch.setenv("MINE", "Basic bWU6c2VjcmV0")
    sampled(judge(server, api_key_env="MINE"), OTHER)
    assert server.keys == ["Basic bWU6c2VjcmV0"]


def test_a_key_that_the_server_repeats_is_not_written(server: Server, monkeypatch) -> None:
    monkeypatch.setenv("MINE", "top-secret")
    server.reply = lambda body: error(401, "Incorrect API key provided: top-secret")
    refusal = sampled(judge(server, api_key_env="MINE"), OTHER)["b"]
    assert "provided: ***" in refusal.error
    server.reply = lambda body: (200, {}, b"welcome, top-secret")
    refusal = sampled(judge(server, api_key_env="MINE"), OTHER)["b"]
    assert "secret" not in refusal.error


@pytest.mark.parametrize("key", ["two\nlines", "curly\u2019s"])
def test_a_key_that_no_header_holds_is_a_sentence(server: Server, monkeypatch, key: str) -> None:
    monkeypatch.setenv("MINE", key)
    with pytest.raises(ValueError, match="variable MINE holds more than a key") as caught:
        judge(server, api_key_env="MINE")
    assert key not in str(caught.value)


def test_k_must_be_positive(server: Server) -> None:
    with pytest.raises(ValueError, match="k is 0"):
        next(judge(server).sample_all([OTHER], 0))


def test_the_client_library_is_optional(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match=re.escape("pip install 'grm-jax[endpoint]'")):
        judge(server)
