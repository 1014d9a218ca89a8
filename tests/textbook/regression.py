"More losses of regression."
import numpy as np



TEXTBOOK = {
    "QuantileLoss": lambda x, t, quantile=0.5: max(quantile * (t - x), (1 - quantile) * (x - t)),
    "LogCoshLoss": lambda x, t: np.log(np.cosh(x - t)),
    "MSLELoss": lambda x, t: (np.log(1 + x) - np.log(1 + t)) ** 2,
    "MAPELoss": lambda x, t, eps=1e-7: 100 * abs(x - t) / max(abs(t), eps)}
