"""Who waits for whom, whatever happens in whatever order: no clock, no thread, no event loop."""

from concurrent.futures import Future

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from grm_jax.judging.cohort import Cohort, Gathering

SIZE = 3


class Gathered(RuleBasedStateMachine):
    """Members come, leave and are no longer waited for; what is judged is counted against it."""

    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.gathering: Gathering[str, Future] = Gathering(SIZE, text=str)
        self.waiting: dict[Future, Cohort] = {}
        self.judging: dict[Cohort, set[Future]] = {}
        self.keys: dict[Cohort, str] = {}
        self.flushed = False

    def judged(self, cohort: Cohort) -> None:
        """A cohort that the caller was told to have judged."""
        assert cohort.closed
        assert cohort.responses == sorted(cohort.responses)
        assert 1 <= len(cohort.members) <= SIZE
        self.judging[cohort] = {member.promise for member in cohort.members}
        for member in cohort.members:
            assert self.waiting.pop(member.promise) is cohort, "each is judged once, in its cohort"

    @rule(target=members, key=st.sampled_from("pq"), text=st.sampled_from("abc"))
    def join(self, key, text):
        promise: Future = Future()
        cohort, joined = self.gathering.join(key, text, promise)
        assert self.keys.setdefault(cohort, key) == key
        self.waiting[promise] = cohort
        assert joined == ("full" if cohort.closed else "begun" if len(cohort.members) == 1
                          else "waiting")  # fmt: skip
        if joined == "full":
            self.judged(cohort)
        assert not self.flushed or joined == "full"
        return cohort, promise

    @rule(member=members)
    def wait_no_longer(self, member):
        if self.gathering.close(member[0]):
            self.judged(member[0])

    @rule(member=consumes(members))
    def leave(self, member):
        cohort, promise = member
        nobody = self.gathering.leave(cohort, promise)
        if self.waiting.pop(promise, None) is None:
            self.judging[cohort].remove(promise)
            assert nobody == (not self.judging[cohort])
        else:
            assert nobody == (cohort not in self.waiting.values())
            assert cohort.closed == nobody

    @rule()
    def flush(self):
        self.flushed = True
        for cohort in self.gathering.flush():
            self.judged(cohort)
        assert not self.waiting

    @invariant()
    def nobody_is_forgotten(self):
        assert not any(cohort.closed for cohort in self.waiting.values())


TestGathered = Gathered.TestCase
TestGathered.settings = settings(max_examples=30, stateful_step_count=30, derandomize=True)


def full(*texts: str) -> Cohort[str, Future]:
    gathering: Gathering[str, Future] = Gathering(len(texts), text=str)
    joined = [gathering.join("p", text, Future()) for text in texts]
    return joined[-1][0]


def test_each_gets_its_own_result_and_who_has_left_gets_none() -> None:
    cohort = full("c", "a", "b")
    first, second, third = (member.promise for member in cohort.members)
    assert second.cancel()
    cohort.hand_back(["of a", "of b", "of c"])
    assert (first.result(0), third.result(0)) == ("of a", "of c")
    assert second.cancelled()


def test_an_error_is_everybodys() -> None:
    cohort = full("a", "b")
    cohort.hand_back(RuntimeError("out of memory"))
    for member in cohort.members:
        with pytest.raises(RuntimeError, match="out of memory"):
            member.promise.result(0)


def test_there_is_a_result_for_each() -> None:
    with pytest.raises(ValueError, match="shorter"):
        full("a", "b").hand_back(["only one"])
