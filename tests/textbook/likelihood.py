"Losses from the likelihood of a distribution."
import numpy as np




def poisson(x, t, log_input=True, full=False, eps=1e-8):
    loss = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    return loss + (t * np.log(t) - t + np.log(2 * np.pi * t) / 2 if full and t > 1 else 0)


def gaussian(x, t, var, full=False, eps=1e-6):
    sigma = np.sqrt(var if var > eps else eps)
    density = np.exp(-((x - t) / sigma) ** 2 / 2) / sigma
    return -np.log(density / np.sqrt(2 * np.pi) if full else density)


def kl(x, t, log_target=False):
    p = np.exp(t) if log_target else t
    return p * (np.log(p) - x)


def tweedie(x, t, power=1.5, log_input=True):
    mean = np.exp(x) if log_input else x
    if power == 1:
        return 2 * (t * np.log(t / mean) - t + mean)
    if power == 2:
        return 2 * (np.log(mean / t) + t / mean - 1)
    a, b = 1 - power, 2 - power
    return 2 * (t**b / (a * b) - t * mean**a / a + mean**b / b)


TEXTBOOK = {"PoissonNLLLoss": poisson, "GaussianNLLLoss": gaussian, "KLDivLoss": kl,
            "TweedieDevianceLoss": tweedie}
