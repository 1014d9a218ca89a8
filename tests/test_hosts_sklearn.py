"""Losses as scorers of scikit-learn and as functions of SciPy's optimisers, which are run."""
import pickle

import numpy as np
import pytest

from tinytorch.checking import check_close, check_raises
from tinytorch.core.tensor import Tensor
from tinytorch.hosts import objective, value_and_grad
from tinytorch.nn import (BCELoss, BCEWithLogitsLoss, BinaryFocalLoss, CrossEntropyLoss, HingeLoss,
                          HuberLoss, LogCoshLoss, MSELoss, MultiMarginLoss, NLLLoss,
                          PoissonNLLLoss, QuantileLoss, SoftMarginLoss, TripletMarginLoss,
                          TweedieDevianceLoss)
from test_hosts import host

sklearn = host("sklearn")
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, SGDClassifier
from sklearn.metrics import hinge_loss, log_loss, make_scorer, mean_pinball_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC, LinearSVC
from tinytorch.hosts import scorer


def data(classes=0):
    "Return samples, and numbers or labels that are words."
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 3))
    y = x @ [1.0, -2.0, 0.5] + rng.normal(size=150)
    if classes:
        y = np.array(["ant", "bee", "cat"])[np.digitize(y, [0.0, 2.0][:classes - 1])]
    return x, y


@pytest.mark.parametrize("loss", [BCELoss(), BCEWithLogitsLoss(reduction="sum"), CrossEntropyLoss(), NLLLoss()])
@pytest.mark.parametrize("model", [LogisticRegression(), RandomForestClassifier(5, random_state=0),
                                   CalibratedClassifierCV(LinearSVC(), cv=2)])
def test_likelihoods_are_the_log_loss_of_two_classes(loss, model):
    x, y = data(2)
    model.fit(x[:50], y[:50])
    theirs = -log_loss(y, model.predict_proba(x))
    # at probabilities of 0 BCELoss stops at 100 as torch's, and log_loss at 36
    if not (isinstance(loss, BCELoss) and (model.predict_proba(x) == 0).any()):
        check_close(scorer(loss)(model, x, y), theirs, repr(loss), rtol=1e-9)


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), NLLLoss()])
@pytest.mark.parametrize("model", [LogisticRegression(), RandomForestClassifier(5, random_state=0),
                                   SVC(kernel="linear", probability=True, random_state=0)])
@pytest.mark.filterwarnings("ignore:.*probability")
def test_likelihoods_are_the_log_loss_of_three_classes(loss, model):
    x, y = data(3)
    model.fit(x[:50], y[:50])
    check_close(scorer(loss)(model, x, y), -log_loss(y, model.predict_proba(x)), repr(loss), rtol=1e-9)


@pytest.mark.parametrize("model", [LinearSVC(), LogisticRegression(), SGDClassifier(random_state=0)])
def test_margins_come_from_the_decision_function(model):
    x, y = data(2)
    scores = model.fit(x, y).decision_function(x)
    check_close(scorer(HingeLoss())(model, x, y), -hinge_loss(y, scores), "hinge loss")


def test_a_loss_of_classes_takes_the_decision_function_where_there_is_nothing_else():
    x, y = data(3)
    model = SVC(kernel="linear").fit(x, y)
    own = MultiMarginLoss()(model.decision_function(x), np.searchsorted(model.classes_, y)).item()
    assert scorer(MultiMarginLoss())(model, x, y) == -own


def test_order_sign_and_weights_of_a_regression():
    x, y = data()
    weight, loss = np.random.default_rng(1).uniform(0, 2, 150), QuantileLoss(0.9)
    model = LinearRegression().fit(x, y + 1)
    check_close(scorer(loss)(model, x, y, sample_weight=weight),
                -mean_pinball_loss(y, model.predict(x), alpha=0.9, sample_weight=weight), "pinball")


def test_searches_and_cross_validation():
    x, y = data(3)
    grid = {"C": [1e-4, 1.0]}
    ours = GridSearchCV(LogisticRegression(), grid, scoring=scorer(CrossEntropyLoss()), cv=3).fit(x, y)
    theirs = GridSearchCV(LogisticRegression(), grid, scoring="neg_log_loss", cv=3).fit(x, y)
    assert ours.best_params_ == theirs.best_params_ == {"C": 1.0}
    check_close(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], "scores")
    both = GridSearchCV(LogisticRegression(), grid, cv=3, refit="focal", scoring={
        "focal": scorer(CrossEntropyLoss()), "accuracy": "accuracy"}).fit(x, y)
    check_close(both.cv_results_["mean_test_focal"], ours.cv_results_["mean_test_score"], "two scores")


def test_weights_are_routed():
    x, y = data()
    weight = np.random.default_rng(1).uniform(0, 2, 150)
    with sklearn.config_context(enable_metadata_routing=True):
        model = LinearRegression().set_fit_request(sample_weight=True)
        ours, theirs, plain = [cross_val_score(model, x, y, cv=3, scoring=scoring,
                                               params={"sample_weight": weight}) for scoring in (
            scorer(MSELoss()).set_score_request(sample_weight=True),
            sklearn.metrics.get_scorer("neg_mean_squared_error").set_score_request(sample_weight=True),
            scorer(MSELoss()).set_score_request(sample_weight=False))]
    check_close(ours, theirs, "weighted scores")
    assert not np.allclose(ours, plain)


