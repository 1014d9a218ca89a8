"Rankings, ordinal classes, preferences."
import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(row):
    return np.exp(row) / np.exp(row).sum()


def rank_net(row, target):
    pairs = [(i, j) for i in range(len(row)) for j in range(len(row)) if target[i] > target[j]]
    return sum(-np.log(sigmoid(row[i] - row[j])) for i, j in pairs) / max(1, len(pairs))


def list_mle(row, target):
    "Draw the items one by one, each with its share among those left; ties in the order given."
    left, loss = sorted(range(len(row)), key=lambda i: -target[i]), 0.0
    while left:
        loss -= np.log(softmax(row[left])[0])
        left = left[1:]
    return loss


def coral(row, target, weight=None):
    weight = np.ones(len(row)) if weight is None else weight
    return -sum(w * np.log(p if target > k else 1 - p)
                for k, (w, p) in enumerate(zip(weight, sigmoid(row))))


def dpo(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=0.1,
        label_smoothing=0.0):
    rewards = (beta * (policy_chosen - reference_chosen),
               beta * (policy_rejected - reference_rejected))
    p = sigmoid(rewards[0] - rewards[1])
    return -(1 - label_smoothing) * np.log(p) - label_smoothing * np.log(1 - p)


TEXTBOOK = {
    "BPRLoss": lambda positive, negative: -np.log(sigmoid(positive - negative)),
    "RankNetLoss": rank_net,
    "ListNetLoss": lambda row, target: -(softmax(target) * np.log(softmax(row))).sum(),
    "RankingSoftmaxLoss": lambda row, target: -(target * np.log(softmax(row))).sum(),
    "ListMLELoss": list_mle,
    "CoralLoss": coral,
    "DPOLoss": dpo}
