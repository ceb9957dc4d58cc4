"""What is fuzzed: for each target the inputs, and what must hold for each of them."""

import contextlib
import dataclasses
import io
import json
import math
import re
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import yaml
from hypothesis import strategies as st

from grm_jax import cli
from grm_jax.cli.commands import OPTIONS
from grm_jax.judging.asking import read_judgment
from grm_jax.judging.endpoint import EndpointConfig, EndpointJudge
from grm_jax.judging.folder import bundled
from grm_jax.judging.judgment import Refusal
from grm_jax.judging.samples import from_json, to_json
from grm_jax.text.json_line import json_line
from grm_jax.text.messages import Example
from grm_jax.text.parse import choice_place, parse_choice, parse_judgment
from grm_jax.text.prompts import load_templates, render
from grm_jax.text.tokenizer import Tokenizer
from tests.data.arbitrary_rows import check_file, check_row, rows

Target = tuple[st.SearchStrategy[Any], Callable[[Any], None]]


def target(name: str) -> Target:
    """The inputs of a target, and the check that raises where one of them is not borne."""
    if name == "yaml":  # what the commands import is no part of the time
        for command in COMMANDS:
            names_of(command)
    return {
        "rows": (st.tuples(st.just(""), rows) | files(), check_rows),
        "parser": (judgments(), check_judgment),
        "yaml": (option_files(), check_options),
        "endpoint": (answers(), check_answer),
    }[name]


@cache
def scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A name's ending, and rows as bytes with a few of them changed."""
    suffix = draw(st.sampled_from([".jsonl", ".json", ".csv", ".tsv"]))
    lines = [json.dumps(row) for row in draw(st.lists(rows, max_size=4))]
    content = "\n".join(lines) if suffix != ".json" else f"[{', '.join(lines)}]"
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    whole = content.encode(encoding, "replace")
    at, gone = draw(st.integers(0, len(whole))), draw(st.integers(0, 4))
    return suffix, whole[:at] + draw(st.binary(max_size=4)) + whole[at + gone :]


def check_rows(said: tuple[str, Any]) -> None:
    """A row, or the bytes of a file whose name has this ending: see `arbitrary_rows`."""
    suffix, content = said
    check_file(content, scratch() / f"rows{suffix}") if suffix else check_row(content)


# --- what a model answers, and what it is asked about ---

PIECES = [
    "\\boxed{", "\\boxed {", "\\boxed{1, 2}", "\\boxed{2}", "}", "{", "1", "10", "٣", "１", ",",
    " ", "\n", "\n\n", ".", '"', "“", "”", "$", "**", "###", "- ", "> ", "```", "<answer>",
    "</answer>",
    "Scores:", "Scores", "Final Scores: ", "Choice:", "Analysis:", "Specific Criteria:", "So",
    "The scores are ", "Response 1 says ", "[The End of Response 1]", "[The Begin of Response 2]",
    "[User Turn]", "#### Responses to be Scored ####", "The End of", "Response 1]", "####", "[",
    "]", "<start_of_turn>", "<end_of_turn>", "<eos>", "<bos>", "<pad>", "model\n", "[2] ",
    "Best: 1",
    "\u200d", "\u2065", "\u2028", "\x85", "\x1c", "\r", "\x00", "\ud83d", "İ", "ß", "ꓔ", "ᴛ", "▁",
    "{response}", "{i}", "-" * 40, "#" * 40, "9" * 30,
]  # fmt: skip
BEGINS = [
    "[The Begin of Response 1]", "[The End of Response 1]", "[The Begin of Response 2]",
    "[The End of Response 2]", "#### Responses to be Scored ####", "[User Turn]",
    "[1] ", "[2] ",
]  # fmt: skip


@st.composite
def judgments(draw: st.DrawFn) -> tuple[str, int, bool]:
    pieces = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25)
    return "".join(draw(pieces)), draw(st.integers(1, 3)), draw(st.booleans())


@cache
def templates() -> tuple[Any, ...]:
    return load_templates(), load_templates(bundled("tiny") / "templates")


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.load(bundled("tiny"))


