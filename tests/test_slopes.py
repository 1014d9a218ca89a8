"Comparisons with PyTorch's record notice what is wrong in the last digits that count."
import json

import pytest

from tinytorch.checking.slopes import check_recorded
from tinytorch.nn import MSELoss

CASE = {"options": {}, "arguments": [[1.0, 3.0], [0.0, 0.0]], "upstream": 1.0, "value": 5.0,
        "gradients": [[1.0, 3.0], [-1.0, -3.0]]}


def record(path, **changes):
    path.write_text(json.dumps({"cases": {"MSELoss": [CASE | changes]}}))
    return path


@pytest.mark.parametrize("dtype, off", [("float32", 1e-4), ("float64", 1e-5)])
def test_a_record_is_compared_to_its_last_digits(tmp_path, dtype, off):
    assert check_recorded(MSELoss, record(tmp_path / "record.json", dtype=dtype)) == 1
    with pytest.raises(AssertionError, match="MSELoss.* of float.*by PyTorch's record"):
        check_recorded(MSELoss, record(tmp_path / "value.json", dtype=dtype, value=5.0 + off))
    with pytest.raises(AssertionError, match="the gradient of `target`"):
        check_recorded(MSELoss, record(tmp_path / "slope.json", dtype=dtype,
                                       gradients=[[1.0, 3.0], [-1.0, -3.0 - off]]))


def test_the_packages_own_record_is_the_default():
    assert check_recorded(MSELoss) > 1
