# Written by `make export` from the signatures of the package: do not edit.
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .core.engine import engine as engine

__version__: str
