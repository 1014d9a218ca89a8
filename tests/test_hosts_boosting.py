"""The losses as objectives of gradient boosting: real training, beside the library's own
objective where it has the same one.
"""
import pickle
import warnings

import numpy as np
import pytest

from tinytorch.checking import check_close, check_raises
from tinytorch.hosts import metric, objective
from tinytorch.nn import (BCEWithLogitsLoss, BinaryFocalLoss, CrossEntropyLoss, FocalLoss,
                          FunctionLoss, HuberLoss, ListMLELoss, ListNetLoss, LogCoshLoss, MSELoss,
                          PoissonNLLLoss, QuantileLoss, RankingSoftmaxLoss, RankNetLoss,
                          SparsemaxLoss, TripletMarginLoss, TweedieDevianceLoss)
from tinytorch.hosts.boosting import CatObjective, derivatives, mean_loss
from test_hosts import host

ROUNDS = 12


def data(kind="real"):
    "Return samples, labels of a kind, and weights; the first 300 are for training."
    rng = np.random.default_rng(0)
    x = rng.normal(size=(450, 4))
    mean = x[:, 0] - 0.5 * x[:, 1] * x[:, 2]
    labels = {"real": lambda: mean + rng.standard_t(3, size=450),
              "count": lambda: rng.poisson(np.exp(0.5 * mean)),
              "binary": lambda: mean + rng.normal(size=450) > 0,
              "class": lambda: np.digitize(mean + 0.5 * rng.normal(size=450), [-0.7, 0.7])}
    return x, labels[kind]().astype(float), rng.uniform(0.5, 2, 450)


def by_xgboost(kind, own=None, **params):
    "Return the raw scores of held-out samples."
    xgb, (x, y, w) = host("xgboost"), data(kind)
    params = {"min_child_weight": 0, "reg_lambda": 0, "max_depth": 3, "nthread": 1} | params
    train = xgb.DMatrix(x[:300], y[:300], weight=w[:300])
    booster = xgb.train(params, train, ROUNDS, obj=own)
    return booster.predict(xgb.DMatrix(x[300:]), output_margin=True)


def by_lightgbm(kind, objective, **params):
    "Return the raw scores of held-out samples."
    lgb, (x, y, w) = host("lightgbm"), data(kind)
    params = {"objective": objective, "boost_from_average": False, "num_leaves": 6, "verbose": -1,
              "num_threads": 1, "min_sum_hessian_in_leaf": 0} | params
    booster = lgb.train(params, lgb.Dataset(x[:300], y[:300], weight=w[:300]), ROUNDS)
    return booster.predict(x[300:], raw_score=True)


def by_catboost(kind, objective, **params):
    "Return the raw scores of held-out samples."
    cat, (x, y, w) = host("catboost"), data(kind)
    shown = {"class": {"eval_metric": "MultiClass", "classes_count": 3},
             "binary": {"eval_metric": "Logloss"}}.get(kind, {"eval_metric": "RMSE"})
    shown |= {} if kind == "class" else {"boost_from_average": False}
    params = {"loss_function": objective, "iterations": ROUNDS, "depth": 3, "thread_count": 1,
              "learning_rate": 0.3, "l2_leaf_reg": 0, "leaf_estimation_method": "Newton",
              "bootstrap_type": "No",
              "leaf_estimation_iterations": 1, "leaf_estimation_backtracking": "No",
              "random_strength": 0, "verbose": False, "allow_writing_files": False} | shown | params
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = cat.CatBoost(params).fit(x[:300], y[:300], sample_weight=w[:300])
    return model.predict(x[300:], prediction_type="RawFormulaVal")


# the loss, the labels, the library's objective and its options, its first score and ours
XGBOOST = [
    (MSELoss(), "real", {"objective": "reg:squarederror"}, 0.5, 0.5),
    (PoissonNLLLoss(), "count", {"objective": "count:poisson", "max_delta_step": 0}, 1.0, 0.0),
    (TweedieDevianceLoss(1.4), "count",
     {"objective": "reg:tweedie", "tweedie_variance_power": 1.4}, 1.0, 0.0),
    (BCEWithLogitsLoss(), "binary", {"objective": "binary:logistic"}, 0.5, 0.0),
    (CrossEntropyLoss(), "class", {"objective": "multi:softprob", "num_class": 3}, 0.0, 0.0)]


