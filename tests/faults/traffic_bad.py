"""Bad requests to a server, each with the statuses that are right for it; and bad HTTP."""

from __future__ import annotations

import random
from typing import Any

from tests.faults.traffic_requests import LIMITS, Asked, Known, refuses

_TURN = {"role": "user", "content": "q"}
_GOOD = {"prompt": "q", "responses": ["a", "b"]}
_REWARD = {"query": ["ab"], "prompts": ["a"]}
_CHAT = {"messages": [_TURN, {"role": "assistant", "content": "a"}]}
_COMPARE = {"conversation_history": [_TURN], "response_objs": [{"output": []}]}
_JUDGE, _CHATS, _TEXT = "/v1/judge", "/v1/chat/completions", "/v1/completions"

# A path, a body, a status, and a word of the sentence.
_BODIES: list[tuple[str, Any, int, str]] = [
    (_JUDGE, b"{bad", 400, "not JSON"),
    (_JUDGE, b"", 422, "JSON object"),
    (_JUDGE, b"[1]", 422, "JSON object"),
    (_JUDGE, b"null", 422, "JSON object"),
    (_JUDGE, b'{"prompt":' + b"[" * 5000, 400, ""),
    (_JUDGE, b"\xff\xfe{}", 400, ""),
    (_JUDGE, b'{"k": ' + b"9" * 5000 + b"}", 400, ""),
    (_JUDGE, b" " * (LIMITS.body + 1), 413, "larger than"),
    (_JUDGE, {}, 422, "prompt is missing"),
    (_JUDGE, {"prompt": "q"}, 422, "responses is missing"),
    (_JUDGE, _GOOD | {"kk": 1}, 422, "no field kk"),
    (_JUDGE, _GOOD | {"\ud83d": 1}, 422, "half a character"),
    (_JUDGE, _GOOD | {"k": LIMITS.k + 1}, 422, "give 1 to"),
    (_JUDGE, _GOOD | {"k": 0}, 422, "k is 0"),
    (_JUDGE, _GOOD | {"k": "2"}, 422, "k: "),
    (_JUDGE, _GOOD | {"k": 10**30}, 422, "k"),
    (_JUDGE, _GOOD | {"seed": -1}, 422, "seed"),
    (_JUDGE, _GOOD | {"seed": 2**32}, 422, "seed"),
    (_JUDGE, _GOOD | {"temperature": float("nan")}, 422, "temperature"),
    (_JUDGE, _GOOD | {"temperature": -0.1}, 422, "temperature"),
    (_JUDGE, _GOOD | {"adaptive": 0.3}, 422, "adaptive is 0.3"),
    (_JUDGE, _GOOD | {"responses": []}, 422, "responses"),
    (_JUDGE, _GOOD | {"responses": "a"}, 422, "responses"),
    (_JUDGE, _GOOD | {"responses": ["a"] * 5}, 422, "takes 4"),
    (_JUDGE, _GOOD | {"responses": [1]}, 422, "responses"),
    (_JUDGE, _GOOD | {"prompt": ""}, 422, "empty"),
    (_JUDGE, _GOOD | {"prompt": []}, 422, "no turns"),
    (_JUDGE, _GOOD | {"prompt": 5}, 422, "prompt"),
    (_JUDGE, _GOOD | {"prompt": [{"role": "tool", "content": "x"}]}, 422, "role"),
    (_JUDGE, _GOOD | {"prompt": "word " * 400}, 422, "tokens"),
    (_JUDGE, _GOOD | {"responses": ["word " * 400]}, 422, "tokens"),
    (_JUDGE, _GOOD | {"reference": "r"}, 422, "{reference}"),
    (_JUDGE, _GOOD | {"principles": 5}, 422, "principles"),
    (_JUDGE, _GOOD | {"model": "../../etc/passwd"}, 404, "no model"),
    ("/get_reward", {"query": ["a"], "prompts": []}, 422, "one entry for each"),
    ("/get_reward", {"query": [], "prompts": []}, 422, "0 rows"),
    ("/get_reward", {"query": ["a"], "prompts": ["b"]}, 422, "begin with its prompt"),
    ("/get_reward", _REWARD | {"labels": ["x"], "reference": True}, 422, "{reference}"),
    ("/get_reward", _REWARD | {"principles": ["x", "y"]}, 422, "principles has 2 entries"),
    ("/slime", {"prompt": "q"}, 422, "response is missing"),
    ("/slime", {"prompt": [], "response": "a"}, 422, "no turns"),
    ("/classify", {"input": "no turns"}, 422, "no last turn"),
    ("/classify", {"input": "x", "messages": []}, 422, "either input or messages"),
    ("/classify", {"model": "other", "input": "x"}, 404, "no model"),
    ("/classify", {"messages": [_TURN]}, 422, "assistant's"),
    ("/score", {"queries": ["a", "b"], "documents": ["c"]}, 422, "2 queries and 1"),
    ("/rerank", {"query": "q", "documents": []}, 422, "at least one response"),
    ("/rerank", {"query": "q", "documents": ["a"] * 99}, 422, "takes 4"),
    ("/compare", {"conversation_history": [], "response_objs": [{}]}, 422, "output"),
    ("/compare", _COMPARE | {"response_objs": [{"output": [{"content": 5}]}]}, 422, "content"),
    ("/compare", _COMPARE | {"principle": "a", "principles": "b"}, 422, "only one of"),
    (_CHATS, {"messages": [_TURN]}, 422, "nothing to judge"),
    (_CHATS, {"messages": []}, 422, "nothing to judge"),
    (_CHATS, _CHAT | {"stream": True}, 422, "stream is not supported"),
    (_CHATS, _CHAT | {"tools": [{}]}, 422, "tools is not supported"),
    (_CHATS, _CHAT | {"top_p": 0}, 422, "top_p"),
    (_CHATS, _CHAT | {"reference": "r"}, 422, "{reference}"),
    (_TEXT, {"prompt": ""}, 422, "prompt"),
    (_TEXT, {"prompt": "a", "max_tokens": 10**6}, 422, "draws up to"),
    (_TEXT, {"prompt": "a", "stop": ["b"]}, 422, "stop is not supported"),
    (_TEXT, {"prompt": "a " * 400}, 422, "tokens"),
    ("/nowhere", {}, 404, "Not Found"),
    ("/health", {}, 405, "Not Allowed"),
]

