"Margin losses."
import numpy as np


def multi_margin(row, target, p=1, margin=1.0, weight=None):
    terms = [max(0, margin - row[target] + x) ** p for i, x in enumerate(row) if i != target]
    return (1 if weight is None else weight[target]) * sum(terms) / len(row)


def multilabel_margin(row, target):
    labels = ([int(j) for j in target[:list(target).index(-1)]] if -1 in target
              else [int(j) for j in target])
    return (sum(max(0, 1 - row[j] + x) for j in labels for i, x in enumerate(row)
                if i not in labels) / len(row))


def multilabel_soft_margin(row, target, weight=None):
    p = 1 / (1 + np.exp(-row))
    return np.mean((1 if weight is None else weight) *
                   -(target * np.log(p) + (1 - target) * np.log(1 - p)))


def best_rival(row, target, margin):
    return max(0,
               margin - row[target] + max((x for i, x in enumerate(row) if i != target),
                                          default=-np.inf))


TEXTBOOK = {
    "HingeLoss": lambda x, t: max(0, 1 - t * x),
    "SquaredHingeLoss": lambda x, t: max(0, 1 - t * x) ** 2,
    "PerceptronLoss": lambda x, t: max(0, -t * x),
    "SoftMarginLoss": lambda x, t: np.log(1 + np.exp(-t * x)),
    "MarginRankingLoss": lambda a, b, t, margin=0.0: max(0, margin - t * (a - b)),
    "HingeEmbeddingLoss": lambda x, t, margin=1.0: x if t == 1 else max(0, margin - x),
    "MultiMarginLoss": multi_margin,
    "CategoricalHingeLoss": lambda row, target: best_rival(row, target, 1),
    "MulticlassPerceptronLoss": lambda row, target: best_rival(row, target, 0),
    "MultiLabelMarginLoss": multilabel_margin,
    "MultiLabelSoftMarginLoss": multilabel_soft_margin}
