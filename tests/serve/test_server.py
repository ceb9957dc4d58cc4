"""A real server and a real client: what is answered is what `Judge` says, in a crowd as alone."""

import asyncio
import json
import random
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from grm_jax import Example, Judge
from grm_jax.client import AsyncClient, Client
from grm_jax.data.sources import load_examples
from grm_jax.judging.judgment import Refusal, Verdict
from grm_jax.judging.principles import GivenPrinciples
from grm_jax.presets import bundled
from grm_jax.sampling import programs
from grm_jax.serve.config import Limits
from tests.faults.traffic import requests, send, send_raw
from tests.faults.traffic_requests import Known
from tests.serve.live import Live, get, live, post, stream, until

ROWS = list(load_examples(str(bundled("tiny").parent / "examples.jsonl")))
SINGLE = replace(ROWS[0], responses=ROWS[0].responses[:1], label=None, scores=None)
SUM = Example("What is 16+50?", ["76", "66", "67"])
REPLY = Example("What is 16+50?", ["66"])
COHORT = Example("What is 16+50?", ["66", "76"])
# A reference that nobody is shown still names the random streams.
HIDDEN = replace(ROWS[0], id="", reference="66")
LIMITS = Limits(body=20_000, responses=4, k=16, prompt=300, queue=64)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load("tiny", slots=8)


@pytest.fixture(scope="module")
def server(judge: Judge):
    with live(judge, limits=LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Live):
    with Client(server.url) as asking:
        yield asking


@pytest.fixture(scope="module")
def expected(judge: Judge) -> dict[str, Verdict]:
    """What the same engine says of them without a server."""
    return judged(judge, [*ROWS[:3], SINGLE, HIDDEN, SUM, REPLY, COHORT])


def judged(judge: Judge, examples: list[Example], k: int = 2) -> dict[str, Verdict]:
    """Verdicts by the digests of their examples."""
    named = [replace(example, id=example.digest) for example in examples]
    found = {result.id: result for result in judge.judge_all(named, k)}
    assert all(isinstance(result, Verdict) for result in found.values())
    return {row.digest: replace(found[row.digest], id=row.id) for row in examples}  # type: ignore


