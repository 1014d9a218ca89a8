"Whatever PyTorch's own samples of bad input make PyTorch refuse is refused here too."
import warnings

import numpy as np
import pytest

import tinytorch.nn.functional as F

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")          # PyTorch's samples need it

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

NAMES = {"cross_entropy", "kl_div", "binary_cross_entropy", "binary_cross_entropy_with_logits"}
LOSSES = [op for op in op_db
          if op.error_inputs_func and op.name.startswith("nn.functional.") and (
              op.name.endswith("_loss") or op.name.split(".")[-1] in NAMES)]
SAMPLES = [(op.name.split(".")[-1], error.sample_input) for op in LOSSES
           for error in op.error_inputs("cpu")]


def plain(x):
    return x.detach().resolve_conj().numpy() if isinstance(x, torch.Tensor) else x


@pytest.mark.parametrize("name, sample", SAMPLES, ids=[f"{name} {i}" for i, (name, _) in enumerate(SAMPLES)])
def test_bad_sample_is_refused(name, sample):
    with np.errstate(all="ignore"), pytest.raises((ValueError, TypeError, IndexError)):
        getattr(F, name)(*map(plain, (sample.input, *sample.args)),
                         **{key: plain(value) for key, value in sample.kwargs.items()})


def test_there_are_samples():
    assert len(SAMPLES) >= 40 and len({name for name, _ in SAMPLES}) >= 8
