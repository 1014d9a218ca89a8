"Where things are."
from pathlib import Path

import pytest

from tinytorch.tito.pages import fetch

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = {"axe-core": "4.14.1", "pyodide": "314.0.7"}


def package(name: str) -> Path:
    "The files of an npm package."
    files = fetch(name, VERSIONS[name], ROOT / ".cache/npm")
    if not files: pytest.skip(f"npm cannot fetch {name}")
    return files
