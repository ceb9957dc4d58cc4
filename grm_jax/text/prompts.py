r"""Templates (text files with named fields) and the prompts that they make of an Example.

A template file holds sections, each begun by a line `=== name ===`; text before the first
such line is the section `prompt`. `SECTIONS` lists them with their fields. `{name}` is a field;
LaTeX such as `\boxed{x}` is left alone. The line of an optional block (`{reference}`,
`{principles}`, `{hint}`) with nothing to show is left out. The sections that the tasks share
are in blocks.txt. Sections that a user's file leaves out are ours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from grm_jax import presets
from grm_jax.text.answer_format import LETTERS, VALUES, AnswerFormat
from grm_jax.text.delimiters import Delimiters
from grm_jax.text.messages import Example, Message

BUILT_IN = Path(__file__).parent / "templates"
# The same without any wish for principles, for the ablation of the paper's Table 4.
NO_PRINCIPLES = BUILT_IN / "no_principles"

# The sections of a template: the fields that each may use, and those that it must.
SECTIONS = {
    "prompt": (
        ("conversation", "responses", "n", "box", "low", "high", "reference", "principles", "hint"),
        ("conversation", "responses"),
    ),
    "turn": (("role", "content"), ("content",)),
    "response": (("i", "letter", "response"), ("response",)),
    "reference": (("reference",), ("reference",)),
    "principles": (("principles",), ("principles",)),
    "hint": (("label", "strength"), ("label",)),
    "strength": (("strength",), ("strength",)),
    "scale": ((), ()),
    "answer": ((*VALUES, "box"), ()),
    "criteria": (("conversation",), ("conversation",)),
}
HEADER = re.compile(r"^=== *(\w+) *===[ \t]*$", re.M)
# A LaTeX command with its argument, which is no field; or a field.
FIELD = re.compile(r"\\[A-Za-z]+\{[^{}]*\}|\{(\w+)\}")
# An answer format's line for the result: its label, a colon, and the box, also within <..>.
LABEL = re.compile(
    r"^[^\w\n]*([^\W\d_]+(?: [^\W\d_]+){0,2})[*_ ]*:[*_$(\[\s]*(?:<[^<>]*?)?(?:\{box\}|\\boxed\b)",
    re.M,
)
OPTIONAL = re.compile(r"\s*\{(reference|principles|hint|strength)\}\s*")


@dataclass(frozen=True)
class Template:
    """One prompt template: a text for each of SECTIONS, the name that errors call it by, and
    whether it asks to choose the best response instead of scoring each."""

    name: str
    sections: Mapping[str, str]
    chooses: bool = False

    @property
    def low(self) -> int:
        """The lowest score that the template asks for."""
        return int(self.sections["scale"].split()[0])

    @property
    def high(self) -> int:
        """The highest score that the template asks for."""
        return int(self.sections["scale"].split()[1])

    @cached_property
    def answer(self) -> AnswerFormat | None:
        """Where the result stands in an answer; None: in our box."""
        return AnswerFormat.of(self.sections["answer"])

    @cached_property
    def label(self) -> str:
        """What the answer format puts before the box of the result, such as Scores; or nothing."""
        return (LABEL.findall(self.sections["prompt"]) or [""])[-1]

    @cached_property
    def delimiters(self) -> Delimiters:
        """The lines of this template that untrusted text must not forge."""
        used = ["prompt", "turn", "response", *filter(self.has, ("principles", "reference"))]
        used += ["hint", "strength"] if self.has("hint") else []
        return Delimiters.of(self.sections[name] for name in used)

    def has(self, name: str) -> bool:
        """Whether the prompt has the field."""
        return any(match[1] == name for match in FIELD.finditer(self.sections["prompt"]))

    def needs(self, name: str) -> bool:
        """Whether an optional field stands within a line, which cannot be left out."""
        lines = self.sections["prompt"].splitlines()
        within = (line for line in lines if not OPTIONAL.fullmatch(line))
        return any(match[1] == name for line in within for match in FIELD.finditer(line))

    def fill(self, section: str, **values: str) -> str:
        """The section with its fields filled in, in one pass: values are never read for fields.

        A line that is only an optional block without a value is left out, together with the blank
        line before it.
        """
        lines: list[str] = []
        for line in self.sections[section].splitlines():
            optional = OPTIONAL.fullmatch(line)
            if not optional or values[optional[1]]:
                lines.append(FIELD.sub(lambda m: values[m[1]] if m[1] else m[0], line))
            elif lines and not lines[-1].strip():
                lines.pop()
        return "\n".join(lines)


@dataclass(frozen=True)
class Templates:
    """The templates of the four tasks.

    grm: pointwise, 1..10, any number of responses. single: one response, 0 or 1. judge:
    LLM-as-a-Judge, the number of the best response. meta: the request to the meta RM.
    """

    grm: Template
    single: Template
    judge: Template
    meta: Template

    def asking(self, task: str, n: int, *, training: bool) -> Template:
        """The template of a task for n responses.

        training: one response is scored right or wrong, as in RFT and RL.
        """
        return self.single if task == "grm" and training and n == 1 else getattr(self, task)

    def ask(self, task: str, example: Example, *, training: bool, **shown: bool) -> list[Message]:
        """The chat turns that ask about an example; `shown` (hint, reference) as for `render`.

        Raises:
            ValueError: a reference or principles are missing that the template cannot leave out; or
                as `render`.
        """
        template = self.asking(task, example.n, training=training)
        given = {
            "reference": example.reference if shown.get("reference") else None,
            "principles": example.principles,
        }
        for name, value in given.items():
            if not value and template.needs(name):
                raise ValueError(
                    f"{template.name} has the field {{{name}}} within a line, so that it cannot be "
                    f"left out, and no {name} is given here: give it, or put the field on a line "
                    "of its own"
                )
        return render(example, template, **shown)


def load_templates(path: str | Path | None = None) -> Templates:
    """The built-in templates, with the sections that the user's files hold instead of ours.

    path: a folder with some of blocks.txt, grm.txt, single.txt, judge.txt, meta.txt, one such file,
    or the name of a bundled one (`presets.templates`). Raises FileNotFoundError
    or ValueError with a sentence.
    """
    tasks = [field.name for field in fields(Templates)]
    given = {} if path is None else _files(presets.templates(path), ["blocks", *tasks])

    def read(name: str) -> dict[str, str]:
        return _sections(given[name]) if name in given else {}

    shared = _sections(BUILT_IN / "blocks.txt") | read("blocks")
    ours = {task: _sections(BUILT_IN / f"{task}.txt") for task in tasks}

    def template(task: str) -> Template:
        own = read(task)
        sections = shared | ours[task] | own
        form = AnswerFormat.of(sections["answer"])
        # A model that knows a prompt of its own, and our box, knows no other question.
        if "prompt" in own and form is None and "criteria" not in {*own, *read("blocks")}:
            del sections["criteria"]
        chooses = form.chooses if form else task == "judge"
        return Template(str(given.get(task, f"{task}.txt")), sections, chooses)

    return Templates(**{task: template(task) for task in tasks})


def without_principles(own: Path | None) -> Path:
    """The templates that ask for no principles: `no_principles` in the folder of a model's own
    ones, or the built-in ones where it has none of its own.

    Raises:
        ValueError: its own ones all ask for principles.
    """
    folder = NO_PRINCIPLES if own is None else own / NO_PRINCIPLES.name
    if not folder.is_dir():
        raise ValueError(
            f"the templates in {own} all ask for principles: put those that do not in {folder}. "
            "A small model that knows both: grm train sft --config configs/train/sft_shown.yaml"
        )
    return folder


def _files(path: Path, names: list[str]) -> dict[str, Path]:
    """The user's template files by name."""
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    known = ", ".join(f"{name}.txt" for name in names)
    if not files:
        raise ValueError(f"{path} holds no template: name its files {known}")
    for file in files:
        if file.name not in known.split(", "):
            raise ValueError(f"{file} is none of the templates: name it one of {known}")
    return {file.stem: file for file in files}