def ask(server: Live, path: str, body: dict) -> dict:
    answer = post(server.url + path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counted(server: Live, name: str) -> int:
    """A counter of /metrics."""
    lines = get(f"{server.url}/metrics").text.splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{name} "))
    return int(float(value))


def chatml(prompt: str) -> str:
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


def compiled() -> list[int]:
    jitted = programs.advance(platform="cpu"), programs.extend(platform="cpu"), programs.STORE
    return [program._cache_size() for program in (*jitted, programs.COPY)]


def test_a_verdict_is_that_of_the_judge_bit_by_bit(judge, expected, client) -> None:
    """Of one, two and three responses; text, log-probabilities and all."""
    for example in (ROWS[0], ROWS[1], SINGLE, HIDDEN):
        assert client(example) == expected[example.digest]
    other = Judge(
        judge.folder, seed=7, slots=8, strategy=replace(judge.sampler.strategy, temperature=1.0)
    )
    found = client(ROWS[0], k=3, seed=7, temperature=1.0)
    assert {ROWS[0].digest: found} == judged(other, ROWS[:1], 3)


def test_a_crowd_gets_what_each_gets_alone(judge, expected, server) -> None:
    """Some with another seed, which the engine draws by itself; and nothing is compiled for it."""
    before = compiled()
    rows = [replace(ROWS[i % 3], id=str(i)) for i in range(12)]
    odd = Judge(judge.folder, seed=1, slots=8)

    async def crowd() -> list:
        async with AsyncClient(server.url) as client:
            return await asyncio.gather(*(client(row, seed=int(row.id) % 2) for row in rows))

    found = asyncio.run(crowd())
    assert compiled() == before, "the warm-up was enough"
    alone = [expected, judged(odd, ROWS[:3])]
    for row, one in zip(rows, found, strict=True):
        assert one == replace(alone[int(row.id) % 2][row.digest], id=row.id)


def test_a_stream_brings_every_vote_and_then_the_verdict(expected, client) -> None:
    *votes, last = client.stream(ROWS[0])
    assert last == expected[ROWS[0].digest]
    assert sorted(votes, key=lambda vote: vote.sample) == list(last.judgments)

    async def streamed() -> list:
        async with AsyncClient(client.config.url) as asking:
            return [event async for event in asking.stream(ROWS[0])]

    assert asyncio.run(streamed())[-1] == last
    with pytest.raises(ValueError, match="give 1 to 16"):
        next(client.stream(ROWS[0], k=17))


def test_judge_all_yields_refusals_with_their_reasons(expected, client) -> None:
    bad = Example("x " * 4000, ["a"], "long")
    found = {result.id: result for result in client.judge_all([*ROWS[:2], bad])}
    assert isinstance(found["long"], Refusal)
    assert "tokens" in found["long"].error
    assert found[ROWS[0].id] == expected[ROWS[0].digest]


def test_trainers_get_the_mean_score(expected, server) -> None:
    """OpenRLHF's, slime's and verl's forms, whose turn tokens the judge never sees."""
    means = expected[REPLY.digest].mean_scores
    query = {"query": [f"{chatml('What is 16+50?')}66<|im_end|>\n"], "labels": ["66"]}
    found = ask(server, "/get_reward", query | {"prompts": [chatml("What is 16+50?")]})
    assert found["rewards"] == list(means)
    assert found["scores"] == [(means[0] - 1) / 9]
    assert found["extra_logs"]["cohort"] == [1.0]
    slime = {"prompt": "What is 16+50?", "response": "66<|im_end|>"}
    assert ask(server, "/slime", slime) == means[0]
    classified = ask(server, "/classify", {"model": "tiny", "input": query["query"][0]})
    assert classified["data"][-1]["probs"] == list(means)


def test_groups_are_judged_together(expected, server) -> None:
    """vLLM's /score and /rerank, NeMo Gym's /compare, and the critiques as a chat's choices."""
    row, known = SUM, expected[SUM.digest]
    means = list(known.mean_scores)
    scored = ask(server, "/v1/score", {"text_1": "What is 16+50?", "text_2": list(row.responses)})
    assert [entry["score"] for entry in scored["data"]] == means
    ranked = ask(
        server, "/rerank", {"query": "What is 16+50?", "documents": list(row.responses), "top_n": 2}
    )
    assert [entry["index"] for entry in ranked["results"]] == list(known.ranking[:2])
    history = [{"role": "user", "content": "What is 16+50?"}]
    said = [
        {"output": [{"type": "message", "content": [{"text": text}]}]} for text in row.responses
    ]
    compared = ask(server, "/compare", {"conversation_history": history, "response_objs": said})
    assert compared["rewards"] == means
    assert len(compared["comparison_results"]) == 3 * known.counted
    turns = [{"role": f"response_{i}", "content": text} for i, text in enumerate(row.responses, 1)]
    chat = ask(server, "/v1/chat/completions", {"messages": history + turns, "n": 2})
    assert [choice["message"]["content"] for choice in chat["choices"]] == [
        judgment.text for judgment in known.judgments
    ]


def test_adaptive_verdicts_are_those_of_the_judge(judge, server, client) -> None:
    """Beside others that are not, and round after round as often as it takes."""
    rows = [Example(row.prompt, row.responses) for row in (*ROWS[:2], SUM)]
    known = {v.id: v for v in judge.judge_all(rows, 8, adaptive=True) if isinstance(v, Verdict)}
    assert min(verdict.k for verdict in known.values()) < 8

    def asked(row: Example) -> dict:
        turns = [{"role": turn.role, "content": turn.content} for turn in row.prompt]
        body = {"prompt": turns, "responses": list(row.responses), "k": 8}
        return ask(server, "/v1/judge", body | {"adaptive": True})

    saved = counted(server, "grm_votes_saved_total")
    with ThreadPoolExecutor(4) as pool:
        full = pool.submit(client, SUM, 8)
        found = list(pool.map(asked, rows))
    assert full.result().k == 8
    saved = counted(server, "grm_votes_saved_total") - saved
    assert saved == sum(8 - verdict.k for verdict in known.values())
    for row, verdict in zip(rows, found, strict=True):
        same = known[row.id]
        assert (verdict["scores"], verdict["k"]) == (list(same.scores), same.k)
        assert verdict["best"] == same.best


def test_a_text_is_continued(judge, server) -> None:
    """By the model's own tokens; what looks like a control token is text."""
    body = {"prompt": "Specific Criteria: ", "max_tokens": 5, "n": 3, "temperature": 0.0}
    found = ask(server, "/v1/completions", body)
    texts = [choice["text"] for choice in found["choices"]]
    assert len(texts) == 3
    assert len(set(texts)) == 1
    assert found["usage"]["completion_tokens"] <= 15
    assert found["object"] == "text_completion"
    drawn = ask(server, "/v1/completions", body | {"temperature": 1.0, "seed": 3})
    assert (
        drawn["choices"]
        == ask(server, "/v1/completions", body | {"temperature": 1.0, "seed": 3})["choices"]
    )
    plain = ask(server, "/v1/completions", {"prompt": "<eos><end_of_turn>", "max_tokens": 1})
    tokens = 1 + len(judge.folder.tokenizer.encode("<eos><end_of_turn>"))
    assert plain["usage"]["prompt_tokens"] == tokens > 10


def test_principles_are_written_once_for_all_who_ask(judge, tmp_path) -> None:
    folder = tmp_path / "principles"
    with live(judge, limits=LIMITS, principles=str(folder)) as server:

        def asked(response: str) -> dict:
            body = {"prompt": "What is 16+50?", "responses": [response, "67"]}
            return ask(server, "/v1/judge", body)

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(asked, ["66", "76", "65", "16"]))
        own = {"prompt": "What is 16+50?", "responses": ["66", "67"], "principles": "brevity (8)"}
        own = ask(server, "/v1/judge", own)
        took = counted(server, "grm_principles_written_tokens_total")
        saved = counted(server, "grm_principles_saved_tokens_total")
        drawn = counted(server, "grm_tokens_total")
    (file,) = folder.iterdir()
    kept = json.loads(file.read_text())
    written = kept["principles"]
    assert took == kept["tokens"]
    judgments = [judgment for one in (*found, own) for judgment in one["judgments"]]
    assert drawn == took + sum(judgment["tokens"] for judgment in judgments)
    assert saved == sum(
        len(judge.opening(Example("q", ["a"], principles=judgment["principles"])))
        for judgment in judgments
    )
    assert {j["principles"] for one in found for j in one["judgments"]} == {written}
    assert {j["principles"] for j in own["judgments"]} == {"brevity (8)"}
    given = GivenPrinciples(tmp_path / "other", judge).give([Example("What is 16+50?", ["66"])])
    assert given[0].principles == written


