"""Cases for which PyTorch's answers are compared with ours, and the record of some of them for the
lesson.

Run with torch 2.13.0, from the top level, it writes `tinytorch/data/torch_2.13.0.json`:

    python tests/record_torch.py
"""
import itertools
import json
import sys
from pathlib import Path
from zlib import crc32

import numpy as np

from textbook import load
from tinytorch.checking import class_axis, domains, draw_arguments, draw_options, feature_axis, shapes_of
from tinytorch.nn.criterion import LOSSES, ClassLoss

VERSION = "2.13.0"
FILE = Path(__file__).resolve().parents[1] / f"tinytorch/data/torch_{VERSION}.json"
RECORDED = 24          # cases of each loss in the file

MORE = {               # options besides the variants that a loss declares
    "HuberLoss": [{"delta": 1e-3}],
    "SmoothL1Loss": [{"beta": 1e-3}],
    "NLLLoss": [{"weight": "each class", "ignore_index": 0}, {"ignore_index": -1}],
    "GaussianNLLLoss": [{"eps": 0.5}],
    "CrossEntropyLoss": [{"weight": "each class", "ignore_index": 0}, {"weight": "each class", "label_smoothing": 0.2},
                         {"label_smoothing": 1.0}, {"label_smoothing": 0.1, "ignore_index": -1}],
}
OVERFLOWS = {"SoftMarginLoss"}      # in PyTorch, for large scores; see the page on differences
# differences of large distances: in float32 both are right to few digits
CANCELS = {"TripletMarginLoss"}


def extreme(loss, kind: tuple, arguments: list, rng) -> list:
    """The arguments of a case at the edge of their domains: large scores, masked classes, sure
    probabilities.
    """
    edges = {"real": [0, 1e4, -1e4, 30, -0.5], "probability": [0, 1e-30, 0.5, 1],
             "target probability": [0, 1, 0.25], "share": [0, 1, 0.25], "log-rate": [0, -1e4, 30],
             "count": [0, 1, 1e4], "rate": [0, 1e-30, 1e4], "variance": [0, 1e-7, 1, 1e4]}
    if isinstance(loss, ClassLoss) and kind[1].name == "class index":
        input, target = arguments
        axis = class_axis(input.shape)
        chosen = np.expand_dims(target, axis) == np.arange(input.shape[axis]).reshape(
            [-1] + [1] * (input.ndim - axis - 1))
        mask = rng.random(input.shape) < 0.3
        return [np.where(mask & ~chosen, -np.inf, input * 1e4), target]
    return [rng.choice(edges[domain], x.shape) if domain in edges else x
            for x, domain in zip(arguments, kind)]


def skipped(kind: tuple, options: dict, target) -> bool:
    "Whether every sample is ignored; PyTorch's mean is NaN then."
    return (kind[1].name == "class index"
            and bool((target == options.get("ignore_index", -100)).all()))


def loss_cases(name: str, seed: int):
    """The cases of one loss: dictionaries of its name, dtype, options, arguments and the gradient
    from above.
    """
    loss_class, rng = LOSSES[name], np.random.default_rng([seed, crc32(name.encode())])
    for options, shape in itertools.product(({}, *loss_class.variants, *MORE.get(name, [])),
                                            shapes_of(loss_class)):
        chosen = draw_options(loss_class, options, shape, rng)
        loss = loss_class(**chosen)
        samples = np.delete(shape, feature_axis(loss_class, shape)) if loss.rows else shape
        for kind, far in itertools.product(domains(loss), (False, True)):
            arguments = draw_arguments(loss, kind, shape, rng)
            if options.get("ignore_index") == -1 and kind[1].name == "class index":
                arguments[1] = np.where(rng.random(arguments[1].shape) < 0.3, -1, arguments[1])
            if skipped(kind, options, arguments[1]) or far and name in OVERFLOWS:
                continue
            arguments = extreme(loss, kind, arguments, rng) if far else arguments
            for dtype, reduction in itertools.product(
                ("float32", "float64")[far and name in CANCELS:], loss.reductions):
                upstream = rng.uniform(0.5, 2, samples if reduction == "none" else ())
                if reduction != "batchmean" or shape:
                    yield {"loss": name, "dtype": dtype,
                           "options": short(chosen) | {"reduction": reduction},
                           "arguments": [short(x) for x in arguments], "upstream": short(upstream)}


def short(value):
    "`value` with fractions rounded to three decimals."
    if isinstance(value, dict):
        return {name: short(x) for name, x in value.items()}
    return (np.where(np.abs(value) > 1e-3, np.round(value, 3), value)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value)


def losses() -> list:
    "The names of the registered losses that torch.nn has too."
    import torch
    load()
    return [name for name, loss in LOSSES.items()
            if loss.formula is not None and hasattr(torch.nn, name)]


def cases(seed: int):
    "All cases of all losses."
    for name in losses():
        yield from loss_cases(name, seed)


def answer(case: dict) -> dict:
    """PyTorch's value, and its gradient of each argument, as arrays; None where it has none.

    None also where the slope of a target is infinite or NaN: `BCELoss` at probabilities 0 and 1,
    `KLDivLoss` and `PoissonNLLLoss` at 0.
    Ours are finite there; the page on differences says what they are.
    """
    import torch

    def tensor(x, differentiable=False):
        x = np.asarray(x)
        return (torch.tensor(x.astype(case["dtype"]), requires_grad=differentiable)
                if x.dtype.kind == "f" else torch.tensor(x))

    names = LOSSES[case["loss"]].domain

    options = {name: tensor(x) if isinstance(x, np.ndarray) else x
               for name, x in case["options"].items()}
    arguments = [tensor(x, name not in LOSSES[case["loss"]].constant)
                 for name, x in zip(names, case["arguments"])]
    loss = getattr(torch.nn, case["loss"])(**options)(*arguments)
    loss.backward(tensor(case["upstream"]))
    gradients = [None if x.grad is None else x.grad.numpy() for x in arguments]
    if case["loss"] == "BCELoss" and np.isinf(gradients[1]).any():
        gradients[1] = None
    gradients[1:] = [None if g is None or np.isnan(g).any() else g for g in gradients[1:]]
    return {"value": loss.detach().numpy(), "gradients": gradients}


def plain(value, digits: int):
    "Arrays as nested lists of numbers with `digits` significant digits."
    if isinstance(value, (dict, list, tuple)):
        return ({name: plain(x, digits) for name, x in value.items()} if isinstance(value, dict)
                else [plain(x, digits) for x in value])
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), digits)
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def record(seed: int = 0) -> dict:
    "The file's contents: a selection of the cases of each loss with PyTorch's answers."
    chosen = {}
    for name in losses():
        every = list(loss_cases(name, seed))
        some = np.sort(np.random.default_rng(seed).permutation(len(every))[:RECORDED])
        chosen[name] = [plain({**every[i], **answer(every[i])},
                              9 if every[i]["dtype"] == "float32" else 13) for i in some]
    return {"torch": VERSION, "cases": chosen}


def main():
    import torch
    if torch.__version__.partition("+")[0] != VERSION:
        sys.exit(f"This record is of torch {VERSION}, but torch {torch.__version__} is installed. "
                 "Install that version.")
    contents = record()
    lines = [f" {json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(case)}"
                                         for case in cases) + "\n ]"
             for name, cases in contents["cases"].items()]
    FILE.write_text(f'{{"torch": "{VERSION}", "cases": {{\n' + ",\n".join(lines) + "\n}}\n",
                    encoding="utf-8", newline="\n")
    print(f"{FILE.name}: {sum(map(len, contents['cases'].values()))} cases, "
          f"{FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