def check_judgment(said: tuple[str, int, bool]) -> None:
    """The text is a judgment with scores of its template's scale or a reason; as the text of a
    response it changes nothing in the structure of any prompt."""
    text, n, cut_off = said
    for label in ("", "Scores", "Choice"):
        parsed = parse_judgment(text, n, label=label, cut_off=cut_off)
        assert (parsed.scores is None) == (parsed.reason is not None)
        assert parsed.scores is None or len(parsed.scores) == n
        assert all(1 <= score <= 10 for score in parsed.scores or ())
        choice = parse_choice(text, n, label=label, cut_off=cut_off)
        if choice.index is not None:
            place = choice_place(text, label)
            assert int(text[place:].split("}")[0]) == choice.index + 1
    for place, of in enumerate(templates()):
        for name in ("grm", "single", "judge"):
            template = getattr(of, name)
            read_judgment(
                text, template, sample=0, order=tuple(range(n)), tokens=1, cut_off=cut_off
            )
        responses = [text, "b"] if cut_off else ["a", text]
        (controls, counts), (own_controls, own) = (
            structure(Example("q", responses), of.grm),
            harmless(place),
        )
        assert controls == own_controls
        # Not every template has every delimiter.
        assert [count for count, there in zip(counts, own, strict=True) if there] == [
            *filter(None, own)
        ]


@cache
def harmless(place: int) -> tuple[list[int], list[int]]:
    return structure(Example("q", ["a", "b"]), templates()[place].grm)


def structure(example: Example, template: Any) -> tuple[list[int], list[int]]:
    """The control tokens of a prompt, and how many of its lines begin like each delimiter."""
    turns = render(example, template)
    ids = tokenizer().encode_chat(turns)
    lines = [line.lstrip() for line in turns[0].content.splitlines()]
    controls = [i for i in ids if i in tokenizer().control_ids]
    return controls, [sum(line.startswith(begins) for line in lines) for begins in BEGINS]


# --- files of options ---

ODD_YAML = [
    "- 1\n- 2", "", "\x00", "%YAML 9.9\n---", "a: b: c", "\t", "<<: *x", "? [1]\n: 2", "k: 1\nk: 2",
    "!!binary abc", "!!set {a}", "2001-01-01", "null", "[[[[", "&a {k: *a}", "{a: &x 1, b: *x}",
    "class_path: os.system\ninit_args: {command: ls}", "k: !!float 'x'", "k: !!timestamp x",
    "!!python/object/apply:os.mkdir ['{scratch}/made']", "!!python/name:os.system", "[" * 5000,
]  # fmt: skip
COMMANDS = ["judge", "eval", "compare", "train sft", "train rft", "train grpo", "train spct"]
odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["1", "nan", "null", "2001-01-01", "~", 10**400, "tiny", "\ud7ff"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["temperature", "slots", "rows", "learning_rate", "steps", "url", "model", "data",
             "output", "optimizer", "every", "class_path", "init_args", "kind", "x", 1, None]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=5,
)  # fmt: skip


def names_of(command: str) -> list[str]:
    """The options of a command, the nested ones with dots."""
    first, *rest = command.split()
    options: Any = OPTIONS[first]
    options = options[rest[0]] if rest else options
    kinds = options if isinstance(options, tuple) else (options,)
    return [field.name for one in kinds for field in dataclasses.fields(one)]


@st.composite
def option_files(draw: st.DrawFn) -> tuple[str, str]:
    command = draw(st.sampled_from(COMMANDS))
    if draw(st.integers(0, 4)) == 0:
        return command, draw(st.sampled_from(ODD_YAML) | st.text(max_size=30))
    names = st.sampled_from([*names_of(command), "x"])
    text = yaml.safe_dump(draw(st.dictionaries(names, odd_values, max_size=3)), allow_unicode=True)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from("{}[]:&*!|>%@`\t\n\0'\"é")) + text[at + 1 :]
    return command, text