@pytest.mark.slow
def test_every_form_has_a_place_for_principles_and_a_reference(expected, tmp_path) -> None:
    """Those that are trainers' own as well, whose rows may each have their own."""
    # Before the conversation the reference misleads the model, so that scores tell if it was shown.
    (tmp_path / "grm.txt").write_text(
        "{reference}\n{conversation}\n{responses}\n=== turn ===\n{content}\n"
        "=== response ===\n[{i}] {response}\n=== reference ===\n{reference}"
    )
    judge = Judge.load("tiny", templates=str(tmp_path), reference=True, slots=8)
    query, shown = "What is 16+50?", {"principles": "accuracy (9)", "reference": "66"}
    group, one = Example(query, ["66", "76"], **shown), Example(query, ["66"], **shown)
    other = Example(query, ["76"], principles="brevity (9)")
    known = judged(judge, [group, one, other])
    means, single = list(known[group.digest].mean_scores), known[one.digest].mean_scores[0]
    rows = [single, known[other.digest].mean_scores[0]]
    each = {"principles": ["accuracy (9)", "brevity (9)"], "reference": ["66", None]}
    history, prompt = [{"role": "user", "content": query}], chatml(query)
    said = [{"output": [{"content": text}]} for text in group.responses]
    turns = [{"role": f"response_{i}", "content": text} for i, text in enumerate(group.responses)]
    reward = {"query": [f"{prompt}66", f"{prompt}76"], "prompts": [prompt] * 2}
    pairs = {"queries": [query] * 2, "documents": ["66", "76"]}
    documents = {"query": query, "documents": list(group.responses)}
    compare = {"conversation_history": history, "response_objs": said}
    with live(judge, limits=LIMITS) as server:
        for body in (each, {**each, "reference": True, "labels": ["66", 5]}):
            assert ask(server, "/get_reward", reward | body)["rewards"] == rows
        slime = {"prompt": query, "response": "66", "label": "66", "principles": "accuracy (9)"}
        assert ask(server, "/slime", slime | {"reference": True}) == single
        assert ask(server, "/slime", slime | {"reference": "66", "label": "no"}) == single
        found = ask(server, "/classify", {"input": reward["query"]} | each)
        assert [entry["probs"][0] for entry in found["data"]] == rows
        found = ask(server, "/score", pairs | each)
        assert [entry["score"] for entry in found["data"]] == rows
        found = ask(server, "/score", {"queries": query, "documents": ["66", "76"]} | shown)
        assert [entry["score"] for entry in found["data"]] == means
        found = ask(server, "/rerank", documents | shown)["results"]
        assert {entry["index"]: entry["relevance_score"] for entry in found} == dict(
            enumerate(means)
        )
        assert ask(server, "/compare", compare | shown)["rewards"] == means
        theirs = {"principle": "accuracy (9)", "reference": "66"}
        assert ask(server, "/compare", compare | theirs)["rewards"] == means
        chat = {"messages": history + turns, "n": 2}
        assert ask(server, "/v1/chat/completions", chat | shown)["mean_scores"] == means
        saved = counted(server, "grm_principles_saved_tokens_total")
    # In two judgments each: of 11 examples these principles, of 4 the others.
    assert saved == 2 * (11 * len(judge.opening(group)) + 4 * len(judge.opening(other)))
    assert single != expected[REPLY.digest].mean_scores[0], "it is seen if no reference is shown"


