"""What all stages of training share: the run's settings, and its open folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jax.sharding import Mesh

from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.kinds import Learns
from grm_jax.judging.samples import SampleSource
from grm_jax.judging.sources import open_judge
from grm_jax.randomness import stage_seed
from grm_jax.sharding import make_mesh
from grm_jax.text.prompts import Templates, load_templates
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.config import RunConfig, TrainingConfig
from grm_jax.train.folder import run_folder
from grm_jax.train.memory import keep_freed_memory
from grm_jax.train.start import start_templates, start_tokenizer
from grm_jax.train.step import check_batch


@dataclass(frozen=True)
class Run:
    """An open run: its settings, and what is loaded before a stage trains.

    `output` is held by this process; `templates` is None for the built-in ones.
    """

    config: RunConfig
    training: TrainingConfig
    output: Path
    mesh: Mesh
    tokenizer: Tokenizer
    templates: Path | None

    def load_templates(self) -> Templates:
        """The prompt templates."""
        return load_templates(self.templates)

    def seed_of(self, name: str) -> int:
        """The seed of one part of the run."""
        return stage_seed(self.config.seed, name)

    def open_judge(
        self, config: JudgeConfig, name: str, *, kind: Learns | None = None, hinted: bool = False
    ) -> SampleSource:
        """The judge of a config, by default the start model, with the seed of the part `name`.

        kind: where the config names none.
        """
        return open_judge(
            replace(config, kind=config.kind or kind),
            self.config.start,
            seed=self.seed_of(name),
            hinted=hinted,
            templates=None if self.templates is None else str(self.templates),
            mesh=self.training.compute.mesh,
            chat=self.config.chat if config.model is None else None,
        )


@contextmanager
def open_run(
    command: str,
    run: RunConfig,
    training: TrainingConfig,
    *,
    sequences: int,
    name: str = "batch.sequences",
    templates: Path | None = None,
) -> Iterator[Run]:
    """Checks what a run needs and holds its folder.

    Args:
        command: such as "grm train sft".
        training: the stage's settings; all of them are written into the folder.
        sequences: of a batch, each of which one device has whole. name: what they are called.
        templates: instead of the run's own.

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    keep_freed_memory()
    mesh = make_mesh(training.compute.mesh)
    check_batch(sequences, training.compute.microbatches, mesh, name)
    tokenizer = start_tokenizer(run.start, run.tokenizer, run.chat)
    templates = templates or start_templates(run.start, run.templates)
    with run_folder(command, run.output, run, training) as output:
        yield Run(run, training, output, mesh, tokenizer, templates)