def test_a_scorer_is_cloned_and_pickled():
    x, y = data()
    model, first = LinearRegression().fit(x, y), scorer(HuberLoss(delta=0.5))
    for again in (clone(first), pickle.loads(pickle.dumps(first))):
        assert again(model, x, y) == first(model, x, y)
    assert "HuberLoss" in repr(first)


def test_make_scorer_takes_a_loss():
    x, y = data()
    ours, theirs = [cross_val_score(LinearRegression(), x, y, scoring=scoring) for scoring in (
        make_scorer(HuberLoss(), greater_is_better=False), scorer(HuberLoss()))]
    check_close(ours, theirs, "Huber loss")


def test_logarithms_of_means_are_asked_for():
    x, y = data()
    counts = np.random.default_rng(0).poisson(np.exp(0.2 * y))
    model = PoissonRegressor(alpha=0).fit(x, counts)
    for loss in (PoissonNLLLoss(), TweedieDevianceLoss()):
        check_raises(TypeError, lambda: scorer(loss), "response")
    by_log = scorer(PoissonNLLLoss(), lambda model, X: np.log(model.predict(X)))
    check_close(by_log(model, x, counts),
                scorer(PoissonNLLLoss(log_input=False, eps=0))(model, x, counts), "both forms")


def test_the_score_of_a_sum():
    "Each term asks the estimator for what it takes, and counts times its factor."
    x, y = data(2)
    weight, model = np.linspace(0, 2, len(y)), LogisticRegression().fit(x, y)
    loss = 2 * BCELoss() + CrossEntropyLoss(reduction="sum") / 4 + SoftMarginLoss()
    terms = [scorer(term)(model, x, y, sample_weight=weight) for term in loss.losses]
    check_close(scorer(loss)(model, x, y, sample_weight=weight),
                np.dot(loss.weights, terms), "the score of a sum")


def test_what_cannot_be_scored_says_why():
    (x, y), (_, three) = data(2), data(3)
    check_raises(TypeError, lambda: scorer(TripletMarginLoss()), "anchor")
    check_raises(TypeError, lambda: scorer(MSELoss), "Pass MSELoss(...)")
    check_raises(TypeError, lambda: scorer(MSELoss() + TripletMarginLoss()), "anchor")
    check_raises(TypeError, lambda: scorer(MSELoss(), response="predict"), "'predict'")
    model = LogisticRegression().fit(x, three)
    check_raises(ValueError, lambda: scorer(BinaryFocalLoss())(model, x, three), "3 classes")
    model = LogisticRegression().fit(x, y)
    check_raises(ValueError, lambda: scorer(CrossEntropyLoss())(model, x, three), "'cat'")
    check_raises(TypeError, lambda: scorer(BCELoss())(LinearSVC().fit(x, y), x, y), "predict_proba")


@pytest.mark.filterwarnings("ignore:Cannot compute class")
def test_raw_scores_in_the_place_of_probabilities_are_refused():
    "LightGBM's classifiers return them where the objective is not its own."
    lightgbm, (x, y) = host("lightgbm"), data(3)
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1,
                                    objective=objective(CrossEntropyLoss(), "lightgbm")).fit(x, y)
    check_raises(ValueError, lambda: scorer(CrossEntropyLoss())(model, x, y), "raw_score=True")
    raw = scorer(CrossEntropyLoss(), lambda model, X: model.predict(X, raw_score=True))(model, x, y)
    own = CrossEntropyLoss()(model.predict(x, raw_score=True), np.searchsorted(model.classes_, y))
    check_close(raw, -own.item(), "the score of raw scores")


# SciPy

def test_scipys_optimisers_take_a_loss():
    scipy = host("scipy.optimize")
    target = np.array([3.0, -1.0, 0.5])
    for method in ("BFGS", "L-BFGS-B", "CG"):
        result = scipy.minimize(value_and_grad(LogCoshLoss("sum")), np.ones(3), (target,), method, jac=True)
        check_close(result.x, target, method, atol=1e-4)


def test_a_function_of_tensors_is_a_regression():
    "The squared error's line is that of least squares, and check_grad agrees with the gradient."
    scipy, (x, y) = host("scipy.optimize"), data()
    f = value_and_grad(lambda w: MSELoss()(Tensor(x) @ w, y))
    result = scipy.minimize(f, [0, 0, 0], jac=True)
    check_close(result.x, np.linalg.lstsq(x, y, rcond=None)[0], "least squares", rtol=1e-4)
    error = scipy.check_grad(lambda w: f(w)[0], lambda w: f(w)[1], np.array([0.3, 0.2, -1]))
    assert error < 1e-5


def test_gradients_are_float64_and_of_the_loss():
    for dtype in (np.float32, np.float64, np.int64):
        x = np.array([1, -2], dtype)
        value, gradient = value_and_grad(MSELoss("sum"))(x, np.zeros(2, dtype))
        assert (value, gradient.dtype, gradient.tolist()) == (5.0, np.float64, [2.0, -4.0])
        assert x.tolist() == [1, -2]


def test_what_has_no_gradient_says_why():
    x = np.ones(3)
    check_raises(ValueError, lambda: value_and_grad(MSELoss("none"))(x, x), "reduction")
    check_raises(TypeError, lambda: value_and_grad(lambda w: 3.0)(x), "float")
    check_raises(ValueError, lambda: value_and_grad(lambda w: MSELoss()(w.data, x))(x), "depend")
