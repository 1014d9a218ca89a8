"Further losses of classes."
import numpy as np


def weighed(value, target, weight=None, ignore_index=-100):
    if target == ignore_index:
        return 0.0, 0.0
    w = 1.0 if weight is None else weight[target]
    return w * value(), w


def probability(row, target):
    return np.exp(row[target]) / np.exp(row).sum()


def sparsemax(row, target):
    order = sorted(row, reverse=True)
    size = max(k for k in range(1, len(row) + 1) if 1 + k * order[k - 1] > sum(order[:k]))
    tau = (sum(order[:size]) - 1) / size
    return -row[target] + sum(x**2 - tau**2 for x in row if x > tau) / 2 + 0.5


TEXTBOOK = {
    "PolyLoss": lambda row, t, epsilon=1.0, **options: weighed(
        lambda: -np.log(probability(row, t)) + epsilon * (1 - probability(row, t)), t, **options),
    "GeneralizedCrossEntropyLoss": lambda row, t, q=0.7, **options: weighed(
        lambda: (1 - probability(row, t) ** q) / q, t, **options),
    "SparsemaxLoss": lambda row, t, **options: weighed(lambda: sparsemax(row, t), t, **options)}
