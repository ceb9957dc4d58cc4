"""The client: what is tried again, and what is not."""

import asyncio
import json

import httpx
import pytest

from grm_jax import Example
from grm_jax.client import AsyncClient, Client, ClientConfig
from grm_jax.judging.judgment import Judgment, Refusal, Verdict
from grm_jax.serve.wire import verdict_from_json, verdict_to_json

ROW = Example("q", ["a", "b"], "mine")
JUDGMENT = Judgment(0, (1, 0), "p", "c", (3.0, 9.0), None, "text", 7, -0.1 / 3, 0.25, True)
UNREAD = Judgment(1, (0, 1), "", "", None, "no_box", "hm", 2, -1.5, None, False)
VERDICT = Verdict("mine", (3, 9), 1, (1, 0), (1,), 6.0, 1, 2, (JUDGMENT, UNREAD), {0: "empty"})


def error(status: int, message: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message}}, headers=headers)


@pytest.fixture
def scripted(monkeypatch):
    """Clients whose server answers with these, one after another; and what it was asked."""
    asked: list[dict] = []
    answers: list[httpx.Response | Exception] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        now = answers.pop(0)
        if isinstance(now, Exception):
            raise now
        return now

    def http(self):
        return {"base_url": self.url, "transport": httpx.MockTransport(answer)}

    monkeypatch.setattr(ClientConfig, "http", http)
    monkeypatch.setattr(ClientConfig, "pause", lambda *_: 0.0)
    return asked, answers


def test_a_verdict_goes_through_json_and_comes_back_whole() -> None:
    assert verdict_from_json(json.loads(json.dumps(verdict_to_json(VERDICT)))) == VERDICT


def test_what_may_be_gone_at_the_next_try_is_tried_again(scripted) -> None:
    asked, answers = scripted

    def trouble() -> list:
        lost = httpx.ConnectError("refused"), httpx.RemoteProtocolError("gone")
        busy = error(429, "busy", **{"Retry-After": "1"})
        return [*lost, busy, error(503, "warm"), httpx.Response(200, json=verdict_to_json(VERDICT))]

    answers += trouble()
    with Client() as client:
        assert client(ROW, k=2, seed=5) == VERDICT
    assert len(asked) == 5
    assert asked[0] == asked[4]
    assert (asked[0]["k"], asked[0]["seed"], asked[0]["id"]) == (2, 5, "mine")
    answers += trouble()

    async def same() -> Verdict:
        async with AsyncClient() as client:
            return await client(ROW, k=2)

    assert asyncio.run(same()) == VERDICT


def test_a_refusal_is_final_and_endless_trouble_ends(scripted) -> None:
    asked, answers = scripted
    with Client(retries=1, concurrency=1) as client:
        answers.append(error(422, "the prompt is too long."))
        with pytest.raises(ValueError, match="too long"):
            client(ROW)
        assert len(asked) == 1
        answers += [error(502, "a proxy")] * 2
        with pytest.raises(ConnectionError, match="a proxy"):
            client(ROW)
        answers += [error(422, "no."), httpx.ReadTimeout("late"), httpx.ReadTimeout("late")]
        found = list(client.judge_all([ROW, ROW]))
    assert found == [Refusal("mine", "no."), Refusal("mine", found[1].error, passing=True)]
    assert "late" in found[1].error


def test_it_waits_as_long_as_the_server_says_or_ever_longer() -> None:
    config = ClientConfig(backoff=1.0)
    assert 7.0 <= config.pause(0, 7.0) <= 8.0
    assert 0.5 <= config.pause(0, None) <= 1.0
    assert 4.0 <= config.pause(3, None) <= 8.0
    assert config.pause(50, None) <= 30.0
    assert config.pause(0, 9999.0) <= 1.0
