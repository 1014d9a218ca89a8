"The demo's models learn, and two runs give the same pictures."
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def show_off(folder):
    "Run the demo's training in a process of its own; return what it printed."
    code = ("from tinytorch.tito.cli import console; from tinytorch.tito.demo import show_off; "
            "import sys; show_off(console, sys.argv[1])")
    done = subprocess.run([sys.executable, "-c", code, str(folder)], encoding="utf-8",
                          capture_output=True, cwd=ROOT,
                          env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_learn_and_pictures_are_the_same_twice(tmp_path):
    printed = show_off(tmp_path / "one")
    assert show_off(tmp_path / "two").partition(
        "5. Pictures")[0] == printed.partition("5. Pictures")[0]
    right = {name: float(share)
             for name, share in re.findall(r"(digits +\w+|breast cancer).* ([\d.]+)% right",
                              printed)}
    assert (right["digits              linear"] > 93 and right["digits              two"] > 96
            and right["breast cancer"] > 95)
    off = [float(number) for number in re.findall(r"off by ([\d.]+)", printed)]
    assert off[1] > 1.5 * off[0] and off[2] < 1.1 * off[0]
    pictures = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
                for name in ("one", "two")]
    assert (pictures[0] == pictures[1]
            and sorted(pictures[0]) == ["loss_curves.png", "losses_and_slopes.png"])