@pytest.mark.parametrize("loss, kind, options, start, score", XGBOOST)
def test_the_trees_of_xgboost(loss, kind, options, start, score):
    theirs = by_xgboost(kind, base_score=start, **options)
    classes = {"num_class": 3} if kind == "class" else {}
    ours = by_xgboost(kind, objective(loss, "xgboost"), base_score=score, **classes)
    check_close(ours, theirs, f"scores by {loss!r}", rtol=1e-3, atol=1e-3)


LIGHTGBM = [
    (MSELoss(), "real", "regression", {}),
    (HuberLoss(delta=0.8), "real", "huber", {"alpha": 0.8}),
    (PoissonNLLLoss(), "count", "poisson", {"poisson_max_delta_step": 1e-9}),
    (TweedieDevianceLoss(1.4), "count", "tweedie", {"tweedie_variance_power": 1.4}),
    (BCEWithLogitsLoss(), "binary", "binary", {}),
    (CrossEntropyLoss(), "class", "multiclass", {"num_class": 3})]


@pytest.mark.parametrize("loss, kind, name, options", LIGHTGBM)
def test_the_trees_of_lightgbm(loss, kind, name, options):
    theirs = by_lightgbm(kind, name, **options)
    ours = by_lightgbm(kind, objective(loss, "lightgbm"), **options)
    check_close(ours, theirs, f"scores by {loss!r}", rtol=1e-4, atol=1e-4)


CATBOOST = [(MSELoss(), "real", "RMSE"), (BCEWithLogitsLoss(), "binary", "Logloss"),
            (PoissonNLLLoss(), "count", "Poisson"),
            (TweedieDevianceLoss(1.4), "count", "Tweedie:variance_power=1.4"),
            (CrossEntropyLoss(), "class", "MultiClass")]


@pytest.mark.parametrize("loss, kind, name", CATBOOST)
def test_the_trees_of_catboost(loss, kind, name):
    theirs, ours = by_catboost(kind, name), by_catboost(kind, objective(loss, "catboost"))
    check_close(ours, theirs, f"scores by {loss!r}", rtol=1e-4, atol=1e-4)


def held_out(loss, scores, kind):
    "Return the mean loss of held-out samples."
    return loss(np.asarray(scores, float), data(kind)[1][300:]).item()


def test_a_quantile_is_met_as_well_as_by_the_library():
    """The libraries set the leaves to quantiles afterwards, so that the trees differ; ours take
    steps along the mean gradient, which want a larger rate.
    """
    loss = QuantileLoss(0.8)
    theirs = by_xgboost("real", objective="reg:quantileerror", quantile_alpha=0.8, base_score=0.0)
    ours = by_xgboost("real", objective(loss, "xgboost"), base_score=0.0, learning_rate=0.6)
    assert held_out(loss, ours, "real") < 1.1 * held_out(loss, theirs, "real")
    theirs = by_lightgbm("real", "quantile", alpha=0.8)
    ours = by_lightgbm("real", objective(loss, "lightgbm"), learning_rate=0.3)
    assert held_out(loss, ours, "real") < 1.1 * held_out(loss, theirs, "real")


@pytest.mark.parametrize("loss, kind", [(BinaryFocalLoss(), "binary"), (LogCoshLoss(), "real"),
                                        (FocalLoss(), "class")])
def test_losses_that_hardly_a_library_has(loss, kind):
    classes = {"num_class": 3} if kind == "class" else {}
    start = held_out(loss, np.zeros((150, 3) if classes else 150), kind)
    for scores in (
            by_xgboost(kind, objective(loss, "xgboost"), base_score=0.0, reg_lambda=1, **classes),
            by_lightgbm(kind, objective(loss, "lightgbm"), lambda_l2=1, **classes),
            by_catboost(kind, objective(loss, "catboost"), l2_leaf_reg=1)):
        assert held_out(loss, scores, kind) < 0.9 * start


def test_the_metric_for_xgboost():
    xgb, (x, y, w), record = host("xgboost"), data(), {}
    test = xgb.DMatrix(x[300:], y[300:], weight=w[300:])
    xgb.train({"eval_metric": "rmse", "nthread": 1}, xgb.DMatrix(x[:300], y[:300]), 5,
              obj=objective(MSELoss(), "xgboost"), custom_metric=metric(MSELoss(), "xgboost"),
              evals=[(test, "test")], evals_result=record, verbose_eval=False)
    record = record["test"]
    check_close(record["MSELoss"], np.square(record["rmse"]), "the metric", rtol=1e-5)


