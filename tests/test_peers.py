"""Every loss of optax and Keras has its place in the table of the chooser, and where the two are
equal, they are.
"""
import json
from pathlib import Path

import numpy as np
import pytest

import tinytorch.nn as nn
import tinytorch.nn.functional as F

PEERS = json.loads((Path(__file__).resolve().parents[1]
                    / "tinytorch/data/peers.json").read_text(encoding="utf-8"))
rng = np.random.default_rng(0)
X, T = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
SIGN, LABEL, CLASS, P = (np.where(T > 0, 1.0, -1.0), (T > 0).astype(float), rng.integers(0, 4, 6),
                         np.exp(T) / np.exp(T).sum(1, keepdims=True))
LOG_P = X - np.log(np.exp(X).sum(1, keepdims=True))


@pytest.mark.parametrize("name, ours", [(name, ours) for rows in PEERS.values() for name, ours, _ in rows if ours])
def test_named_loss_exists(name, ours):
    made = eval(ours, {**vars(nn), **{x: getattr(nn, x) for x in nn.__all__}, "functional": F})
    assert callable(made)


def test_all_of_optax_is_there():
    losses = pytest.importorskip("optax.losses")
    assert {row[0] for row in PEERS["optax 0.2.8"]} == {name for name in dir(losses)
                                                        if not name.startswith("_")}


OPTAX = {       # name: (optax's losses of each sample, our loss)
    "squared_error": (lambda o: o.squared_error(X, T), lambda: nn.MSELoss("none")(X, T)),
    "l2_loss": (lambda o: 2 * o.l2_loss(X, T), lambda: nn.MSELoss("none")(X, T)),
    "huber_loss": (lambda o: o.huber_loss(X, T), lambda: nn.HuberLoss("none")(X, T)),
    "log_cosh": (lambda o: o.log_cosh(X, T), lambda: nn.LogCoshLoss("none")(X, T)),
    "hinge_loss": (lambda o: o.hinge_loss(X, SIGN), lambda: nn.HingeLoss("none")(X, SIGN)),
    "perceptron_loss": (lambda o: o.perceptron_loss(X, SIGN), lambda: nn.PerceptronLoss("none")(X, SIGN)),
    "multiclass_hinge_loss": (lambda o: o.multiclass_hinge_loss(X, CLASS), lambda: nn.CategoricalHingeLoss("none")(X, CLASS)),
    "multiclass_perceptron_loss": (lambda o: o.multiclass_perceptron_loss(X, CLASS), lambda: nn.MulticlassPerceptronLoss("none")(X, CLASS)),
    "multiclass_sparsemax_loss": (lambda o: o.multiclass_sparsemax_loss(X, CLASS), lambda: nn.SparsemaxLoss(reduction="none")(X, CLASS)),
    "sparsemax_loss": (lambda o: o.sparsemax_loss(X[:, 0], LABEL[:, 0]), lambda: nn.SparsemaxLoss(reduction="none")(np.stack([0 * X[:, 0], X[:, 0]], 1), LABEL[:, 0].astype(int))),
    "poly_loss_cross_entropy": (lambda o: o.poly_loss_cross_entropy(X, np.eye(4)[CLASS]), lambda: nn.PolyLoss(2.0, reduction="none")(X, CLASS)),
    "sigmoid_binary_cross_entropy": (lambda o: o.sigmoid_binary_cross_entropy(X, LABEL), lambda: nn.BCEWithLogitsLoss(reduction="none")(X, LABEL)),
    "sigmoid_focal_loss": (lambda o: o.sigmoid_focal_loss(X, LABEL, alpha=0.25, gamma=2.0), lambda: nn.BinaryFocalLoss(0.25, 2.0, "none")(X, LABEL)),
    "softmax_cross_entropy": (lambda o: o.softmax_cross_entropy(X, P), lambda: nn.CrossEntropyLoss(reduction="none")(X, P)),
    "softmax_cross_entropy_with_integer_labels": (lambda o: o.softmax_cross_entropy_with_integer_labels(X, CLASS), lambda: nn.CrossEntropyLoss(reduction="none")(X, CLASS)),
    "kl_divergence": (lambda o: o.kl_divergence(LOG_P, P), lambda: nn.KLDivLoss("none")(LOG_P, P).data.sum(-1)),
    "kl_divergence_with_log_targets": (lambda o: o.kl_divergence_with_log_targets(LOG_P, np.log(P)), lambda: nn.KLDivLoss("none", log_target=True)(LOG_P, np.log(P)).data.sum(-1)),
    "cosine_distance": (lambda o: o.cosine_distance(X, T), lambda: nn.CosineDistanceLoss("none")(X, T)),
    "cosine_similarity": (lambda o: o.cosine_similarity(X, T), lambda: F.cosine_similarity(X, T)),
    "ranking_softmax_loss": (lambda o: o.ranking_softmax_loss(X, P, reduce_fn=None), lambda: nn.RankingSoftmaxLoss("none")(X, P)),
    "binary_dice_loss": (lambda o: o.binary_dice_loss(X, LABEL, smooth=1.0), lambda: nn.DiceLoss(smooth=2.0, reduction="none")(X, LABEL)),
    "triplet_margin_loss": (lambda o: o.triplet_margin_loss(X, T, X[::-1] * 0.5), lambda: nn.TripletMarginLoss(eps=0.0, reduction="none")(X, T, X[::-1] * 0.5)),
}


