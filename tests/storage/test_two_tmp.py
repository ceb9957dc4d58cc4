import pytest
from grm_jax.places import Place
from tests.processes import Job
from tests.test_processes import place, alone, commands, same_run, read, said, GLOO  # noqa
from pathlib import Path


def test_two(runs, place, alone, tmp_path):
    cmds = [[a.replace("/OUT", "/t") for a in c] for c in commands(place, Path("/OUT"))]
    cmds = [[a.replace("/t/", f"{runs}/t/") if a.startswith("/t/") else a for a in c] for c in cmds]
    print(cmds)
    with Job(2, *cmds) as job:
        job.ends([0, 0])
        print(job.told(0)[-3000:])
        print("SECOND", job.told(1)[-2000:])
    there = Place(f"{runs}/t")
    print(list(there.files()))
    there.download(there.files(), tmp_path)
    numbers = ("reward", "kl", "entropy", "train/loss", "train/grad_norm", "num_tokens")
    same_run(tmp_path / "grpo", alone / "grpo", "metrics.jsonl", numbers)
    for name in ("filter.jsonl", "rollouts.jsonl"):
        assert said(read(tmp_path / "grpo" / name)) == said(read(alone / "grpo" / name)) != []
    assert said(read(tmp_path / "verdicts.jsonl")) == said(read(alone / "verdicts.jsonl"))