def test_the_metric_for_lightgbm():
    lgb, (x, y, w), record = host("lightgbm"), data(), {}
    train = lgb.Dataset(x[:300], y[:300])
    test = lgb.Dataset(x[300:], y[300:], weight=w[300:], reference=train)
    lgb.train({"objective": objective(MSELoss(), "lightgbm"), "metric": "l2", "num_threads": 1,
               "verbose": -1}, train, 5, valid_sets=[test], feval=metric(MSELoss(), "lightgbm"),
              callbacks=[lgb.record_evaluation(record)])
    assert metric(MSELoss(), "lightgbm")(y, y) == ("MSELoss", 0.0, False)
    check_close(record["valid_0"]["MSELoss"], record["valid_0"]["l2"], "the metric", rtol=1e-5)


@pytest.mark.parametrize("loss, kind, theirs, power", [
    (MSELoss(), "real", "RMSE", 2), (CrossEntropyLoss(), "class", "MultiClass", 1)])
def test_the_metric_for_catboost(loss, kind, theirs, power):
    cat, (x, y, w), records = host("catboost"), data(kind), []
    test = cat.Pool(x[300:], y[300:], weight=w[300:])
    classes = {"classes_count": 3} if kind == "class" else {}
    for shown in (metric(loss, "catboost"), theirs):
        model = cat.CatBoost({"loss_function": objective(loss, "catboost"), "eval_metric": shown,
                              "iterations": 5, "verbose": False, "thread_count": 1,
                              "allow_writing_files": False} | classes)
        model.fit(x[:300], y[:300], eval_set=test)
        records.append(next(iter(model.evals_result_["validation"].values())))
    check_close(records[0], np.power(records[1], power), "the metric", rtol=1e-5)


def test_the_metric_of_parts_adds_up_to_that_of_all():
    "CatBoost may ask for parts of the samples, and adds both numbers."
    scores, target, weight = np.random.default_rng(0).uniform(size=(3, 10))
    whole, *parts = [metric(MSELoss(), "catboost").evaluate([scores[part]], target[part], weight[part])
                     for part in (slice(None), slice(0, 4), slice(4, 10))]
    check_close(np.sum(parts, axis=0), whole, "the sums of two parts")
    check_close(whole[1], weight.sum(), "the weight of all")


@pytest.mark.parametrize("loss", [CrossEntropyLoss(weight=[1.0, 2.0, 0.5]),
                                  CrossEntropyLoss(weight=[1.0, 2.0, 0.5], ignore_index=1),
                                  FocalLoss() + 2 * FocalLoss(gamma=1.0)])
def test_parts_of_a_metric_with_weights_of_classes_add_up(loss):
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(10, 3)), np.array([0, 1, 2, 2, 0, 2, 1, 0, 1, 0])
    weight, own = rng.uniform(size=10), metric(loss, "catboost")
    whole, *parts = [own.evaluate(list(scores[part].T), target[part], weight[part])
                     for part in (slice(None), slice(0, 3), slice(3, 10))]
    check_close(np.sum(parts, axis=0), whole, "the sums of two parts")
    mean = loss(scores, target, sample_weight=weight).item()
    check_close(own.get_final_error(*np.sum(parts, axis=0)), mean, "the mean")


def test_estimators_of_xgboost_are_trained_as_by_train():
    x, y, w = data("real")
    xgb, loss = host("xgboost"), HuberLoss()
    model = xgb.XGBRegressor(n_estimators=ROUNDS, max_depth=3, min_child_weight=0, reg_lambda=0,
                             base_score=0.0, n_jobs=1, objective=objective(loss, "xgboost"),
                             eval_metric=metric(loss, "xgboost"))
    model.fit(x[:300], y[:300], sample_weight=w[:300], eval_set=[(x[300:], y[300:])], verbose=False)
    scores = by_xgboost("real", objective(loss, "xgboost"), base_score=0.0)
    check_close(model.predict(x[300:]), scores, "predictions of XGBRegressor", rtol=1e-4, atol=1e-4)
    shown = model.evals_result()["validation_0"]["HuberLoss"][-1]
    check_close(shown, held_out(loss, scores, "real"), "its metric", rtol=1e-4)


