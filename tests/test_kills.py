import json
import subprocess
import sys

from conftest import ROOT


def test_killed_commands_leave_what_undisturbed_ones_leave(run, tmp_path):
    script, numbers = ROOT / "scripts" / "kills.py", tmp_path / "kills.json"
    command = [sys.executable, script, "--run", run, "--kills", "3", "--json", numbers]
    command += ["--commands", "generate", "prepare", "merge", "encode"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    for tally in json.loads(numbers.read_text()).values():
        assert tally["kills"] >= 3
        assert tally["unequal"] == tally["stray"] == tally["failed"] == 0
