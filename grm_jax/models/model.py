"""`Model`: a static shape with pure functions over a nested dict of arrays (`Params`)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jaxtyping import Array, Float, Int

from grm_jax.models import decoding, decoding_layers, scalar_head, transformer
from grm_jax.models.cache import PromptCache, SampleCache
from grm_jax.models.config import Config, Remat
from grm_jax.models.decoding import Seats
from grm_jax.models.spec import Head, ModelSpec
from grm_jax.models.transformer import Params, Watch


@dataclass(frozen=True)
class Model:
    """A backbone with a language-model head ("lm") or one score ("scalar").

    It is hashable, so it can be a static argument of jit.

    `dtype` is what activations are computed in, `param_dtype` what weights are stored in
    ("float32" or "bfloat16").
    """

    config: Config
    head: Head = "lm"
    dtype: str = "float32"
    param_dtype: str = "float32"

    @property
    def spec(self) -> ModelSpec:
        """What is computed, in numbers."""
        return self.config.spec

    def init(self, key: Array) -> Params:
        """Random weights; `jax.jit` it with `out_shardings` to make them where they belong."""
        trunk_key, head_key = jax.random.split(key)
        params = transformer.init(self.spec, self.head, self.param_dtype, trunk_key)
        if self.head == "scalar":
            params["score"] = scalar_head.init(self.spec.embed_dim, self.param_dtype, head_key)
        return params

    def abstract(self) -> Params:
        """The shapes and dtypes of `init`, without a single weight."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def axes(self) -> Params:
        """The name of every weight's every dimension, in the structure of `init`."""
        names = transformer.axes(self.spec, self.head)
        if self.head == "scalar":
            names["score"] = (None, "norm")
        return names

    def num_params(self) -> int:
        """How many numbers the model holds (a tied embedding once)."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.abstract()))

    def hidden(
        self,
        params: Params,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        segments: Int[Array, "B T"] | None = None,
        *,
        remat: Remat = "none",
        watch: Watch | None = None,
    ) -> Float[Array, "B T D"]:
        """See `transformer.hidden`."""
        return transformer.hidden(
            self.spec,
            params,
            tokens,
            positions,
            segments,
            dtype=self.dtype,
            remat=remat,
            watch=watch,
        )

    def group_hidden(
        self,
        params: Params,
        prompts: Int[Array, "P S"],
        prompt_positions: Int[Array, "P S"],
        tokens: Int[Array, "P G T"],
        positions: Int[Array, "P G T"],
        *,
        remat: Remat = "none",
        watch: Watch | None = None,
    ) -> Float[Array, "P G T D"]:
        """See `transformer.group_hidden`."""
        return transformer.group_hidden(
            self.spec,
            params,
            prompts,
            prompt_positions,
            tokens,
            positions,
            dtype=self.dtype,
            remat=remat,
            watch=watch,
        )

    def logits(self, params: Params, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        """See `transformer.logits`."""
        return transformer.logits(self.spec, params, hidden)

    def score(
        self, params: Params, hidden: Float[Array, "B T D"], positions: Int[Array, "B T"]
    ) -> Float[Array, " B"]:
        """See `scalar_head.score`."""
        return scalar_head.score(params["score"], hidden, positions)

    def next_logits(self, params: Params, hidden: Float[Array, "Z N D"]) -> Float[Array, "V Z N"]:
        """See `decoding_layers.logits`."""
        return decoding_layers.logits(self.spec, params, hidden)

    def extend(
        self,
        params: Params,
        tokens: Int[Array, "Z C"],
        row: Int[Array, " Z"],
        start: Int[Array, " Z"],
        count: Int[Array, " Z"],
        cache: PromptCache,
    ) -> tuple[Float[Array, "Z D"], SampleCache]:
        """See `decoding.extend`."""
        return decoding.extend(
            self.spec, params, tokens, row, start, count, cache, dtype=self.dtype
        )

    def decode(
        self,
        params: Params,
        tokens: Int[Array, "Z N"],
        seats: Seats,
        prompts: PromptCache,
        samples: SampleCache,
        *,
        places: int,
    ) -> tuple[Float[Array, "Z N D"], SampleCache]:
        """See `decoding.decode`."""
        return decoding.decode(
            self.spec, params, tokens, seats, prompts, samples, places=places, dtype=self.dtype
        )

    def as_head(self, head: Head) -> Model:
        """The same trunk under another head."""
        return Model(self.config, head, self.dtype, self.param_dtype)
