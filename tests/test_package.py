"What a user of the package index gets: names, links, types, and a `tito` that says what it lacks."
import re
import subprocess
import sys
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    "What the index shows about the package, as setuptools writes it."
    folder = tmp_path_factory.mktemp("egg")
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)],
                   cwd=ROOT, check=True, capture_output=True)
    return Parser().parsestr(next(folder.glob("*/PKG-INFO")).read_text(encoding="utf-8"))


def test_the_index_shows_the_name_the_pythons_and_the_addresses(metadata):
    assert metadata["Name"] == "tinytorch-losses"
    classes = metadata.get_all("Classifier")
    assert "Typing :: Typed" in classes and "Programming Language :: Python :: 3.12" in classes
    addresses = dict(text.split(", ") for text in metadata.get_all("Project-URL"))
    assert {"Documentation", "Source", "Issues", "Changes"} <= addresses.keys()


def test_links_work_from_the_index(metadata):
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    assert len(links) > 8 and all(link.startswith("https://") for link in links)


def test_running_needs_numpy_alone(metadata):
    needed = [text for text in metadata.get_all("Requires-Dist") if "extra ==" not in text]
    assert [re.match(r"\w+", text)[0] for text in needed] == ["numpy"]


@pytest.mark.parametrize("home", ["checkout", "index"])
def test_tito_without_its_needs_says_what_to_install(tmp_path, home):
    "Python is started without site-packages, as where NumPy alone was installed."
    (tmp_path / "tinytorch/tito").mkdir(parents=True)
    for name in ("tinytorch_cli.py", "tinytorch/__init__.py", "tinytorch/tito/__init__.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "tinytorch/tito/cli.py").write_text("import typer")
    if home == "checkout":
        (tmp_path / "settings.ini").write_text("[DEFAULT]\n")
    done = subprocess.run([sys.executable, "-S", "tinytorch_cli.py"], cwd=tmp_path,
                          capture_output=True, text=True)
    what = '-e ".[tito]"' if home == "checkout" else "'tinytorch-losses[tito]'"
    assert done.returncode == 1 and done.stderr == (
        f"tito: typer is not installed; run: pip install {what}\n")


def test_every_install_line_names_what_exists():
    "No page sends to the package that is called tinytorch on the index; each extra is one of ours."
    extras = set(re.findall(r"^(\w+)_requirements", (ROOT / "settings.ini").read_text(), re.M))
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "tinytorch").rglob("*.py"),
             *(ROOT / "nbs").rglob("*.ipynb")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    assert not re.findall(r"""pip install[\s"'\\n,]*tinytorch(?!-losses)\b""", text)
    named = re.findall(r"(?:tinytorch-losses|\.)\[([a-z,]+)\]['\"\\]", text)
    assert len(named) > 10 and {name for names in named for name in names.split(",")} <= extras
