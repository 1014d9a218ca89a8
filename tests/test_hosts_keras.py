"""A loss in Keras 3, each backend in a process of its own: the values and gradients of all losses
whose graph is known, training with weights, masks and columns of labels, and errors.
"""
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tinytorch.checking import check_close, check_raises
from tinytorch.nn import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, MSELoss, TripletMarginLoss
from tinytorch.nn.criterion import LOSSES, ClassLoss
from test_hosts import GRAPHS, calls


def need(*modules):
    "Skip a test where a module is missing, but not in CI. (To import Keras is to choose a backend.)"
    for module in modules:
        if os.environ.get("CI") != "true" and not find_spec(module):
            pytest.skip(f"needs {module}")


def in_process(code: str, backend: str, fails=False) -> str:
    "Return what code prints in a new process, with a backend of Keras."
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, text=True,
                          env=os.environ | {"KERAS_BACKEND": backend, "KMP_DUPLICATE_LIB_OK": "1"},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def value_and_gradient(f, target, input, **weights) -> tuple:
    "Return the value and the gradient of a loss on the backend."
    import keras
    if keras.backend.backend() == "jax":
        import jax
        return jax.value_and_grad(lambda x: f(target, x, **weights))(input)
    import torch
    x = torch.tensor(input, requires_grad=True)
    value = f(target, x, **weights)
    value.backward()
    return value.item(), x.grad.numpy()


def every_loss():
    "Compare each loss of two arguments with our own, in float32 and with Keras's layout."
    from tinytorch.hosts import to_keras
    seen = set()
    for name in GRAPHS:
        if len(LOSSES[name].domain) != 2:
            continue
        for loss, arguments in calls(name, False, ("mean",)):
            input, target = [x.astype("float32") if x.dtype.kind == "f" else x for x in arguments]
            if input.ndim < 2 or (name, target.dtype.kind, input.ndim > 2) in seen:
                continue
            seen.add((name, target.dtype.kind, input.ndim > 2))
            weight = np.arange(1.0, 1 + len(input), dtype="float32")
            moved = [np.moveaxis(x, 1, -1) if isinstance(loss, ClassLoss) and x.ndim == input.ndim
                     else x for x in (input, target)]
            value, slope = value_and_gradient(to_keras(loss), moved[1], moved[0],
                                              sample_weight=weight)
            slope = np.moveaxis(slope, -1, 1) if isinstance(loss, ClassLoss) else np.asarray(slope)
            ours = loss.value_and_gradient(input, target, sample_weight=weight)
            for one, other in zip((value, slope), ours):
                check_close(np.asarray(one), other, f"{loss!r} of {arguments}", rtol=5e-4, atol=2e-5)
    print("losses:", len({name for name, *kind in seen}))


def training():
    "Train on labels as Keras users have them, with weights of samples, and with a mask."
    import keras
    from tinytorch.hosts import to_keras
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype("float32")
    kinds = [(HuberLoss(), 1, x @ np.array([1, 2, 3], "f"), None),
             (BCEWithLogitsLoss(), 1, (x[:, :1] > 0).astype("float32"), None),
             (CrossEntropyLoss(label_smoothing=0.1), 3, x.argmax(1), x.argmax(1) * 1.0),
             (CrossEntropyLoss(), 3, x.argmax(1)[:, None].astype("float64"), None)]
    for loss, width, y, weight in kinds:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(width)])
        model.compile(keras.optimizers.Adam(0.1), loss=to_keras(loss))
        fall = model.fit(x, y, sample_weight=weight, epochs=5, verbose=0).history["loss"]
        assert fall[-1] < 0.8 * fall[0], (loss, fall)
    words, y = np.array([[1, 2, 0], [3, 0, 0]]), np.ones((2, 3, 1), "float32")
    model = keras.Sequential([keras.layers.Embedding(4, 1, mask_zero=True)])
    model.compile("sgd", loss=to_keras(MSELoss()))
    found = model.evaluate(words, y, verbose=0)
    each = (model.predict(words, verbose=0) - y) ** 2
    check_close(found, each[words > 0].mean(), "the loss of words that are not masked", rtol=1e-5)
    weight = np.array([[1, 3, 5], [2, 4, 6]], "float32")
    found = to_keras(MSELoss())(y, model(words), sample_weight=weight)
    own = MSELoss()(model.predict(words, verbose=0), y, sample_weight=weight * (words > 0))
    check_close(float(found), own.item(), "weights of samples, and a mask", rtol=1e-5)
    print("trained")


def saving(file):
    "Save and load a model with each kind of loss: the loaded one goes on training with it."
    import keras
    from tinytorch.hosts import to_keras
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    kinds = [(HuberLoss(delta=0.5), x[:, :1]),
             (CrossEntropyLoss(weight=[1.0, 2.0, 3.0], label_smoothing=0.1), x.argmax(1)),
             (0.5 * MSELoss() + HuberLoss(delta=2.0), x[:, :1])]
    for loss, y in kinds:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3 if loss is kinds[1][0] else 1)])
        model.compile("sgd", loss=to_keras(loss))
        before = model.evaluate(x, y, verbose=0)
        model.save(file)
        again = keras.models.load_model(file)
        assert repr(again.loss.loss) == repr(loss)
        check_close(again.evaluate(x, y, verbose=0), before, repr(loss), rtol=1e-5)
        check_close(before, loss(model.predict(x, verbose=0), y).item(), repr(loss), rtol=1e-4)

    class OwnLoss(MSELoss):
        pass
    config = to_keras(OwnLoss()).get_config()
    check_raises(ValueError, lambda: type(to_keras(MSELoss())).from_config(config), "compile=False")
    print("saved")


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_models_are_saved_with_their_loss(backend, tmp_path):
    need("keras", backend)
    code = f"import test_hosts_keras as t; t.saving({str(tmp_path / 'model.keras')!r})"
    assert in_process(code, backend).rstrip().endswith("saved")


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_all_losses_and_training(backend):
    need("keras", backend)
    said = in_process("import test_hosts_keras as t; t.every_loss(); t.training()", backend)
    losses, = [int(line.split()[1]) for line in said.splitlines() if line.startswith("losses:")]
    assert losses >= 30 and said.rstrip().endswith("trained")


def test_another_backend_is_told():
    need("keras")
    code = "from tinytorch.hosts import to_keras"
    without = f"import sys; sys.modules['tensorflow'] = None; {code}"
    assert "KERAS_BACKEND to jax or torch" in in_process(without, "tensorflow", fails=True)
    said = in_process(f"{code}; from tinytorch.nn import MSELoss; to_keras(MSELoss())", "numpy", True)
    assert "the backend of Keras is numpy" in said
    said = in_process(f"import sys; sys.modules['keras'] = None; {code}", "jax", fails=True)
    assert "ImportError: to_keras needs Keras 3" in said and "pip install keras" in said


def arguments_are_told():
    from tinytorch.hosts import to_keras
    check_raises(TypeError, lambda: to_keras(TripletMarginLoss()), "(anchor, positive, negative)")
    check_raises(TypeError, lambda: to_keras(MSELoss), "Pass MSELoss(...)")


def test_a_loss_of_other_arguments_is_told():
    need("keras", "jax")
    in_process("import test_hosts_keras as t; t.arguments_are_told()", "jax")
