"""What the server counts, in Prometheus' form."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from grm_jax.judging.judgment import Judgment, Refusal, Verdict
from grm_jax.serve.loop import JudgeLoop

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one server; the watcher of its loop."""

    def __init__(self) -> None:
        disable_created_metrics()  # a time beside every count, which nobody reads
        self._registry = own = CollectorRegistry()
        self.requests = Counter(
            "grm_requests", "Requests answered.", ("path", "status"), registry=own
        )
        self.seconds = Histogram(
            "grm_request_seconds", "How long they took.", ("path",), buckets=_SECONDS, registry=own
        )
        self.cohorts = Histogram(
            "grm_cohort_size", "Callers judged as one example.", buckets=_SIZES, registry=own
        )
        self._examples = Counter("grm_examples", "Examples judged.", ("outcome",), registry=own)
        self._judgments = Counter("grm_judgments", "Samples drawn.", ("outcome",), registry=own)
        self._tokens = Counter("grm_tokens", "Tokens generated.", registry=own)
        self._votes_saved = Counter(
            "grm_votes_saved", "Samples that adaptive voting did not draw.", registry=own
        )
        self._principles_saved = Counter(
            "grm_principles_saved_tokens",
            "Tokens that judgments did not write, as their principles were given.",
            registry=own,
        )
        self.principles_written = Counter(
            "grm_principles_written_tokens",
            "Tokens of the principles that were written once per query.",
            registry=own,
        )
        self._faults = Counter("grm_faults", "Failures of the engine.", registry=own)
        self._unfinished = Gauge("grm_unfinished", "Examples waiting or under way.", registry=own)
        self._ready = Gauge("grm_ready", "1 once all programs are compiled.", registry=own)

    def watch(self, loop: JudgeLoop) -> None:
        """Shows the loop's queue."""
        self._unfinished.set_function(lambda: loop.unfinished)
        self._ready.set_function(lambda: float(loop.ready.is_set()))

    def drawn(self, tokens: int) -> None:
        self._tokens.inc(tokens)

    def judgment(self, judgment: Judgment) -> None:
        self._judgments.labels(judgment.reason or "read").inc()

    def saved(self, votes: int, tokens: int) -> None:
        self._votes_saved.inc(votes)
        self._principles_saved.inc(tokens)

    def example(self, result: Verdict | Refusal) -> None:
        self._examples.labels("refused" if isinstance(result, Refusal) else "judged").inc()

    def fault(self, error: Exception) -> None:
        self._faults.inc()

    def text(self) -> bytes:
        """All of it, as a scraper reads it."""
        return generate_latest(self._registry)
