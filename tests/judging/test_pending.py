"""Parts come in any order, and an owner is done with its last one."""

from collections import deque
from collections.abc import Iterable, Iterator

from grm_jax import Example, Judgment
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.pairs import take
from grm_jax.judging.pending import Pending, gather, sample_parts


def test_an_owner_is_done_with_its_last_part_and_refusals_do_not_wait_for_it() -> None:
    a, b = Pending[str, int, str]("a", (0, 1)), Pending[str, int, str]("b", (0,))
    refused = deque([Refusal("no", "why.")])

    def parts() -> Iterator[tuple[Pending[str, int, str], int, str]]:
        yield a, 1, "second"
        yield b, 0, "only"
        refused.append(Refusal("late", "why."))
        yield a, 0, "first"

    found = list(gather(parts(), refused))
    assert [r.id if isinstance(r, Refusal) else r.owner for r in found] == ["no", "b", "late", "a"]
    assert a.in_order() == ("first", "second")


def test_the_parts_of_an_example_find_their_way_back() -> None:
    class Backwards:
        on_devices = False

        def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled]:
            for example in reversed(list(examples)):
                text = example.responses[0]
                yield Sampled(example, (Judgment(0, (0,), "", "", None, None, text, 1, 0.0),) * k)

    examples = [Example("q", ["1", "2", "3"], id="a"), Example("q", ["4"], id="b")]
    done = [
        [part.judgments[0].text for part in pending.in_order() if isinstance(part, Sampled)]
        for pending, _ in sample_parts(
            Backwards(), examples, 2, lambda e: {i: take(e, [i]) for i in range(e.n)}
        )
        if pending.complete
    ]
    assert done == [["4"], ["1", "2", "3"]]
