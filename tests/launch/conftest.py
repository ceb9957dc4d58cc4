"""A machine to launch from: nothing on its PATH but what a test puts there."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
# What the scripts themselves may use.
TOOLS = ["bash", "cat", "dirname", "git", "gzip", "sed"]


class Machine:
    """A folder with a bin/ of the few tools that the scripts need: no gcloud, whatever is here."""

    def __init__(self, folder):
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))

    def program(self, name, text, folder=None):
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{text}")
        path.chmod(0o755)

    def recorder(self, name, then=""):
        """A stand-in that writes down how it is called."""
        self.program(name, f"printf '%s\\0' {name} \"$@\" >> {self.folder}/calls\n"
                     f"printf '\\n\\0' >> {self.folder}/calls\n{then}")  # fmt: skip

    @property
    def calls(self):
        """How the stand-ins were called: the words of each command."""
        path = self.folder / "calls"
        text = path.read_text() if path.exists() else ""
        return [call.split("\0")[:-1] for call in text.split("\n\0")[:-1]]

    def launch(self, script, words):
        return subprocess.run(
            [LAUNCH / script, *words],
            env={"PATH": str(self.bin), "TMPDIR": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def dry_run(self, script, words):
        """The commands that a dry run prints, each as its words."""
        at = words.index("--") if "--" in words else len(words)
        result = self.launch(script, [*words[:at], "--dry-run", *words[at:]])
        assert result.returncode == 0, result.stderr
        return [shlex.split(line) for line in result.stdout.splitlines()]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)
