"Losses of embeddings."
import numpy as np




def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / (np.linalg.norm(a) * np.linalg.norm(b))


def triplet(anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False):
    def distance(x, y):
        z = np.abs(x - y + eps)
        return z.max() if np.isinf(p) else (z**p).sum() ** (1 / p)
    far = (min(distance(anchor, negative), distance(positive, negative)) if swap
           else distance(anchor, negative))
    return max(0, margin + distance(anchor, positive) - far)


def arcface(row, target, margin=0.5, scale=64.0):
    angle = np.arccos(row[target]) + margin
    logits = scale * row
    logits[target] = (scale
                      * (np.cos(angle) if angle < np.pi else row[target] - margin * np.sin(margin)))
    return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[target]


TEXTBOOK = {
    "CosineEmbeddingLoss": lambda a, b, t, margin=0.0: 1 - cosine(a, b) if t == 1 else max(
        0, cosine(a, b) - margin),
    "CosineDistanceLoss": lambda a, b: 1 - cosine(a, b), "TripletMarginLoss": triplet,
    "ArcFaceLoss": arcface}