def check_options(said: tuple[str, str]) -> None:
    """The options are taken, or refused in a sentence; nothing that a file names is run."""
    command, text = said
    file, made = scratch() / "options.yaml", scratch() / "made"
    file.write_bytes(text.replace("{scratch}", str(scratch())).encode("utf-8", "surrogatepass"))
    first, *rest = command.split()
    options: Any = OPTIONS[first]
    # One stage alone: the options of all of them take a second to put together.
    options = {rest[0]: options[rest[0]]} if rest else options
    errors = io.StringIO()
    with (
        mock.patch.dict(OPTIONS, {first: options}),
        mock.patch.object(cli, "import_module", return_value=SimpleNamespace(run=lambda _: 0)),
        mock.patch.object(cli, "TOGETHER", ()),
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        status = cli.main([first, *rest, "--config", str(file)])
    assert status in (0, 2), errors.getvalue()
    if status:
        check_sentence(errors.getvalue())
    assert not made.exists()


def check_sentence(said: str) -> None:
    said.encode()
    assert "Traceback" not in said, said
    assert len(said) < 3000, f"{len(said)} characters: {said[:500]}"
    assert len(re.findall(r"\w+", said)) >= 5, said
    assert not re.search(r"object at 0x|unhashable type|codec can't|NoneType", said), said


# --- what a server answers ---

TOKENS = ["Choice", ": ", "\\boxed", "{", "1", "}"]
GOOD: dict[str, Any] = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Choice: \\boxed{1}"},
            "logprobs": {
                "content": [
                    {
                        "token": token,
                        "logprob": -0.1,
                        "bytes": None,
                        "top_logprobs": [
                            {"token": "1", "logprob": -0.5, "bytes": None},
                            {"token": "2", "logprob": -1.0, "bytes": None},
                        ],
                    }
                    for token in TOKENS
                ]
            },
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
}
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, -(10**400), "\ud83d", "\\boxed{1, 2}", "Scores: \\boxed{3, 4}"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["token", "logprob", "content", "bytes", "message"]), inner, max_size=3
    ),
    max_leaves=4,
)  # fmt: skip
RAW = [
    b"", b"null", b"[]",  b"5", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000, b"<html>",
    b"data: {}\n\n",
    b'{"choices": 1}', b'{"choices": "abc"}', b'{"choices": {"a": 1}}',
    b'{"error": {"message": 5}}',
]  # fmt: skip
TYPES = [
    "application/json",
    "application/json; charset=utf-16",
    "text/html",
    "x",
    "text/event-stream",
]


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, int, str, bytes]:
    """The kind of judge, and a status, a content type and a body."""
    kind = draw(st.sampled_from(["grm", "judge", "token-prob"]))
    status = draw(st.sampled_from([200, 200, 200, 200, 204, 302, 400, 401, 404, 500]))
    if draw(st.integers(0, 5)) == 0:
        body = draw(st.sampled_from(RAW) | st.binary(max_size=30))
        return kind, status, draw(st.sampled_from(TYPES)), body
    said = json.loads(json.dumps(GOOD))
    if kind == "grm":
        said["choices"][0]["message"]["content"] = "Scores: \\boxed{1, 2}"
    for _ in range(draw(st.integers(0, 3))):
        held = list(places(said))
        holder, key = draw(st.sampled_from(held)) if held else (said, "id")
        if draw(st.booleans()):
            holder[key] = draw(odd)
        else:
            del holder[key]
    return kind, status, "application/json", json.dumps(said).encode()


def places(tree: Any) -> Any:
    """Every place in a JSON value, as what holds it and its key there."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


@cache
def asking(kind: Any) -> tuple[EndpointJudge, dict[str, Any]]:
    """A judge, and the place of the answer that it will be given."""
    import httpx
    import openai

    next_answer: dict[str, Any] = {}
    config = EndpointConfig(
        "http://server/v1", "m", retries=0, concurrency=1, price_in=1.0, price_out=1.0
    )
    transport = httpx.MockTransport(lambda request: httpx.Response(**next_answer))
    offline = partial(openai.OpenAI, http_client=httpx.Client(transport=transport))
    with mock.patch("openai.OpenAI", offline):
        return EndpointJudge(config, kind=kind), next_answer


def check_answer(said: tuple[str, int, str, bytes]) -> None:
    """The answer is a judgment of finite numbers that JSON can hold, or a refusal in a sentence."""
    kind, status, content_type, body = said
    judge, next_answer = asking(kind)
    next_answer |= {
        "status_code": status, "content": body, "headers": {"content-type": content_type}
    }  # fmt: skip
    (result,) = judge.sample_all([Example("q", ["a", "b"], id="i")], k=1)
    if isinstance(result, Refusal):
        assert judge.config.url in result.error
        check_sentence(result.error)
        return
    line = json_line(to_json(result))
    line.encode()
    from_json(json.loads(line))
    (judgment,) = result.judgments
    assert isinstance(judgment.tokens, int)
    assert (judgment.scores is None) == (judgment.reason is not None)
    assert all(math.isfinite(score) for score in judgment.scores or ())
    if judgment.scores is not None and kind == "token-prob":
        assert math.isclose(sum(judgment.scores), 1, abs_tol=1e-6)
    json_line(dataclasses.asdict(judge.usage))
