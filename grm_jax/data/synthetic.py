"""A small verifiable world: questions, responses to judge, and demonstrations of judging.

An ask ("Be brief.") decides which criteria count and how much; a response is an answer in a form;
its score is 2 plus the weights of the criteria it meets. A few are nothing at all (empty, blank,
invisible) and score 1. Everything about item i follows from (seed, split, i), so it never depends
on how many items were drawn before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from numpy.random import Generator

from grm_jax.data.config import Noise, Principles
from grm_jax.data.questions import Question, draw_question
from grm_jax.data.responses import Criteria, Nothing, Response, draw_nothing
from grm_jax.randomness import in_share, world_stream
from grm_jax.text.messages import Example, Message

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = get_args(Split)

# What each ask makes of the criteria: weights in falling order, all subset sums different.
CRITERIA: dict[str, Criteria] = {
    "": (("accuracy", 8),),
    "Be brief.": (("accuracy", 6), ("brevity", 2)),
    "Be polite.": (("accuracy", 6), ("politeness", 2)),
    "Above all, be brief.": (("brevity", 6), ("accuracy", 2)),
    "Above all, be polite.": (("politeness", 6), ("accuracy", 2)),
    "Be brief and polite.": (("accuracy", 5), ("brevity", 2), ("politeness", 1)),
}
ASKS = tuple(CRITERIA)

# A wrong principle is always another ask's: the first is the typical misreading, drawn three
# times of four. Asks with a large factor are misread more often, so that with a noise of 0.17 the
# most likely criteria of "Above all, be polite." are wrong and no greedy judge is perfect.
MISREADINGS: dict[str, tuple[str, str]] = {
    "": ("Above all, be polite.", "Above all, be brief."),
    "Be brief.": ("Above all, be brief.", "Be polite."),
    "Be polite.": ("Above all, be polite.", "Be brief."),
    "Above all, be brief.": ("Be brief.", "Above all, be polite."),
    "Above all, be polite.": ("Be polite.", "Above all, be brief."),
    "Be brief and polite.": ("Above all, be polite.", "Above all, be brief."),
}
MISREADING_FACTOR: dict[str, float] = {"Above all, be polite.": 3.5, "Be brief and polite.": 2.5}

HELDOUT_SHARE = 0.2
HINTED_SHARE = 0.1  # of the lessons that have a best response, or one that is right or wrong
HINTED_NOISE = 0.25
WORLD_SIZE = 2**31  # the world has no end, but a shuffle needs one
NOTHING_SHARE = 0.1  # of the items, in each of which one response is nothing
RIGHT_SHARE = 0.45  # of responses, before the choice of telling items
SLIP_SHARE = 0.5  # share of items chosen so that a slip matters; in the others a misreading does


@dataclass(frozen=True)
class Item:
    """A question with an ask, and the responses to it."""

    question: Question
    ask: str
    answer: str
    responses: tuple[Response | Nothing, ...]

    @property
    def query(self) -> str:
        return f"{self.question.text} {self.ask}".rstrip()

    def scores(self, criteria: Criteria | None = None, answer: str | None = None) -> list[int]:
        """Scores per response under these criteria and this answer (default: the true ones)."""
        criteria = CRITERIA[self.ask] if criteria is None else criteria
        answer = self.answer if answer is None else answer
        return [response.score(criteria, answer) for response in self.responses]

    @property
    def example(self) -> Example:
        """The item as the judge sees it, with its gold scores and label."""
        scores = self.scores()
        right = self.responses[0].answer == self.answer
        return Example(
            prompt=(Message("user", self.query),),
            responses=tuple(response.text for response in self.responses),
            label=scores.index(max(scores)) if len(scores) > 1 else int(right),
            scores=tuple(map(float, scores)),
            reference=self.answer,
            meta={"kind": self.question.kind, "ask": self.ask},
        )


def split_of(question: Question) -> Split:
    """The side a question is on, by a hash of its text: all items of a question are on one side."""
    return "heldout" if in_share(question.text, HELDOUT_SHARE) else "train"


def make_item(seed: int, split: Split, index: int) -> Item:
    """Item `index` of a split; the same for the same three arguments, whatever else was drawn."""
    rng = world_stream(seed, SPLITS.index(split), index)
    question = draw_question(rng)
    while split_of(question) != split:
        question = draw_question(rng)
    ask = ASKS[rng.integers(len(ASKS))]
    n = (1, 2, 3, 4)[rng.choice(4, p=(0.06, 0.37, 0.37, 0.2))]
    right = question.work()[1]
    wrong = [question.work(slip)[1] for slip in range(question.slips)]
    criteria, answer = CRITERIA[MISREADINGS[ask][0]], right
    if rng.random() < SLIP_SHARE:
        criteria, answer = CRITERIA[ask], wrong[rng.integers(len(wrong))]
    nothing = world_stream(seed, SPLITS.index(split), index, "nothing")
    degenerate = nothing.random() < NOTHING_SHARE
    while True:
        responses: list[Response | Nothing] = [*_draw_responses(right, wrong, n - degenerate, rng)]
        if degenerate:
            responses.insert(int(nothing.integers(n)), draw_nothing(nothing))
        item = Item(question, ask, right, tuple(responses))
        if n - degenerate < 2 or _is_telling(item, item.scores(criteria, answer)):
            return item


def _draw_responses(
    right: str, wrong: Sequence[str], n: int, rng: Generator
) -> tuple[Response, ...]:
    """n responses: the right answer or a typical slip's, each in one of four forms."""
    return tuple(
        Response(
            right if chance < RIGHT_SHARE else wrong[int(slip * len(wrong))],
            brief < 0.5,
            polite < 0.5,
        )
        for chance, slip, brief, polite in rng.random((n, 4)).tolist()
    )


