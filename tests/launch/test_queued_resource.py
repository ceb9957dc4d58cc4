"""queued_resource.sh: what it prints is what it does, and what it does starts grm on a worker.

gcloud is a stand-in that writes down its words, and plays one worker: scp copies into its home,
ssh runs there.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "queued_resource.sh"
WHERE = ["--project", "my-project", "--zone", "us-east5-a"]
GRM = ["grm", "train", "spct", "--output", "/runs/it's a run"]
ACTIONS = {
    "create": ["create", "pod", *WHERE, "--accelerator-type", "v5p-128"],
    "run": ["run", "pod", *WHERE, "--", *GRM],
    "logs": ["logs", "pod", *WHERE, "--node", "1", "--worker", "3"],
    "delete": ["delete", "pod", *WHERE, "--", "--quiet"],
}

# The environment that uv would make, with a grm that says what it sees and takes its time.
UV = """
[[ "$*" == "-m uv venv"* ]] || exit 0
mkdir -p .venv/bin
echo "PATH=$PWD/.venv/bin:$PATH" > .venv/bin/activate
cat > .venv/bin/grm <<'GRM'
#!/bin/bash
printf '<%s>' "$PWD" "$JAX_PLATFORMS" "$@"
sleep 2
echo ' done'
GRM
chmod +x .venv/bin/grm
"""


@pytest.fixture
def worker(machine):
    """The home of the one worker that the stand-in for gcloud knows."""
    home, tools = machine.folder / "home", machine.folder / "worker"
    home.mkdir()
    machine.program("python3", UV, tools)
    machine.program("tail", "exit 0", tools)
    machine.recorder(
        "gcloud",
        f"""
        case $4 in
            scp) {shutil.which("cp")} "$5" "{home}/${{6#*:}}" ;;
            ssh)
                cd {home} && export HOME={home} PATH={tools}:/usr/bin:/bin
                for word; do
                    [[ $word != --command=* ]] || bash -c "${{word#--command=}}"
                done
                ;;
        esac
        """,
    )
    return home


def option(command, name):
    """The value of --name=value in a command."""
    values = [word.partition("=")[2] for word in command if word.startswith(f"--{name}=")]
    assert len(values) == 1, f"{name} in {command}"
    return values[0]


@pytest.mark.parametrize("words", ACTIONS.values(), ids=ACTIONS)
def test_a_dry_run_runs_nothing_and_needs_no_gcloud(machine, words):
    before = sorted(machine.folder.rglob("*"))
    shown = machine.dry_run(SCRIPT, words)
    assert [command for command in shown if command[0] == "gcloud"]
    machine.recorder("gcloud")
    assert machine.dry_run(SCRIPT, words) == shown
    assert machine.calls == []
    assert sorted(machine.folder.rglob("*")) == sorted([*before, machine.bin / "gcloud"])


@pytest.mark.parametrize("words", ACTIONS.values(), ids=ACTIONS)
def test_gcloud_gets_the_printed_commands(machine, worker, words):
    shown = machine.dry_run(SCRIPT, words)
    result = machine.launch(SCRIPT, words)
    assert result.returncode == 0, result.stderr
    assert machine.calls == [command for command in shown if command[0] == "gcloud"]
    for command in machine.calls:
        assert command[:4] == ["gcloud", "compute", "tpus", "queued-resources"]
        assert (option(command, "project"), option(command, "zone")) == ("my-project", "us-east5-a")


def test_run_starts_the_commit_on_a_worker_and_returns(machine, worker):
    began = time.monotonic()
    result = machine.launch(SCRIPT, ACTIONS["run"])
    assert result.returncode == 0, result.stderr
    log = worker / "grm.log"
    assert not log.exists() or "done" not in log.read_text(), "it waited for the job"
    while not (log.exists() and "done" in log.read_text()):
        assert time.monotonic() - began < 300, "the job never ran"
        time.sleep(0.1)
    head = subprocess.check_output(["git", "-C", ROOT, "rev-parse", "HEAD"], text=True).strip()
    source = worker / f"grm_jax-{head[:12]}"
    said = log.read_text().strip()
    assert said == "".join(f"<{word}>" for word in [source, "tpu,cpu", *GRM[1:]]) + " done"
    files = subprocess.check_output(["git", "-C", ROOT, "ls-tree", "--name-only", head], text=True)
    assert {path.name for path in source.iterdir()} == {*files.split(), ".venv"}


def test_run_reaches_all_workers_of_all_slices(machine):
    for command in machine.dry_run(SCRIPT, ACTIONS["run"]):
        if command[0] == "gcloud":
            assert (option(command, "node"), option(command, "worker")) == ("all", "all")


def test_several_slices_and_spot_are_asked_for(machine):
    [one] = machine.dry_run(SCRIPT, ACTIONS["create"])
    assert option(one, "node-id") == "pod"
    assert option(one, "runtime-version") == "v2-alpha-tpuv5"
    assert "--spot" not in one
    more = ["--node-count", "2", "--spot", "--", "--network=my net"]
    [two] = machine.dry_run(SCRIPT, [*ACTIONS["create"], *more])
    assert (option(two, "node-count"), option(two, "node-prefix")) == ("2", "pod")
    assert "--spot" in two
    assert option(two, "network") == "my net"
    assert not any(word.startswith("--node-id") for word in two)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["start", "pod"], "there is no action 'start'; give create, run, logs or delete"),
        (["logs", *WHERE], "NAME of the queued resource is missing"),
        (["logs", "My_Pod", *WHERE], "the name is 'My_Pod'; use up to 63 of a-z"),
        (["logs", "pod", *WHERE[2:]], "--project is missing: give it, as in --project my-project"),
        (["logs", "pod", *WHERE[:2]], "--zone is missing: give it, as in --zone us-east5-a"),
        (["logs", "pod", *WHERE[:2], "--zone", "us-east5"], "--zone is 'us-east5'; a zone has"),
        (["logs", "pod", "--project", "--zone", "us-east5-a"], "--project has no value"),
        (["logs", "pod", *WHERE, "--nodes", "2"], "there is no option '--nodes'"),
        (["create", "pod", *WHERE], "--accelerator-type is missing"),
        ([*ACTIONS["create"], "--node-count", "0"], "--node-count is '0'; it counts something"),
        ([*ACTIONS["create"][:-1], "v9-8"], "--accelerator-type is 'v9-8', for which no runtime"),
        (["run", "pod", *WHERE], "there is no grm command after --: give it"),
        (
            ["run", "pod", *WHERE, "--ref", "nowhere", "--", "grm"],
            "--ref is 'nowhere', which is no",
        ),
        (ACTIONS["logs"], "gcloud is not on the PATH: install it"),
    ],
)
def test_a_mistake_gets_a_sentence_and_calls_nothing(machine, words, sentence):
    if sentence.startswith("gcloud"):
        (machine.bin / "gcloud").unlink(missing_ok=True)
    else:
        machine.recorder("gcloud")
    result = machine.launch(SCRIPT, words)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert machine.calls == []


def test_help_names_every_option(machine):
    text = machine.launch(SCRIPT, ["--help"]).stdout
    read = set(re.findall(r"^ +(--[a-z-]+)\)", (ROOT / "launch" / SCRIPT).read_text(), re.M))
    assert len(read) > 5
    assert read <= set(re.findall(r"--[a-z-]+", text))
