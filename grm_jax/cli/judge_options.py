"""The judge that `grm judge` and `grm eval` ask, from the options that they share."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from grm_jax.cli.commands import JudgeOptions
from grm_jax.devices import say_devices
from grm_jax.judging.collect import Rated
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.each import EachInput
from grm_jax.judging.endpoint import EndpointJudge
from grm_jax.judging.judge import Judge
from grm_jax.judging.kinds import KINDS
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.pairs import PairInput
from grm_jax.judging.principles import GivenPrinciples, WithPrinciples
from grm_jax.judging.samples import SampleSource
from grm_jax.judging.sources import judge_kind, open_judge


class CommandJudge:
    """The judge that a command's options name, loaded when it is first asked for.

    Args:
        pairs: show it two responses at a time.
        tokenizer, dtype: as for `load_model_folder`.

    Attributes:
        kind: of judge. k: samples per row; one where all would be alike.
    """

    def __init__(
        self,
        options: JudgeOptions,
        *,
        pairs: bool,
        tokenizer: str | None = None,
        dtype: str | None = None,
    ):
        self._options, self._pairs = options, pairs
        self._loading: dict[str, Any] = {
            "tokenizer": tokenizer,
            "dtype": dtype,
            "weights": options.weights,
            "mesh": options.mesh,
            "chat": options.chat,
        }
        self._config = JudgeConfig(
            model=None if options.samples or options.endpoint else options.model,
            samples=options.samples,
            endpoint=options.endpoint,
            kind=options.judge_kind,
            reference=options.reference,
            templates=options.templates,
            strategy=options.strategy,
            max_new_tokens=options.max_new_tokens,
            slots=options.slots,
        )
        self.kind = KINDS[judge_kind(self._config)]
        self.k = 1 if self.kind.certain else options.k

    @cached_property
    def judge(self) -> SampleSource:
        """The judge itself."""
        options, loading = self._options, self._loading
        return open_judge(self._config, options.model, seed=options.seed, training=False, **loading)

    @cached_property
    def source(self) -> SampleSource:
        """The judge, shown pairs if asked for, and rated by the meta RM if there is one.

        Raises:
            ValueError: there is one, and the judge sees one response at a time.
        """
        options = self._options
        if self._config.model is not None or options.meta_rm is not None:
            say_devices(options.mesh)
        source = self.shown(self.judge)
        if options.meta_rm is None:
            return source
        if asks_about_one(self.judge):
            raise ValueError(
                "a meta RM reads judgments of all responses, and the template asks about one at a "
                "time: leave out --meta-rm."
            )
        dtype, mesh = self._loading["dtype"], options.mesh
        meta_rm = MetaRM.load(options.meta_rm, dtype=dtype, mesh=mesh, slots=options.slots)
        return Rated(source, meta_rm)

    def shown(self, source: SampleSource) -> SampleSource:
        """The source, shown pairs if the command asks for it, or one response at a time if the
        template does; and the principles that are given."""
        if self._pairs:
            source = PairInput(source)
        elif asks_about_one(self.judge):
            source = EachInput(source)
        return source if self.given is None else WithPrinciples(source, self.given)

    @cached_property
    def given(self) -> GivenPrinciples | None:
        """The principles that are given to rows, if the command names any.

        Raises:
            ValueError: the judge is shown none.
        """
        where, judge = self._options.principles, self.judge
        if where is None:
            return None
        if not isinstance(judge, Judge | EndpointJudge):
            raise ValueError("principles are for judges that write: leave out --principles.")
        return GivenPrinciples(where, judge)


def asks_about_one(judge: SampleSource) -> bool:
    """Whether the judge has a template that asks about one response at a time."""
    form = judge.asking.template(1).answer if isinstance(judge, Judge | EndpointJudge) else None
    return form is not None and form.one