def test_estimators_of_lightgbm_are_trained_as_by_train():
    (x, y, w), lgb, loss = data("real"), host("lightgbm"), HuberLoss()
    model = lgb.LGBMRegressor(n_estimators=ROUNDS, num_leaves=6, min_child_weight=0, verbose=-1,
                              n_jobs=1, objective=objective(loss, "lightgbm"))
    model.fit(x[:300], y[:300], sample_weight=w[:300], eval_set=[(x[300:], y[300:])],
              eval_metric=metric(loss, "lightgbm"))
    scores = by_lightgbm("real", objective(loss, "lightgbm"))
    check_close(model.predict(x[300:]), scores, "predictions of LGBMRegressor")
    check_close(model.evals_result_["valid_0"]["HuberLoss"][-1], held_out(loss, scores, "real"),
                "its metric")


def test_curvatures_are_positive():
    scores, target = np.array([0.0, 3.0, -3.0]), np.zeros(3)
    check_close(derivatives(HuberLoss(), "xgboost", scores, target)[1], [1, 1, 1], "Huber's")
    focal = BinaryFocalLoss()
    moved = np.array([0.0, 6.0, -1.0])
    curvature = type(focal)(reduction="sum").curvature(moved[1:], np.zeros(2))
    assert curvature.min() < 0
    check_close(derivatives(focal, "xgboost", moved, target)[1][1:], np.abs(curvature), "focal's")
    half = derivatives(BCEWithLogitsLoss(), "xgboost", np.zeros(1), np.ones(1))
    check_close(half, [[-0.5], [0.25]], "a logit of 0")
    far = derivatives(BCEWithLogitsLoss(), "xgboost", np.array([60.0]), np.ones(1))
    assert far[1] == 1e-16


def test_a_matrix_of_catboost_has_no_negative_eigenvalue():
    from tinytorch.hosts.boosting import definite_hessian
    scores, loss = np.array([4.0, 0.0, -1.0]), FocalLoss(reduction="sum")
    rows, targets = np.tile(scores, (3, 1)), np.full(3, 2)
    hessian = loss.hessian_product(rows, targets, np.eye(3))
    values = np.linalg.eigvalsh(hessian)
    assert values[0] < -0.01
    made = np.linalg.eigvalsh(definite_hessian(loss, scores, 2))
    check_close(made, np.sort(np.abs(values)), "the eigenvalues", atol=1e-9)


def test_what_is_refused():
    check_raises(ValueError, lambda: objective(MSELoss(), "sklearn"), "library is 'sklearn'")
    check_raises(TypeError, lambda: metric(TripletMarginLoss(), "lightgbm"), "anchor, positive")
    for loss in (SparsemaxLoss(), ListMLELoss(), RankNetLoss()):
        check_raises(TypeError, lambda: objective(loss, "xgboost"), type(loss).__name__, "graph")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr("tinytorch.hosts.boosting.find_spec", lambda name: None)
    check_raises(ImportError, lambda: objective(MSELoss(), "catboost"),
                 "pip install 'tinytorch-losses[hosts]'")


def estimators():
    "Yield estimators of each library with our objective and metric."
    loss, few = HuberLoss(delta=0.7), {"n_estimators": 3, "n_jobs": 1}
    yield host("xgboost").XGBRegressor(objective=objective(loss, "xgboost"), **few,
                                       eval_metric=metric(loss, "xgboost"))
    yield host("lightgbm").LGBMRegressor(objective=objective(loss, "lightgbm"), verbose=-1, **few)
    yield host("catboost").CatBoostRegressor(
        loss_function=objective(loss, "catboost"), eval_metric=metric(loss, "catboost"),
        iterations=3, thread_count=1, verbose=False, allow_writing_files=False)


@pytest.mark.parametrize("which", range(3), ids=["xgboost", "lightgbm", "catboost"])
def test_estimators_are_searched_and_pickled(which):
    "In a search estimators are cloned, and with two jobs pickled."
    host("sklearn")
    from sklearn.model_selection import GridSearchCV
    from tinytorch.hosts import scorer
    model, (x, y, _) = [*estimators()][which], data()
    searched = GridSearchCV(model, {"max_depth": [1, 4]}, scoring=scorer(HuberLoss(delta=0.7)), cv=2)
    assert np.isfinite(searched.fit(x, y).cv_results_["mean_test_score"]).all()
    again = pickle.loads(pickle.dumps(searched.best_estimator_))
    check_close(again.predict(x), searched.predict(x), "predictions of a pickled estimator")
    assert "delta=0.7" in repr(objective(HuberLoss(delta=0.7), "xgboost"))


