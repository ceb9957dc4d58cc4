"""`MetaRM`: rates judgments with one score each, so that the better ones can be kept.

A scalar reward model reads the query, the responses in the order in which the judge saw them, and
what the judge wrote; its raw logit says how likely the judgment is to be right (equation 10).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from grm_jax.judging.folder import load_model_folder
from grm_jax.judging.grouping import Reading
from grm_jax.judging.judgment import Judgment, Refusal, Sampled, identity
from grm_jax.judging.rater import NOT_FINITE, Rater
from grm_jax.mesh import MeshConfig
from grm_jax.text.messages import Example
from grm_jax.text.prompts import Template, render_meta
from grm_jax.text.tokenizer import Tokenizer


class MetaRM(Rater):
    """A loaded meta RM; arguments and errors as for `Rater`."""

    @classmethod
    def load(
        cls,
        name: str | Path = "tiny-meta",
        *,
        dtype: str | None = None,
        mesh: MeshConfig | None = None,
        slots: int = 64,
    ) -> MetaRM:
        """Loads "tiny-meta" (bundled), a model folder, or a hub id.

        Raises:
            ValueError, FileNotFoundError: what is missing or does not fit.
        """
        return cls(load_model_folder(name, dtype=dtype, mesh=mesh), slots)

    def rate_all(self, sampled: Iterable[Sampled | Refusal]) -> Iterator[Sampled | Refusal]:
        """The same, with `meta` filled in where a judgment has scores and fits into the model.

        An Example with a rating that is not finite is refused: it would guide nothing.
        Yields in the order in which Examples are finished, see `Rater`. What several judgments of
        an Example say word for word, with the responses in the same order, is rated once: of a
        trained GRM's judgments that is most.
        """
        for result, ratings in self((result, self._wanted(result)) for result in sampled):
            if any(rating is not None and not math.isfinite(rating) for rating in ratings):
                error = f"the meta RM: {NOT_FINITE.format(self.folder.path)}"
                result = Refusal(identity(result), error)
            if isinstance(result, Sampled):
                left = iter(ratings)
                rated = (replace(j, meta=next(left)) if j.scores else j for j in result.judgments)
                result = replace(result, judgments=tuple(rated))
            yield result

    def reading(self, example: Example, judgment: Judgment) -> Reading:
        """What the model reads of a judgment; the score is taken at the last token.

        Judgments with the responses in the same order share the request.
        """
        return meta_reading(self.folder.tokenizer, self.folder.templates.meta, example, judgment)

    def _wanted(self, result: Sampled | Refusal) -> list[Reading]:
        """What there is to rate: the judgments that have scores."""
        if isinstance(result, Refusal):
            return []
        return [self.reading(result.example, j) for j in result.judgments if j.scores]


def meta_reading(
    tokenizer: Tokenizer, template: Template, example: Example, judgment: Judgment
) -> Reading:
    """The meta RM's chat as ids: the request as the judge's order has it, and the judgment.

    Principles that were given stand in the judgment, and in the request if its template has a place
    for them.
    """
    if not template.has("principles"):
        example = replace(example, principles=None)
    request, written = render_meta(example.permuted(judgment.order), template, judgment.text)
    completion = tokenizer.encode_judged(written.content)
    return Reading(tuple(tokenizer.encode_chat([request])), tuple(completion))