_HEADERS: list[tuple[dict[str, str], int]] = [
    ({"Host": "evil.example"}, 403),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "http://["}, 403),
    ({"Origin": "null"}, 403),
    ({"Content-Type": "text/plain"}, 422),
    ({"Content-Type": ""}, 422),
]


def bad(rng: random.Random, known: Known) -> Asked:
    """One of those that have no answer."""
    if rng.random() < 0.1:
        headers, status = rng.choice(_HEADERS)
        return Asked(f"bad {headers}", _JUDGE, _GOOD, refuses(status), headers)
    path, body, status, word = rng.choice(_BODIES)
    return Asked(f"bad {path} {word}", path, body, refuses(status, says=word))


_HEAD = b"POST /v1/judge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
# What is no request, or half of one, after which the caller goes away.
RAW = (
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
    b"\r\n" * 100,
    _HEAD + b"Content-Length: -5\r\n\r\n",
    _HEAD + b"Content-Length: many\r\n\r\n",
    _HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    _HEAD + b"Content-Length: 10\r\nContent-Length: 20\r\n\r\n{}",
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    _HEAD + b"Content-Length: 50\r\n\r\n{",
    _HEAD + b'Content-Length: 33\r\n\r\n{"prompt":"q","responses":["a"]} ',
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /%ff%00?%ff=%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: \xff\xfe\r\nOrigin: \xff\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
)