def test_one_score_for_several_classes_is_told():
    for library in ("xgboost", "lightgbm"):
        for made in (objective, metric):
            function = made(CrossEntropyLoss(), library)
            check_raises(ValueError, lambda: function(np.array([0, 2]), np.zeros(2)), "Set num_class")


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
@pytest.mark.parametrize("loss, kind, same", [
    (0.25 * MSELoss() + 0.75 * MSELoss("sum"), "real", MSELoss()),
    (0.25 * BCEWithLogitsLoss() + 0.75 * BinaryFocalLoss(gamma=0), "binary", BCEWithLogitsLoss()),
    (0.25 * CrossEntropyLoss() + 0.75 * FocalLoss(gamma=0), "class", CrossEntropyLoss())])
def test_sums_are_trained_as_the_loss_that_they_are(loss, kind, same, library):
    "Two terms that are the same loss, as trees and as metrics, with weights of samples."
    by = {"xgboost": by_xgboost, "lightgbm": by_lightgbm, "catboost": by_catboost}[library]
    options = {"num_class": 3} if kind == "class" and library != "catboost" else {}
    ours, theirs = [by(kind, objective(x, library), **options) for x in (loss, same)]
    check_close(ours, theirs, f"scores by {loss!r}", rtol=1e-5, atol=1e-5)
    x, y, weight = data(kind)
    scores = np.random.default_rng(0).normal(size=(len(y), 3) if kind == "class" else len(y))
    values = [mean_loss(x, library, scores, y, weight) for x in (loss, same)]
    check_close(*values, f"the metric of {loss!r}")


def test_the_derivatives_of_a_sum():
    "Each term times its factor; the floor is under the curvature of the sum."
    x, t = np.linspace(-3, 3, 7), np.zeros(7)
    gradient, curvature = objective(2 * HuberLoss() + 0.5 * MSELoss(), "xgboost")(t, x)
    check_close(gradient, 2 * np.clip(x, -1, 1) + x, "the gradient")
    check_close(curvature, np.where(np.abs(x) < 1, 3, 1), "the curvature", atol=1e-9)


def test_classes_are_refused_and_terms_that_cannot_be_boosted():
    check_raises(TypeError, lambda: objective(HuberLoss, "xgboost"), "Pass HuberLoss(...)")
    for term in (TripletMarginLoss(), FunctionLoss(sum)):
        check_raises(TypeError, lambda: metric(MSELoss() + term, "xgboost"), type(term).__name__)


def test_gradient_and_curvature_come_from_one_sweep(monkeypatch):
    from tinytorch.core import engine
    x, t = np.random.default_rng(0).normal(size=(2, 5, 3))[0], np.array([0, 1, 2, 2, 0])
    runs, run = [], engine.run
    monkeypatch.setattr(engine, "run", lambda *arguments: runs.append(1) or run(*arguments))
    for loss in (CrossEntropyLoss(), FocalLoss()):
        gradient, curvature = derivatives(loss, "xgboost", x, t)
        assert len(runs) == 1
        added = type(loss)(reduction="sum")
        check_close(gradient, added.value_and_gradient(x, t)[1], f"the gradient of {loss!r}")
        check_close(curvature, added.curvature(x, t, bound=True), f"the bound of {loss!r}")
        runs.clear()


@pytest.mark.parametrize("loss, target", [
    (CrossEntropyLoss(), [0, -100, 1]), (CrossEntropyLoss(weight=[1.0, 2.0, 0.0]), [0, 2, 1]),
    (CrossEntropyLoss() + 0.5 * FocalLoss(), [0, -100, 1])])
def test_what_does_not_count_has_no_curvature(loss, target):
    scores = np.random.default_rng(0).normal(size=(3, 3))
    gradient, curvature = objective(loss, "xgboost")(np.array(target, float), scores)
    kept = objective(loss, "xgboost")(np.array(target, float)[[0, 2]], scores[[0, 2]])
    assert not gradient[1].any() and not curvature[1].any()
    for part, of_kept in zip((gradient, curvature), kept):
        check_close(part[[0, 2]], of_kept, "the others are as without it")


# groups

