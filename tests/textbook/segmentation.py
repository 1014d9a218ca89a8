"Losses for rare things and regions."
import numpy as np


def binary_focal(x, t, alpha=None, gamma=2.0):
    p = 1 / (1 + np.exp(-x)) if t == 1 else 1 / (1 + np.exp(x))
    return -(1 if alpha is None else alpha if t == 1 else 1 - alpha) * (1 - p) ** gamma * np.log(p)


def focal(row, target, gamma=2.0, weight=None, ignore_index=-100):
    if target == ignore_index:
        return 0.0, 0.0
    p = np.exp(row[target]) / np.exp(row).sum()
    w = 1.0 if weight is None else weight[target]
    return -w * (1 - p) ** gamma * np.log(p), w


def of_classes(index):
    """The index of a region as one of the classes of a single pixel: the mean over its classes, or
    those that are there.
    """
    def loss(row, target, ignore_index=-100, **options):
        if np.ndim(target):
            return index(1 / (1 + np.exp(-row)), row, target, **options)
        p = np.exp(row) / np.exp(row).sum()
        return np.mean([index(p[c:c + 1], None, np.array([float(c == target)]), **options)
                        for c in range(len(row))])
    return loss


@of_classes
def tversky(p, row, target, alpha=0.5, beta=0.5, smooth=1.0):
    both = sum(p * target)
    return 1 - (both + smooth) / (both + alpha * sum(p * (1 - target))
                                  + beta * sum((1 - p) * target) + smooth)


@of_classes
def dice(p, row, target, smooth=1.0):
    return 1 - (2 * sum(p * target) + smooth) / (sum(p) + sum(target) + smooth)


def lovasz_hinge(row, target, ignore_index=-100):
    if np.ndim(target) == 0:                 # of a single pixel: what its class lacks
        return 1 - np.exp(row[target]) / np.exp(row).sum()
    errors = np.maximum(1 - (2 * target - 1) * row, 0)
    order, wrong, before, total = sorted(range(len(row)), key=lambda i: -errors[i]), [], 0.0, 0.0
    for i in order:
        wrong.append(i)
        kept = [j for j in range(len(row)) if target[j] == 1 and j not in wrong]
        union = [j for j in range(len(row)) if target[j] == 1 or j in wrong]
        index = 1 - len(kept) / len(union)
        total, before = total + errors[i] * (index - before), index
    return total


TEXTBOOK = {"BinaryFocalLoss": binary_focal, "FocalLoss": focal, "TverskyLoss": tversky,
            "DiceLoss": dice, "LovaszHingeLoss": lovasz_hinge}
