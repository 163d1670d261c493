import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def test_damaged_input_is_refused_or_read_and_nothing_worse():
    paths = os.pathsep.join([str(FOLDER), str(FOLDER.parent)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fuzz", "--number", "60", "--seed", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