RANKINGS = [ListNetLoss(), RankingSoftmaxLoss(), 2 * ListNetLoss() + RankingSoftmaxLoss()]
SIZES = np.array([3, 1, 4, 0, 3, 6])


def ranked(groups=60):
    "Return samples, their groups, and relevances that count from the group's last, 0, upwards."
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 9, groups)
    x = rng.normal(size=(sizes.sum(), 4))
    score, lists = x[:, 0] - 0.5 * x[:, 1] * x[:, 2], np.split(np.arange(len(x)), np.cumsum(sizes)[:-1])
    return x, sizes, np.concatenate([np.argsort(np.argsort(score[items])) for items in lists])


def in_order(scores, labels, sizes) -> float:
    "Return the share of the pairs of a group that are in the right order."
    right = []
    for s, y in zip(*[np.split(each, np.cumsum(sizes)[:-1]) for each in (scores, labels)]):
        above = y[:, None] > y
        right.extend((s[:, None] > s)[above])
    return np.mean(right)


def rank_by_xgboost(x, y, sizes, own=None, **params):
    xgb, half = host("xgboost"), len(sizes) // 2
    cut, groups = sizes[:half].sum(), np.repeat(np.arange(len(sizes)), sizes)
    params = {"max_depth": 3, "nthread": 1, "disable_default_eval_metric": 1} | params
    train = xgb.DMatrix(x[:cut], y[:cut], qid=groups[:cut])
    return xgb.train(params, train, 40, obj=own).predict(xgb.DMatrix(x[cut:]), output_margin=True)


def rank_by_lightgbm(x, y, sizes, own):
    lgb, half = host("lightgbm"), len(sizes) // 2
    cut = sizes[:half].sum()
    model = lgb.LGBMRanker(n_estimators=40, num_leaves=6, min_child_samples=2, objective=own,
                           min_child_weight=0, verbose=-1, n_jobs=1)
    return model.fit(x[:cut], y[:cut], group=sizes[:half]).predict(x[cut:], raw_score=True)


@pytest.mark.parametrize("loss", RANKINGS, ids=repr)
def test_rankings_find_a_known_order(loss):
    "Of groups that were held out; as well as the library's own objective."
    x, sizes, y = ranked(200)
    cut = sizes[:100].sum()
    for rank, own, theirs in ((rank_by_xgboost, None, {"objective": "rank:ndcg"}),
                              (rank_by_lightgbm, "rank_xendcg", {})):
        library = rank.__name__.removeprefix("rank_by_")
        ours = rank(x, y, sizes, objective(loss, library))
        found, known = [in_order(scores, y[cut:], sizes[100:])
                        for scores in (ours, rank(x, y, sizes, own, **theirs))]
        assert found > 0.85 and found > known - 0.03, (library, found, known)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("loss", RANKINGS, ids=repr)
def test_derivatives_of_groups_are_those_of_each_list(loss, library):
    rng = np.random.default_rng(0)
    scores, weight = rng.normal(size=(2, SIZES.sum()))
    weight, labels = np.abs(weight), rng.integers(0, 4, len(scores)).astype(float)
    lists = np.split(np.arange(len(scores)), np.cumsum(SIZES)[:-1])
    means = np.array([weight[items].mean() if len(items) else 1.0 for items in lists])
    given = means if library == "xgboost" else weight
    gradient, curvature = derivatives(loss, library, scores, labels, given, SIZES)
    terms = [*zip(loss.weights, loss.losses)] if hasattr(loss, "losses") else [(1.0, loss)]
    total = 0.0
    for items, mean in zip(lists, means):
        if len(items) == 0:
            continue
        call = scores[None, items], labels[None, items]
        slope, bound = [sum([factor * np.asarray(f(type(term)("sum")))[0] for factor, term in terms])
                        for f in (lambda x: x.value_and_gradient(*call)[1],
                                  lambda x: x.curvature(*call, bound=True))]
        if library == "lightgbm":
            bound = bound * len(items) / (2 * max(len(items) - 1, 1))
        total += mean * sum([factor * term(*call).item() for factor, term in terms])
        check_close(gradient[items], mean * slope, "the gradient of a list")
        check_close(curvature[items], mean * bound, "the curvature of a list", atol=1e-12)
        assert len(items) > 1 or not curvature[items].any()
    mean = total / means[SIZES > 0].sum()
    check_close(mean_loss(loss, library, scores, labels, given, SIZES), mean, "the metric")


