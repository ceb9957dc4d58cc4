"""Requests to a server: good ones, whose answers are known, and odd ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from grm_jax import Example, Judge
from grm_jax.judging.judgment import Refusal, Verdict
from grm_jax.serve.config import Limits
from grm_jax.serve.wire import verdict_from_json
from tests.faults.fuzz_targets import check_sentence, places

# What the server is given, and what bad requests go beyond.
LIMITS = Limits(body=20_000, responses=4, k=16, prompt=300)
SLOTS, K, MANY = 8, 2, 8  # MANY: samples of an adaptive verdict
PRINCIPLES = "accuracy (9), brevity (1)"

Check = Callable[[httpx.Response], str]


@dataclass(frozen=True)
class Asked:
    """A request. check: what is wrong with an answer to it, in words; "" if nothing is."""

    name: str
    path: str
    body: Any  # JSON, or bytes as they are; None: a GET
    check: Check
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    @property
    def content(self) -> bytes | None:
        if self.body is None or isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body).encode()


# --- what is right ---


def refuses(*statuses: int, says: str = "") -> Check:
    """A status of these, and a sentence."""

    def check(answer: httpx.Response) -> str:
        try:
            message = answer.json()["error"]["message"]
            check_sentence(message)
            assert message.endswith((".", "?", "!")), message
            assert says in message, message
            assert " /" not in message, "where things are is nobody's business"
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            return f"{answer.status_code}, no sentence: {error!r} {answer.text[:200]}"
        right = answer.status_code in statuses
        return "" if right else f"{answer.status_code}, not {statuses}: {message}"

    return check


def survives(answer: httpx.Response) -> str:
    """An answer, or a sentence that says why there is none."""
    return "" if answer.status_code == 200 else refuses(*range(400, 500))(answer)


def tells(known: Verdict | Refusal | None, read: Callable[[Any], Any], wanted: Any) -> Check:
    """The same as without a server: what `read` finds in an answer is `wanted`; or its refusal."""
    if isinstance(known, Refusal):
        return refuses(422, says=known.error[:20])

    def check(answer: httpx.Response) -> str:
        if answer.status_code != 200:
            return f"{answer.status_code}: {answer.text[:300]}"
        found = read(answer)
        return "" if found == wanted else f"{found!r}, not {wanted!r}"

    return check


class Known:
    """What a judge says of some rows without a server."""

    def __init__(self, judge: Judge, rows: list[Example]):
        plain = [Example(row.prompt, row.responses) for row in rows]
        alone = [Example(row.prompt, [text]) for row in plain for text in row.responses]
        seeded = copy(judge)
        seeded.sampler = replace(judge.sampler, seed=1)
        self.groups = _judged(judge, plain)
        # Forms with several rows have one status for all of them.
        singles = _judged(judge, alone)
        self.singles = {row: v for row, v in singles.items() if isinstance(v, Verdict)}
        self.seeded = _judged(seeded, plain[:4])
        self.guided = _judged(judge, [replace(row, principles=PRINCIPLES) for row in plain])
        self.adaptive = _judged(judge, plain, MANY, adaptive=True)


def _judged(judge: Judge, rows: list[Example], k: int = K, **settings: Any) -> dict[Example, Any]:
    named = [replace(row, id=str(number)) for number, row in enumerate(rows)]
    found = {result.id: result for result in judge.judge_all(named, k, **settings)}
    return {row: replace(found[str(number)], id=row.digest) for number, row in enumerate(rows)}


# --- good ---


def good(rng: random.Random, known: Known) -> Asked:
    """One of those that have an answer."""
    return rng.choice(GOOD)(rng, known)


def _judge(rng: random.Random, known: Known) -> Asked:
    kind = rng.choice(["groups", "groups", "singles", "seeded", "guided", "adaptive"])
    row, verdict = rng.choice(list(getattr(known, kind).items()))
    more: dict[str, Any] = {
        "seeded": {"seed": 1}, "guided": {"principles": PRINCIPLES},
        "adaptive": {"k": MANY, "adaptive": True},
    }.get(kind, {})  # fmt: skip
    body = {"prompt": _turns(row), "responses": list(row.responses)} | more
    if rng.random() < 0.3:
        asked = body | {"stream": True}
        return Asked(f"stream {kind}", "/v1/judge", asked, _streams(verdict))
    check = tells(verdict, lambda answer: verdict_from_json(answer.json()), verdict)
    return Asked(f"judge {kind}", "/v1/judge", body, check)


def _streams(verdict: Verdict | Refusal) -> Check:
    def check(answer: httpx.Response) -> str:
        if answer.status_code != 200:
            return f"{answer.status_code}: {answer.text[:300]}"
        last = answer.text.strip().split("\n\n")[-1]
        name, _, data = last.partition("\ndata: ")
        if isinstance(verdict, Refusal):
            return "" if name == "event: error" else last[:300]
        right = name == "event: verdict" and verdict_from_json(json.loads(data)) == verdict
        return "" if right else last[:300]

    return check


def _get_reward(rng: random.Random, known: Known) -> Asked:
    rows = rng.sample(list(known.singles), rng.randint(1, 3))
    prompts = [_rendered(row) for row in rows]
    body = {
        "query": [f"{p}{r.responses[0]}<|im_end|>\n" for p, r in zip(prompts, rows, strict=True)],
        "prompts": prompts,
        "labels": [None] * len(rows),
    }
    return _means(rng, known, rows, "/get_reward", body, lambda said: said["rewards"])


def _slime(rng: random.Random, known: Known) -> Asked:
    row = rng.choice(list(known.singles))
    body = {"prompt": _turns(row), "response": row.responses[0], "label": "x", "index": 3}
    return _means(rng, known, [row], "/slime", body, lambda said: [said])


def _classify(rng: random.Random, known: Known) -> Asked:
    rows = rng.sample(list(known.singles), rng.randint(1, 2))
    body: dict[str, Any] = {"input": [f"{_rendered(row)}{row.responses[0]}" for row in rows]}
    if len(rows) == 1 and rng.random() < 0.5:
        last = {"role": "assistant", "content": rows[0].responses[0]}
        body = {"messages": [*_turns(rows[0]), last], "model": "tiny"}
    return _means(
        rng, known, rows, "/classify", body, lambda said: [d["probs"][0] for d in said["data"]]
    )


def _pairs(rng: random.Random, known: Known) -> Asked:
    rows = rng.sample(list(known.singles), rng.randint(2, 3))
    body = {
        "queries": [row.prompt[-1].content for row in rows],
        "documents": [row.responses[0] for row in rows],
    }
    return _means(
        rng, known, rows, "/score", body, lambda said: [one["score"] for one in said["data"]]
    )


def _means(
    rng: random.Random,
    known: Known,
    rows: list[Example],
    path: str,
    body: Any,
    read: Callable[[Any], Any],
) -> Asked:
    """A form whose answer is the mean score of each row."""
    verdicts = [known.singles[row] for row in rows]
    wanted = [verdict.mean_scores[0] for verdict in verdicts]
    return Asked(path, path, body, tells(verdicts[0], lambda answer: read(answer.json()), wanted))


def _documents(rng: random.Random, known: Known) -> Asked:
    row, verdict = rng.choice(list(known.groups.items()))
    query, texts = row.prompt[-1].content, list(row.responses)
    ranking = getattr(verdict, "ranking", ())
    means = getattr(verdict, "mean_scores", ())
    history = [{"role": "user", "content": query}]
    said = [{"output": [{"type": "message", "content": [{"text": text}]}]} for text in texts]
    turns = [{"role": f"response_{i}", "content": text} for i, text in enumerate(texts, 1)]
    forms: list[tuple[str, Any, Callable[[Any], Any], Any]] = [
        ("/v1/score", {"text_1": query, "text_2": texts},
         lambda said: [one["score"] for one in said["data"]], list(means)),
        ("/v2/rerank", {"query": query, "documents": texts},
         lambda said: [one["index"] for one in said["results"]], list(ranking)),
        ("/compare", {"conversation_history": history, "response_objs": said},
         lambda said: said["rewards"], list(means)),
        ("/v1/chat/completions", {"messages": history + turns, "n": K, "user": "me"},
         lambda said: said["mean_scores"], list(means) or None),
    ]  # fmt: skip
    path, body, read, wanted = rng.choice(forms)
    # Critiques that cannot be read are an answer all the same.
    told = None if path == "/v1/chat/completions" else verdict
    return Asked(path, path, body, tells(told, lambda answer: read(answer.json()), wanted))


def _get(rng: random.Random, known: Known) -> Asked:
    paths = ("/", "/page.js", "/health", "/ready", "/v1/models", "/metrics", "/openapi.json")
    path = rng.choice(paths)
    return Asked(path, path, None, survives, method="GET")


GOOD = (
    _judge, _judge, _judge, _get_reward, _get_reward, _slime, _classify, _pairs, _documents,
    _documents, _get,
)  # fmt: skip


def _turns(row: Example) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in row.prompt]


def _rendered(row: Example) -> str:
    turns = "".join(f"<|im_start|>{t.role}\n{t.content}<|im_end|>\n" for t in row.prompt)
    return f"{turns}<|im_start|>assistant\n"


# --- odd ---

ODD = (
    None, True, 0, -1, 1.5, 10**30, "", "x", "\ud83d", "\x00", "<eos>", "Scores: \\boxed{9, 9}",
    [], {}, [[]], [None], {"a": {}}, "8", 1e308, 1e-320, float("nan"), float("inf"), "ü" * 300,
)  # fmt: skip


def odd(rng: random.Random, known: Known) -> Asked:
    """A good request in which something is something else, or not there."""
    asked = good(rng, known)
    body: Any = json.loads(json.dumps(asked.body)) if asked.body else {"messages": [{}]}
    for _ in range(rng.randint(1, 3)):
        held = list(places(body))
        holder, key = rng.choice(held) if held else (body, "prompt")
        if rng.random() < 0.7 or not held:
            holder[key] = deepcopy(rng.choice(ODD))
        else:
            del holder[key]
    path = asked.path if asked.body else "/v1/chat/completions"
    return Asked(f"odd {path}", path, body, survives)
