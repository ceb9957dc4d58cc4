"""Which judge a command asks, and how: the options that `grm judge` and `grm eval` share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from grm_jax.judging.collect import Rated
from grm_jax.judging.endpoint import EndpointConfig
from grm_jax.judging.kinds import KINDS, Kind
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.pairs import PairInput
from grm_jax.judging.samples import SampleSource
from grm_jax.judging.sources import JudgeConfig, judge_kind, open_judge
from grm_jax.sampling.strategy import Strategy
from grm_jax.sharding import MeshConfig


@dataclass(frozen=True)
class JudgeOptions:
    """Which judge is asked, and how.

    Args:
        model: "tiny" (bundled), a folder in Hugging Face's layout, or a hub id.
        judge_kind: What the model is; by default what its grm.json says, else a pointwise GRM.
        samples: A file of judgments (an evaluation's samples.jsonl) instead of a model.
        endpoint: An OpenAI-compatible server instead of a model.
        templates: A folder of prompt templates that replace those of the same name; by default the
            model's own.
        reference: Show the reference answer where a row has one.
        k: Samples per row; their scores are summed.
        meta_rm: A model that rates the samples, of which then only the better ones are summed:
            "tiny-meta" (bundled), a folder, or a hub id.
        k_meta: How many samples that are; by default half of k.
        strategy: How tokens are drawn (the paper's temperature for k > 1 is 0.5).
        max_new_tokens: Room for one judgment; by default what the model folder says.
        seed: The seed of orders and tokens; the same seed gives the same verdicts.
        rows: Samples decoded at once: more is faster, until memory ends.
        mesh: Spread over several devices: how many along data, fsdp and tensor. In a job of several
            processes the rows go over all its devices by default.
    """

    model: str = "tiny"
    judge_kind: Kind | None = None
    samples: str | None = None
    endpoint: EndpointConfig | None = None
    templates: str | None = None
    reference: bool = False
    k: int = 8
    meta_rm: str | None = None
    k_meta: int | None = None
    strategy: Strategy = field(default_factory=lambda: Strategy(temperature=0.5))
    max_new_tokens: int | None = None
    seed: int = 0
    rows: int = 64
    mesh: MeshConfig | None = None

    def __post_init__(self) -> None:
        if self.k_meta is not None and (self.meta_rm is None or not 1 <= self.k_meta <= self.k):
            raise ValueError(
                f"k_meta is {self.k_meta} of {self.k} samples: give 1 to k, and a --meta-rm that "
                "chooses them."
            )
        if self.samples is not None and self.endpoint is not None:
            raise ValueError("samples and endpoint are both given: judgments have one source.")


def check_pairs(options: JudgeOptions, option: str) -> None:
    """Raises ValueError, naming the `option` for pair input, if there is a meta RM as well."""
    if options.meta_rm is not None:
        raise ValueError(
            f"a meta RM reads judgments of all responses: leave out --meta-rm or {option} pair."
        )


class CommandJudge:
    """The judge that a command's options name, loaded when it is first asked for.

    Args:
        pairs: show it two responses at a time.
        tokenizer, dtype: as for `load_model_folder`.

    Attributes:
        kind: what judges. k: samples per row, one where all would be alike.
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
            "mesh": options.mesh,
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
            rows=options.rows,
        )
        self.kind = KINDS[judge_kind(self._config)]
        self.k = 1 if self.kind.certain else options.k

    @cached_property
    def judge(self) -> SampleSource:
        """What writes judgments, as it is."""
        options, loading = self._options, self._loading
        return open_judge(self._config, options.model, seed=options.seed, training=False, **loading)

    @cached_property
    def source(self) -> SampleSource:
        """The same, shown what it should be shown, and rated where there is a meta RM."""
        options, source = self._options, self.shown(self.judge)
        if options.meta_rm is None:
            return source
        dtype, mesh = self._loading["dtype"], options.mesh
        meta_rm = MetaRM.load(options.meta_rm, dtype=dtype, mesh=mesh, rows=options.rows)
        return Rated(source, meta_rm)

    def shown(self, source: SampleSource) -> SampleSource:
        """A source that is shown pairs, where the command asks for it."""
        return PairInput(source) if self._pairs else source