def test_the_metric_of_groups():
    "In training: with a weight for each group in XGBoost, for each sample in LightGBM."
    (x, sizes, y), loss = ranked(), ListNetLoss()
    xgb, lgb, found = host("xgboost"), host("lightgbm"), {}
    groups, weight = np.repeat(np.arange(60), sizes), np.linspace(0.5, 2, 60)
    data = xgb.DMatrix(x, y, qid=groups, weight=weight)
    booster = xgb.train({"nthread": 1, "disable_default_eval_metric": 1}, data, 5,
                        obj=objective(loss, "xgboost"), custom_metric=metric(loss, "xgboost"),
                        evals=[(data, "train")], evals_result=found, verbose_eval=False)
    lists = np.split(np.arange(len(x)), np.cumsum(sizes)[:-1])

    def mean(scores):
        values = [loss(scores[items], y[items].astype(float)).item() for items in lists]
        return np.average(values, weights=weight)
    check_close(found["train"]["ListNetLoss"][-1], mean(booster.predict(data).astype(float)),
                "XGBoost's", rtol=1e-5)
    record, train = {}, lgb.Dataset(x, y, group=sizes, weight=weight[groups])
    booster = lgb.train({"objective": objective(loss, "lightgbm"), "metric": "None", "verbose": -1,
                         "num_threads": 1}, train, 5, valid_sets=[train],
                        feval=metric(loss, "lightgbm"), callbacks=[lgb.record_evaluation(record)])
    check_close(record["training"]["ListNetLoss"][-1], mean(booster.predict(x, raw_score=True)),
                "LightGBM's", rtol=1e-5)


def test_a_metric_needs_no_graph():
    scores, labels = np.arange(5.0), np.array([0, 1, 2, 0, 1])
    own = np.mean([RankNetLoss()(scores[:3], labels[:3]).item(), RankNetLoss()(scores[3:], labels[3:]).item()])
    check_close(metric(RankNetLoss(), "lightgbm")(labels, scores, None, [3, 2])[1], own, "of two groups")


def test_a_loss_of_samples_takes_xgboosts_weights_of_groups():
    xgb, x = host("xgboost"), np.arange(5.0)[:, None]
    data = xgb.DMatrix(x, x[:, 0], qid=[0, 0, 1, 1, 1], weight=[1.0, 3.0])
    gradient, curvature = objective(MSELoss(), "xgboost")(np.zeros(5), data)
    check_close(curvature, [2, 2, 6, 6, 6], "the weights")
    check_close(gradient, -x[:, 0] * curvature, "the gradients")


def test_a_ranking_without_groups_says_how_to_pass_them():
    xgb, lgb, (x, _, y) = host("xgboost"), host("lightgbm"), ranked(20)
    check_raises(ValueError, lambda: xgb.train({"nthread": 1}, xgb.DMatrix(x, y), 2, obj=objective(
        ListNetLoss(), "xgboost")), "qid=")
    own = {"objective": objective(ListNetLoss(), "lightgbm"), "verbose": -1, "num_threads": 1}
    check_raises(ValueError, lambda: lgb.train(own, lgb.Dataset(x, y), 2), "group=")
    own = metric(ListNetLoss(), "lightgbm")
    for weight in (None, np.ones(len(y))):
        check_raises(ValueError, lambda: own(y, x[:, 0], weight, [2]), "2 are in a group")
        check_raises(ValueError, lambda: own(y, x[:, 0], weight), "0 are in a group")


def test_catboost_passes_no_groups():
    "It hands an objective parts of the samples that cut groups."
    check_raises(TypeError, lambda: objective(ListNetLoss(), "catboost"), "without their groups")
    cat, lengths = host("catboost"), []

    class Recording(CatObjective):
        def calc_ders_range(self, approxes, targets, weights):
            lengths.append(len(targets))
            return super().calc_ders_range(approxes, targets, weights)

    x = np.random.default_rng(0).normal(size=(2100, 2))
    data = cat.Pool(x, x[:, 0], group_id=np.repeat(np.arange(300), 7))
    cat.CatBoost({"loss_function": Recording(MSELoss(), "catboost"), "eval_metric": "RMSE",
                  "iterations": 1, "thread_count": 1, "verbose": False,
                  "allow_writing_files": False}).fit(data)
    assert 1000 in lengths and max(lengths) == 1000 and 1000 % 7