def _is_telling(item: Item, mistaken: list[int]) -> bool:
    """Whether the best response is unique, and another one by the `mistaken` scores."""
    scores = item.scores()
    best = max(scores)
    if len(set(item.responses)) < len(scores) or scores.count(best) > 1:
        return False
    return mistaken[scores.index(best)] < max(mistaken)


def demonstrate(
    item: Item,
    noise: Noise,
    rng: Generator,
    *,
    binary: bool = False,
    choose: bool = False,
    factor: Mapping[str, float] = MISREADING_FACTOR,
    given: Criteria | None = None,
) -> str:
    """A critique of the item in the paper's three sections, with errors at the rates of `noise`.

    After a wrong principle or a slip the rest follows from it, so the verdict depends on them.
    binary: score whether each answer is right, 1 or 0, whatever the ask (the template `single`).
    choose: name the response with the highest score (one of them, by chance) instead of writing
    the scores (the template `judge`).
    factor: how many times as often as `noise.principle` an ask is misread; 1 if it is not named.
    given: criteria to go by, right or wrong.
    """
    criteria = given or CRITERIA["" if binary else item.ask]
    if not binary and not given and rng.random() < noise.principle * factor.get(item.ask, 1.0):
        criteria = CRITERIA[MISREADINGS[item.ask][int(rng.random() < 0.25)]]
    slip = int(rng.integers(item.question.slips)) if rng.random() < noise.step else None
    steps, answer = item.question.work(slip)
    scores = item.scores(criteria, answer)
    if binary:
        scores = [int(response.answer == answer) for response in item.responses]
    # Nothing is never mistaken for something.
    answers = [i for i, response in enumerate(item.responses) if response.answer]
    if len(answers) > 1 and rng.random() < noise.score:
        i, j = rng.choice(answers, 2, replace=False)
        scores[i], scores[j] = scores[j], scores[i]
    result = f"Scores: \\boxed{{{', '.join(map(str, scores))}}}"
    if choose:
        best = [i for i, score in enumerate(scores, 1) if score == max(scores)]
        result = f"Choice: \\boxed{{{rng.choice(best)}}}"
    judged = "; ".join(
        f"[{i}] {response.judged(criteria, answer)}" for i, response in enumerate(item.responses, 1)
    )
    stated = f"Specific Criteria: {in_words(criteria)}"
    return f"{stated}\nAnalysis: {steps} so {answer}. {judged}\n{result}"


