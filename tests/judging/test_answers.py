"""Plain answers, of a model on the device and of a server."""

import re

import pytest

from grm_jax.judging.answers import Answered, EndpointAnswers, ModelAnswers, Question
from grm_jax.judging.endpoint import EndpointConfig
from grm_jax.judging.folder import load_model_folder
from grm_jax.judging.judgment import Refusal
from grm_jax.sampling.strategy import Strategy
from tests.judging.test_endpoint import completion, error, server

__all__ = ["server"]
QUESTIONS = [Question(f"id{i}", f"What is {i}+1?") for i in range(5)]


@pytest.mark.slow
def test_a_models_answers_depend_on_nothing_but_the_question():
    folder = load_model_folder("tiny-start")
    model = ModelAnswers(folder, strategy=Strategy(), seed=0, max_new_tokens=8, slots=4)
    long = Question("long", "word " * 2000)
    found = {result.id: result for result in model.answer_all([*QUESTIONS, long], 3)}
    assert {*found} == {question.id for question in (*QUESTIONS, long)}
    refused = found["long"]
    assert isinstance(refused, Refusal)
    assert "shorten the row" in refused.error
    (alone,) = model.answer_all(QUESTIONS[3:4], 3)
    assert found["id3"] == alone
    assert isinstance(alone, Answered)
    assert len(set(alone.texts)) > 1


def test_a_servers_answers_are_had_together_and_its_failures_may_pass(server):
    def reply(body):
        (number,) = re.findall(r"What is (\d)", body["messages"][0]["content"])
        return error(401, "no entry") if number == "2" else completion(f"{number} {body['seed']}")

    server.reply = reply
    source = EndpointAnswers(EndpointConfig(server.url, "m", retries=0, concurrency=2), seed=0)
    found = {result.id: result for result in source.answer_all(QUESTIONS, 3)}
    assert {*found} == {question.id for question in QUESTIONS}
    refused = found.pop("id2")
    assert isinstance(refused, Refusal)
    assert refused.passing
    assert "no entry" in refused.error
    for name, result in found.items():
        assert isinstance(result, Answered)
        assert len(set(result.texts)) == 3, "each is sampled with a seed of its own"
        assert all(text.startswith(name[-1]) for text in result.texts)


@pytest.mark.parametrize("text", [None, ""])
def test_a_server_that_says_nothing_has_answered_nothing(server, text):
    server.reply = lambda body: completion(text)
    source = EndpointAnswers(EndpointConfig(server.url, "m", retries=0), seed=0)
    assert list(source.answer_all(QUESTIONS[:1], 2)) == [Answered("id0", ("", ""))]
