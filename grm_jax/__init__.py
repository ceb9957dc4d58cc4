"""grm_jax: generalist reward models that write a critique before they score.

from grm_jax import Judge, Example
judge = Judge.load("tiny")
verdict = judge(Example(prompt="What is 37+45?", responses=["82", "81"]), k=8)
verdict.scores, verdict.best, verdict.judgments[0].critique
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Example", "Judge", "Judgment", "Message", "Strategy", "Verdict"]

if TYPE_CHECKING:
    from grm_jax.judging.judge import Judge
    from grm_jax.judging.judgment import Judgment, Verdict
    from grm_jax.sampling.strategy import Strategy
    from grm_jax.text.messages import Example, Message

_HOME = {
    "Example": "grm_jax.text.messages",
    "Message": "grm_jax.text.messages",
    "Judge": "grm_jax.judging.judge",
    "Judgment": "grm_jax.judging.judgment",
    "Verdict": "grm_jax.judging.judgment",
    "Strategy": "grm_jax.sampling.strategy",
}


def __getattr__(name: str) -> Any:
    # Looked up on first use, so that `import grm_jax.text` does not start jax.
    if name not in _HOME:
        raise AttributeError(f"module 'grm_jax' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
