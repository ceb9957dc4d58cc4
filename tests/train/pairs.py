"""The settings of a run and of its stage as one thing, as the command line has them."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from grm_jax.cli.commands import STAGES
from grm_jax.cli.options import read_options
from grm_jax.sharding import make_mesh
from grm_jax.train.config import RunConfig
from grm_jax.train.folder import settings_of
from grm_jax.train.run import Run
from grm_jax.train.start import start_templates, start_tokenizer


class Pair(NamedTuple):
    run: RunConfig
    cfg: Any

    @property
    def output(self) -> str:
        return self.run.output

    def settings(self) -> dict[str, Any]:
        return settings_of(self.run, self.cfg)


def change(pair: Pair, **changes: Any) -> Pair:
    """The pair with other values, each in the dataclass that has the field."""
    own = {field.name for field in fields(pair.cfg)}
    run = {name: value for name, value in changes.items() if name not in own}
    cfg = {name: value for name, value in changes.items() if name in own}
    return Pair(replace(pair.run, **run), replace(pair.cfg, **cfg))


def read(stage: str, *arguments: str) -> Pair:
    """What `grm train STAGE ARGUMENTS` takes the arguments for."""
    return Pair(*read_options(STAGES[stage], arguments, f"train {stage}"))


def opened(pair: Pair) -> Run:
    """The run as a stage has it, on as many devices as the mesh has, without its folder."""
    shape = pair.cfg.compute.mesh
    count = shape.data * max(shape.fsdp, 1) * shape.tensor
    mesh = make_mesh(shape, jax.devices()[:count])
    tokenizer = start_tokenizer(pair.run.start, pair.run.tokenizer)
    templates = start_templates(pair.run.start, pair.run.templates)
    return Run(pair.run, pair.cfg, Path(pair.output), mesh, tokenizer, templates)
