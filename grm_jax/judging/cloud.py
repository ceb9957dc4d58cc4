"""CLoud (Ankner et al., arXiv 2408.11791): critique out loud, then reward.

A model that writes gives a critique of each response alone; a model with a value head reads the
conversation, the response and the critique, and gives the reward. k samples are k critiques of
each response, and voting sums the rewards, which ranks as their mean does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grm_jax.judging.asking import Asking
from grm_jax.judging.config import Weights
from grm_jax.judging.folder import ModelFolder, load_model_folder
from grm_jax.judging.grouping import Reading
from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Judgment, Refusal, Sampled, check_samples
from grm_jax.judging.meta import meta_reading
from grm_jax.judging.pending import sample_parts
from grm_jax.judging.rater import Rater
from grm_jax.judging.samples import SampleSource
from grm_jax.judging.scalar import alone, complete, unscored
from grm_jax.mesh import MeshConfig
from grm_jax.text.messages import Example


class Critic(Judge):
    """A model that writes a critique, and is not asked for scores in a box (template `meta`)."""

    def __init__(self, folder: ModelFolder, **settings: Any):
        super().__init__(folder, **settings)
        self.asking = Asking(folder.templates, "meta")


@dataclass
class CLoud:
    """A critic and a value head.

    Args:
        critic: writes k judgments of an Example with one response; only their text counts.
        rater: the value head.
    """

    critic: SampleSource
    rater: Rater
    on_devices = True

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        tokenizer: str | None = None,
        templates: str | None = None,
        dtype: str | None = None,
        weights: Weights | None = None,
        mesh: MeshConfig | None = None,
        chat: Mapping[str, Any] | None = None,
        slots: int = 64,
        **settings: Any,
    ) -> CLoud:
        """Loads a value head, and the critic that its folder names; `settings` as for `Judge`.

        Raises:
            ValueError, FileNotFoundError: what is missing or does not fit.
        """
        loading: dict[str, Any] = {
            "tokenizer": tokenizer,
            "templates": templates,
            "dtype": dtype,
            "weights": weights,
            "mesh": mesh,
            "chat": chat,
        }
        folder = load_model_folder(name, **loading)
        if folder.critic is None:
            raise ValueError(
                f"{folder.path} names no critic: CLoud needs a model that writes, in a folder "
                'beside the weights, and its name in grm.json: {"critic": "critic"}.'
            )
        critic = Critic.load(folder.critic, slots=slots, **loading, **settings)
        return cls(critic, Rater(folder, slots))

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """k judgments for each Example, in the order in which Examples are finished.

        A response's critiques follow from the seed, the sample number, the prompt and the response
        alone, and so does its reward: the other responses change nothing.
        """
        check_samples(k)
        written = criticise(self.critic, examples, k)
        for (example, parts), rewards in self.rater(
            ((example, parts), self._wanted(parts)) for example, parts in written
        ):
            refused = next((part for part in parts if isinstance(part, Refusal)), None)
            if refused is not None:
                error = f"response {refused.id.split('/')[-1]}: {refused.error}"
                yield replace(refused, id=example.id, error=error)
            elif (scores := complete(rewards)) is None:
                yield unscored(example, rewards, self.rater)
            else:
                engine = next((part.engine for part in parts if isinstance(part, Sampled)), None)
                yield Sampled(example, tuple(_joined(parts, scores, k)), engine=engine)

    def _wanted(self, parts: Sequence[Sampled | Refusal]) -> list[Reading]:
        """What the value head reads: each response's critiques, response by response.

        The request that the critic answered is shared by the critiques of a response.
        """
        if any(isinstance(part, Refusal) for part in parts):
            return []
        folder = self.rater.folder
        return [
            meta_reading(folder.tokenizer, folder.templates.meta, part.example, judgment)
            for part in parts
            if isinstance(part, Sampled)
            for judgment in part.judgments
        ]


def criticise(
    critic: SampleSource, examples: Iterable[Example], k: int
) -> Iterator[tuple[Example, list[Sampled | Refusal]]]:
    """Each Example, with k critiques of each of its responses alone, when it has them all."""

    def singles(example: Example) -> dict[int, Example]:
        return {i: alone(example, i) for i in range(example.n)}

    for pending, _ in sample_parts(critic, examples, k, singles):
        if pending.complete:
            yield pending.owner, list(pending.in_order())


def _joined(
    parts: Sequence[Sampled | Refusal], scores: Sequence[float], k: int
) -> Iterator[Judgment]:
    """k judgments of all responses from k critiques of each; scores lie response by response."""
    for sample in range(k):
        of = [part.judgments[sample] for part in parts if isinstance(part, Sampled)]
        text = "\n\n".join(f"Response {i}:\n{one.text}" for i, one in enumerate(of, 1))
        yield Judgment(
            sample=sample,
            order=tuple(range(len(of))),
            principles="",
            critique=text,
            scores=tuple(scores[sample::k]),
            reason=None,
            text=text,
            tokens=sum(one.tokens for one in of),
            logprob=sum(one.logprob for one in of),
        )