@pytest.mark.slow
def test_traffic_of_all_kinds(judge, server) -> None:
    """A share of `python -m tests.faults.traffic`, which sends ten thousand to a process."""
    known = Known(judge, [ROWS[0], ROWS[1], SUM])
    asked = islice(requests(0, known), 80)
    sent, wrong = asyncio.run(send(server.url, asked, 4))
    assert wrong == []
    assert len(sent) > 30
    assert asyncio.run(send_raw(server.url, random.Random(0), 20)) == []
    until(lambda: server.loop.unfinished == 0)


def test_a_cohort_of_single_callers_is_one_example(judge, expected) -> None:
    """Whoever comes first; nobody waits once it is full."""
    means = expected[COHORT.digest].mean_scores
    with live(judge, cohort=2, cohort_wait="10m") as server:

        def reward(response: str) -> dict:
            query = chatml("What is 16+50?")
            return ask(server, "/get_reward", {"query": [query + response], "prompts": [query]})

        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(reward, ["76", "66"]))
    assert [one["rewards"] for one in found] == [[means[1]], [means[0]]]
    assert [one["extra_logs"]["cohort"] for one in found] == [[2.0], [2.0]]


GOOD = {"prompt": "q", "responses": ["a", "b"]}
TURNS = [{"role": "user", "content": "q"}]


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/judge", b"{bad", 400, "not JSON"),
        ("/v1/judge", b"[" * 10_000, 400, "body"),
        ("/v1/judge", b"\xff\xfe", 400, "body"),
        ("/v1/judge", b"[1]", 422, "JSON object"),
        ("/v1/judge", b"a" * 20_001, 413, "larger than 20000 bytes"),
        ("/v1/judge", {"prompt": "q"}, 422, "responses is missing"),
        ("/v1/judge", GOOD | {"kk": 1}, 422, "no field kk"),
        ("/v1/judge", GOOD | {"k": 17}, 422, "k is 17; give 1 to 16"),
        ("/v1/judge", GOOD | {"k": 0}, 422, "k is 0"),
        ("/v1/judge", GOOD | {"seed": -1}, 422, "seed"),
        ("/v1/judge", GOOD | {"responses": ["a"] * 5}, 422, "takes 4"),
        ("/v1/judge", GOOD | {"prompt": [{"role": "tool", "content": "x"}]}, 422, "role 'tool'"),
        ("/v1/judge", GOOD | {"prompt": "long " * 115}, 422, "this server takes 300"),
        ("/v1/judge", GOOD | {"model": "/etc/passwd"}, 404, "no model 'passwd'"),
        ("/v1/judge", GOOD | {"principles": 5}, 422, "principles"),
        ("/v1/judge", GOOD | {"adaptive": 0.3}, 422, "adaptive is 0.3"),
        ("/v1/judge", GOOD | {"reference": "r"}, 422, "no field {reference}"),
        ("/v1/completions", {"prompt": ""}, 422, "prompt"),
        ("/v1/completions", {"prompt": ["a"]}, 422, "prompt"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 81}, 422, "draws up to 80"),
        ("/v1/completions", {"prompt": "a", "n": 17}, 422, "n is 17; give 1 to 16"),
        ("/v1/completions", {"prompt": "a", "stop": "b"}, 422, "stop is not supported"),
        ("/v1/completions", {"prompt": "a " * 300}, 422, "this server takes 300"),
        ("/get_reward", {"query": ["a"], "prompts": []}, 422, "one entry for each"),
        ("/get_reward", {"query": ["a"], "prompts": ["b"]}, 422, "does not begin with its prompt"),
        ("/classify", {"input": "no turns"}, 422, "no last turn"),
        ("/score", {"queries": ["a", "b"], "documents": ["c"]}, 422, "2 queries and 1"),
        ("/rerank", {"query": "a", "documents": []}, 422, "at least one response"),
        ("/get_reward", {"query": ["a"], "prompts": ["a"], "principles": []}, 422, "0 entries"),
        ("/compare", {"conversation_history": [], "response_objs": [{}]}, 422, "output"),
        ("/v1/chat/completions", {"messages": TURNS}, 422, "nothing to judge"),
        ("/nowhere", {}, 404, "Not Found"),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_why(server, path, body, status, says) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    answer = post(server.url + path, content=data, headers=headers)
    message = answer.json()["error"]["message"]
    assert (answer.status_code, says in message) == (status, True), answer.text
    assert message.endswith((".", "?"))
    assert " /" not in message, "nothing of where things are"