@pytest.mark.parametrize("name", OPTAX)
def test_equals_optax(name):
    losses = pytest.importorskip("optax.losses")
    theirs, ours = OPTAX[name]
    np.testing.assert_allclose(np.asarray(getattr(ours(), "data", ours())),
                               np.asarray(theirs(losses)), rtol=2e-5, atol=2e-6)


# by keras 3.15.1, of the arrays below: `python tests/test_peers.py` in an environment with keras
# prints them
A, B, POSITIVE = np.array([[0.2, -1.0, 0.7], [1.5, 0.3, -0.4]]), np.array(
    [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]), np.array([[0.5, 2.0, 1.0], [3.0, 0.1, 0.7]])
EMBEDDINGS, GROUPS = (np.array([[1.0, 0.2], [0.9, 0.4], [-0.3, 1.0], [0.1, 0.8]]),
                      np.array([0, 0, 1, 1]))
OURS = {
    "LogCosh": lambda: nn.LogCoshLoss()(A, B),
    "MeanSquaredLogarithmicError": lambda: nn.MSLELoss()(POSITIVE, B),
    "MeanAbsolutePercentageError": lambda: nn.MAPELoss()(A, POSITIVE),
    "Poisson": lambda: nn.PoissonNLLLoss(log_input=False, eps=1e-7)(POSITIVE, B),
    "SquaredHinge": lambda: nn.SquaredHingeLoss()(A, 2 * B - 1),
    "CosineSimilarity": lambda: nn.CosineDistanceLoss()(A, POSITIVE) - 1,
    "Tversky": lambda: nn.TverskyLoss(0.7, 0.3, 1e-7)(A.reshape(1, 6), B.reshape(1, 6)),
    "BinaryFocalCrossentropy": lambda: nn.BinaryFocalLoss()(A, B),
    "CategoricalGeneralizedCrossEntropy": lambda: nn.GeneralizedCrossEntropyLoss(0.5)(A, [2, 0]),
    "Circle": lambda: nn.CircleLoss(gamma=8.0)(EMBEDDINGS, GROUPS)}
KERAS = {"LogCosh": 0.3865921, "MeanSquaredLogarithmicError": 0.1407922,
         "MeanAbsolutePercentageError": 107.8571472, "Poisson": 0.9774859, "SquaredHinge": 1.53,
         "CosineSimilarity": -0.2243383, "Tversky": 0.3833267, "BinaryFocalCrossentropy": 0.2672377,
         "CategoricalGeneralizedCrossEntropy": 0.4221643, "Circle": 0.3946165}


@pytest.mark.parametrize("name", OURS)
def test_equals_keras(name):
    np.testing.assert_allclose(OURS[name]().item(), KERAS[name], rtol=2e-5)


def record():
    "Keras's values, where it is installed."
    from keras import losses as k
    unit = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)
    soft = np.exp(A) / np.exp(A).sum(1, keepdims=True)
    calls = {
        "LogCosh": k.LogCosh()(B, A),
        "MeanSquaredLogarithmicError": k.MeanSquaredLogarithmicError()(B, POSITIVE),
        "MeanAbsolutePercentageError": k.MeanAbsolutePercentageError()(POSITIVE, A),
        "Poisson": k.Poisson()(B, POSITIVE), "SquaredHinge": k.SquaredHinge()(2 * B - 1, A),
        "CosineSimilarity": k.CosineSimilarity()(POSITIVE, A),
        "Tversky": k.Tversky(alpha=0.3, beta=0.7)(B, 1 / (1 + np.exp(-A))),
        "BinaryFocalCrossentropy": k.BinaryFocalCrossentropy(from_logits=True)(B, A),
        "CategoricalGeneralizedCrossEntropy": k.CategoricalGeneralizedCrossEntropy(q=0.5)(
            np.array([2, 0]), soft),
        "Circle": k.Circle(gamma=8.0)(GROUPS, unit)}
    print({name: round(float(value), 7) for name, value in calls.items()})


if __name__ == "__main__":
    record()