def in_words(criteria: Criteria) -> str:
    """Criteria as a critique states them: "accuracy (7), brevity (2)"."""
    return ", ".join(f"{name} ({weight})" for name, weight in criteria)


@dataclass(frozen=True)
class Lesson:
    """An Example as a judge is to be taught it: in which prompt, and what to write.

    hinted, binary, reference: the prompt names the best response; it asks for right or wrong; it
    shows the right answer. (Principles that the Example has are always shown.)
    """

    example: Example
    critique: str
    hinted: bool
    binary: bool
    reference: bool = False


@dataclass(frozen=True)
class World:
    """Items `start` .. `start + count - 1` of a split, as lessons: a data source.

    Row i follows from (seed, split, start + i, noise) alone. Half of the single responses are
    judged right or wrong, and a share of the other items has a hint in the prompt (then errors
    are `HINTED_NOISE` times as frequent).

    choose: several responses are judged by naming the best.
    principles: "own": the critique states them first; "none": it does not; "given": they are in the
    prompt, and the critique goes by them: half of the time the item's own, else another ask's.
    reference: the prompt shows the right answer, so that no step goes wrong. With this or given
    principles there are no hints, and none is asked for right or wrong.
    """

    count: int = WORLD_SIZE
    noise: Noise = field(default_factory=Noise)
    seed: int = 0
    split: Split = "train"
    start: int = 0
    choose: bool = False
    factor: Mapping[str, float] = field(default_factory=lambda: MISREADING_FACTOR)
    principles: Principles = "own"
    reference: bool = False

    def __post_init__(self) -> None:
        if self.count < 1 or self.start < 0 or self.seed < 0:
            raise ValueError(
                f"count is {self.count}, start {self.start} and seed {self.seed}: count must be at "
                "least 1, the others at least 0."
            )

    def __len__(self) -> int:
        return self.count

    def item(self, index: int) -> Item:
        """Item `index` of these."""
        if not 0 <= index < self.count:
            raise IndexError(f"row {index} of {self.count}")
        return make_item(self.seed, self.split, self.start + index)

    def stream(self, index: int, use: Literal["lesson", "critique", "comparison"]) -> Generator:
        """What draws what is made of the items."""
        return world_stream(self.seed, SPLITS.index(self.split), index, use)

    def __getitem__(self, index: int) -> Lesson:
        item = self.item(index)
        rng = self.stream(self.start + index, "lesson")
        if self.principles == "given" or self.reference:
            return self._shown(item, rng)
        single = len(item.responses) == 1
        binary = single and rng.random() < 0.5
        hinted = rng.random() < HINTED_SHARE and (binary or not single)
        noise = self.noise.times(HINTED_NOISE) if hinted else self.noise
        choose = self.choose and not single
        critique = demonstrate(item, noise, rng, binary=binary, choose=choose, factor=self.factor)
        if self.principles == "none":
            critique = critique.partition("\n")[2]
        return Lesson(item.example, critique, hinted, binary)

    def _shown(self, item: Item, rng: Generator) -> Lesson:
        """A lesson in which the prompt shows more than the item."""
        example, given = item.example, None
        if self.principles == "given":
            own = rng.random() < 0.5
            given = CRITERIA[item.ask if own else ASKS[rng.integers(len(ASKS))]]
            example = replace(example, principles=in_words(given))
        noise = replace(self.noise, step=0.0) if self.reference else self.noise
        choose = self.choose and len(item.responses) > 1
        critique = demonstrate(item, noise, rng, choose=choose, factor=self.factor, given=given)
        return Lesson(example, critique, hinted=False, binary=False, reference=self.reference)
