"""`Sampler`: requests in, completions out: an iterator over an `Engine`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from jax.sharding import Mesh

from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.sampling.engine import Engine
from grm_jax.sampling.request import Completion, Request, Tag
from grm_jax.sampling.size import EngineSize
from grm_jax.sampling.strategy import Strategy


@dataclass
class Sampler:
    """Draws completions from a language model.

    Args:
        slots: samples decoded at once; the speed and memory knob.
        places: samples of a prompt that share its cache, see `EngineSize`.
        max_new_tokens: length limit of a completion; with the prompt at most max_position.
        mesh: devices to spread over, with `params` already placed; None for one device.
    """

    model: Model
    params: Params
    stop_ids: Sequence[int]
    strategy: Strategy = field(default_factory=Strategy)
    seed: int = 0
    max_new_tokens: int = 512
    slots: int = 64
    places: int = 4
    mesh: Mesh | None = None
    # Kept for the next call, with their memory; `dataclasses.replace` hands them on.
    engines: list[Engine] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"slots is {self.slots}; at least one sample must be decoded at once.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; give a whole number from 0 up to 2**32 - 1.")
        limit = self.model.config.max_position
        if not 0 < self.max_new_tokens < limit:
            raise ValueError(
                f"max_new_tokens is {self.max_new_tokens}; this model has {limit} positions for "
                f"prompt and answer together, so give 1 to {limit - 1}."
            )
        shards = self.mesh.shape["data"] * self.mesh.shape["fsdp"] if self.mesh else 1
        if self.slots % shards:
            raise ValueError(
                f"slots is {self.slots}, but the mesh splits a batch over {shards} devices: give a "
                f"multiple of {shards}."
            )

    def sized(self, samples: int) -> Sampler:
        """The same, with no more slots than so many samples need: a power of two, so that few
        programs are compiled. The bits of a sample depend on it."""
        shards = self.mesh.shape["data"] * self.mesh.shape["fsdp"] if self.mesh else 1
        slots = -(-(1 << (samples - 1).bit_length()) // shards) * shards
        return replace(self, slots=min(slots, self.slots))

    @property
    def size(self) -> EngineSize:
        """The size of the engine that draws the samples; their bits depend on it."""
        return EngineSize(slots=self.slots, places=min(self.places, self.slots))

    @property
    def longest_prompt(self) -> int:
        """Tokens that a prompt may have, so that a full-length completion still fits."""
        return self.model.config.max_position - self.max_new_tokens

    def check_length(self, tokens: int) -> None:
        """Raises ValueError, in a sentence, unless a prompt of so many tokens can be continued."""
        if not 0 < tokens <= self.longest_prompt:
            raise ValueError(
                f"the prompt has {tokens} tokens, but this model has room for "
                f"{self.longest_prompt} beside {self.max_new_tokens} new ones: shorten the row, "
                "or lower max_new_tokens."
            )

    def __call__(self, requests: Iterable[Request[Tag] | None]) -> Iterator[Completion[Tag]]:
        """Yields every request's completions, in the order in which they come back.

        Reads no more requests than keep the slots busy. None among them means that the next one
        depends on completions that are still to come.

        Raises:
            ValueError: a prompt is empty or longer than `longest_prompt`.
        """
        engine = self.engine()
        engine.strategy, engine.seed = self.strategy, self.seed
        try:
            asked = iter(requests)
            while True:
                while engine.waiting < self.slots and (request := next(asked, None)) is not None:
                    self.check_length(len(request.tokens))
                    engine.submit(request)
                if engine.idle:
                    return
                yield from engine.step()
        finally:
            if engine.idle:  # and not where the caller has stopped reading before the end
                self.engines.append(engine)

    def engine(self) -> Engine:
        """An engine that is free, of these weights and this size; or else a new one. The caller's
        from here on."""
        for engine in self.engines:
            if engine.fits(self.params, self.stop_ids, self.max_new_tokens, self.size, self.mesh):
                self.engines.remove(engine)
                return engine
        return Engine(
            self.model,
            self.params,
            stop_ids=self.stop_ids,
            max_new_tokens=self.max_new_tokens,
            size=self.size,
            mesh=self.mesh,
        )