def test_other_sites_and_other_names_are_kept_out(server) -> None:
    """A page elsewhere, and a name elsewhere that leads here."""
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert get(f"{server.url}/v1/models", headers=headers).status_code == 403
    own = get(f"{server.url}/v1/models", headers={"Origin": server.url})
    assert own.json()["data"][0]["id"] == "tiny"


def test_a_token_is_needed_where_there_is_one(judge) -> None:
    with live(judge, token="s3cret", paused=True) as server:
        assert get(f"{server.url}/health").status_code == 200
        for given in (None, "Bearer wrong", "Basic s3cret", "s3cret"):
            headers = {} if given is None else {"Authorization": given}
            answer = post(f"{server.url}/v1/judge", json=GOOD, headers=headers)
            assert answer.status_code == 401
            assert "token" in answer.json()["error"]["message"]
        sent = {"Authorization": "Bearer s3cret"}
        assert get(f"{server.url}/metrics", headers=sent).status_code == 200


def test_a_full_queue_says_when_to_come_again_and_who_leaves_makes_room(judge) -> None:
    body = json.dumps(GOOD).encode()
    head = f"POST /v1/judge HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with live(judge, paused=True, limits=Limits(queue=1)) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            until(lambda: server.loop.unfinished == 1)
            answer = post(f"{server.url}/v1/judge", json=GOOD)
            assert answer.status_code == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert "try again" in answer.json()["error"]["message"]
        until(lambda: server.loop.unfinished == 0)


def test_who_leaves_a_stream_gives_it_up(judge) -> None:
    with live(judge, paused=True) as server:
        with stream("POST", f"{server.url}/v1/judge", json=GOOD | {"stream": True}) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: start"
            assert server.loop.unfinished == 1
        until(lambda: server.loop.unfinished == 0)


def test_a_server_that_is_told_to_end_answers_what_it_has(judge, expected) -> None:
    with live(judge, paused=True) as server, ThreadPoolExecutor(3) as pool:
        asked = [
            pool.submit(
                ask,
                server,
                "/v1/judge",
                {"prompt": r.prompt[0].content, "responses": list(r.responses)},
            )
            for r in ROWS[:3]
        ]
        until(lambda: server.loop.unfinished == 3)
        server.server.handle_exit(signal.SIGTERM, None)
        assert server.service.draining
        server.resume()
        for row, answer in zip(ROWS, asked, strict=False):
            assert answer.result()["scores"] == list(expected[row.digest].scores)
        server.thread.join()
        with pytest.raises(httpx.ConnectError):
            get(server.url)


def test_it_counts_what_it_does(server) -> None:
    ask(server, "/v1/judge", {"prompt": "What is 2 + 2?", "responses": ["4", "5"], "k": 1})
    text = get(f"{server.url}/metrics").text
    assert 'grm_requests_total{path="/v1/judge",status="200"}' in text
    assert 'grm_judgments_total{outcome="read"}' in text
    assert "grm_unfinished 0.0" in text
    assert get(f"{server.url}/ready").json() == {"status": "ready"}
    assert "/v1/judge" in get(f"{server.url}/openapi.json").json()["paths"]


def test_the_page_loads_nothing_from_elsewhere(server) -> None:
    for path in ("/", "/page.js", "/page.css"):
        answer = get(server.url + path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for loads in ("http://", "https://", "innerHTML", "insertAdjacentHTML", "document.write"):
            assert loads not in answer.text