def _sections(file: Path) -> dict[str, str]:
    """The sections of a template file by name, each checked. Raises ValueError with a sentence."""
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error.reason}): save it as UTF-8") from None
    head, *rest = HEADER.split("\n".join(text.splitlines()))
    names, bodies = rest[::2], [body.strip("\n") for body in rest[1::2]]
    if head.strip():
        names, bodies = ["prompt", *names], [head.strip("\n"), *bodies]
    for name, body in zip(names, bodies, strict=True):
        if name not in SECTIONS:
            raise ValueError(f"{file}: unknown section {name!r}; there are {', '.join(SECTIONS)}")
        if names.count(name) > 1:
            raise ValueError(
                f"{file}: the section {name} comes twice (text before the first header is the "
                "section prompt)"
            )
        _check_section(f"{file}, section {name}", name, body)
    return dict(zip(names, bodies, strict=True))


def _check_section(where: str, name: str, text: str) -> None:
    allowed, needed = SECTIONS[name]
    used = {match[1] for match in FIELD.finditer(text) if match[1]}
    listed = ", ".join(f"{{{field}}}" for field in allowed)
    for field in sorted(used - set(allowed)):
        raise ValueError(f"{where}: unknown field {{{field}}}; the fields there are {listed}")
    for field in needed:
        if field not in used:
            raise ValueError(f"{where}: the field {{{field}}} is missing; there are {listed}")
    if name == "answer":
        try:
            AnswerFormat.of(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if name == "scale":
        scale = text.split()
        if len(scale) != 2 or not all(map(str.isdecimal, scale)) or int(scale[0]) >= int(scale[1]):
            raise ValueError(
                f"{where}: {text!r} is not the lowest and the highest score, such as 1 10"
            )


def render(
    example: Example, template: Template, *, hint: bool = False, reference: bool = False
) -> list[Message]:
    """The chat turns that ask a model to judge the example: one user turn.

    Principles that the example has are shown (equation 8). hint: say which response is best, or
    whether the one response is right. reference: show the reference answer of an example that has
    one. Raises ValueError where the template has no field for what is to be shown, or where what it
    asks for does not fit the example.
    """
    binary = (template.low, template.high) == (0, 1)
    if binary and example.n > 1:
        raise ValueError(
            f"{template.name} scores one response with 0 or 1, and there are {example.n}"
        )
    if template.answer is not None and template.answer.one and example.n > 1:
        raise ValueError(
            f"{template.name} asks about one response at a time, and there are {example.n}: "
            "give them one by one"
        )
    if template.chooses and example.n < 2:
        raise ValueError(
            f"{template.name} asks for the best of several responses, and there is {example.n}"
        )
    if hint and example.label is None:
        raise ValueError("a hint needs the label of the best response, and this row has none")
    if hint and example.n == 1 and not binary:
        raise ValueError(
            f"a hint for one response is its label, 0 or 1, and {template.name} scores on "
            f"{template.low} to {template.high}: use the template `single`"
        )
    quote = template.delimiters.quote
    shown = {
        "reference": example.reference if reference else None,
        "principles": example.principles,
    }
    blocks = {
        name: template.fill(name, **{name: quote(value)}) if value else ""
        for name, value in shown.items()
    }
    blocks["hint"] = _hint(example, template) if hint else ""
    for name, block in blocks.items():
        if block and not template.has(name):
            raise ValueError(
                f"{template.name} has no field {{{name}}} in its prompt, and there is a {name} "
                "to show: add the field where it should appear"
            )
    text = template.fill(
        "prompt",
        conversation="\n".join(
            template.fill("turn", role=turn.role.capitalize(), content=quote(turn.content))
            for turn in example.prompt
        ),
        responses="\n".join(
            template.fill("response", i=str(i), letter=_letter(i), response=quote(response))
            for i, response in enumerate(example.responses, 1)
        ),
        n=str(example.n),
        box="\\boxed{" + ", ".join("x" * example.n) + "}",
        low=str(template.low),
        high=str(template.high),
        **blocks,
    )
    return [Message("user", text)]


def render_meta(example: Example, template: Template, judgment: str) -> list[Message]:
    """The chat turns that the meta RM scores: the request, and a judgment as the model's turn."""
    # A response may have talked the judge into writing delimiters.
    answer = template.delimiters.quote(judgment)
    return [*render(example, template), Message("assistant", answer)]


def _letter(i: int) -> str:
    return LETTERS[i - 1] if i <= len(LETTERS) else str(i)


def _hint(example: Example, template: Template) -> str:
    label = (example.label or 0) + (example.n > 1)
    strength = template.fill("strength", strength=str(example.strength)) if example.strength else ""
    return template.fill("hint", label=str(label), strength=strength)
