"""Distances, angles and contrast within a batch:

PyTorch's functions, what mathematics promises, batches of one or none, vectors without length.
"""
import pickle
import warnings
from math import inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tinytorch
from tinytorch.checking import with_dtypes, check_close, check_gradient, check_raises, gradients_of
from tinytorch.core.tensor import Tensor
from tinytorch.nn import (ArcFaceLoss, CircleLoss, CosineDistanceLoss, CosineEmbeddingLoss,
                          CosineSimilarity, CrossEntropyLoss, InfoNCELoss, NTXentLoss,
                          PairwiseDistance, SupConLoss, TripletMarginLoss,
                          TripletMarginWithDistanceLoss, cosine_similarity, functional,
                          pairwise_distance)

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
vectors = arrays(float, (6, 3), elements=st.floats(-5, 5)).map(lambda x: x + [[0.01, 0.02, 0.03]])
factors = arrays(float, (6, 1), elements=st.floats(0.1, 10))
groups = arrays(int, 6, elements=st.integers(0, 2))
orders = st.permutations(range(6)).map(np.array)
rng = np.random.default_rng(0)
A, B, C = rng.normal(size=(3, 6, 4))
LABELS = np.array([0, 1, 0, 2, 1, 0])
PAIRS = [InfoNCELoss(0.2), InfoNCELoss(0.2, symmetric=True), NTXentLoss(0.2)]
GROUPS = [SupConLoss(0.2), CircleLoss(gamma=4.0)]
each_batch = pytest.mark.parametrize("loss", PAIRS + GROUPS, ids=repr)
each_pair = pytest.mark.parametrize("loss", PAIRS, ids=repr)
each_reduction = pytest.mark.parametrize("reduction", ["none", "mean", "sum"])


def with_options(loss, **options):
    "A copy of a loss with other options."
    copy = pickle.loads(pickle.dumps(loss))
    vars(copy).update(options)
    return copy


def arguments(loss, a=A, b=B, labels=LABELS):
    "What a loss of batches takes."
    return [a, b] if len(loss.domain) == 2 and "target" not in loss.domain else [a, labels]


def each(loss, *inputs):
    return with_options(loss, reduction="none")(*inputs).data


def slopes(loss, *inputs):
    return [x
            for x in gradients_of(with_options(loss, reduction="sum"),
                      [np.asarray(x) for x in inputs]) if x is not None]


# --- Distances and angles, as in PyTorch

SHAPES = [((3, 4), (3, 4)), ((4,), (4,)), ((2, 3, 4), (2, 3, 4)), ((3, 1, 4), (1, 5, 4)),
          ((3, 4), (4,)), ((3, 1), (3, 4))]


def same_as_torch(ours, theirs, arrays, rtol=1e-7):
    "Value and gradients of a function of Tensors are those of a function of PyTorch's tensors."
    torch = pytest.importorskip("torch")
    mine, other = ([Tensor(x.copy(), requires_grad=True) for x in arrays],
                   [torch.tensor(x, requires_grad=True) for x in arrays])
    result, expected = ours(*mine), theirs(torch, *other)
    check_close(result, expected.detach().numpy(), "the value", rtol=rtol)
    upstream = np.random.default_rng(1).uniform(0.5, 2, result.shape)
    result.backward(upstream)
    expected.backward(torch.tensor(upstream))
    for x, y in zip(mine, other):
        check_close(x.grad, y.grad.numpy(), "a gradient", rtol=rtol)


@pytest.mark.parametrize("eps", [1e-8, 1e-3])
@pytest.mark.parametrize("dim", [0, 1, -1, -2])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_cosine_similarity_is_torchs(shapes, dim, eps):
    if -max(map(len, shapes)) <= dim < max(map(len, shapes)):
        same_as_torch(lambda x, y: cosine_similarity(x, y, dim, eps),
                      lambda torch, x, y: torch.nn.functional.cosine_similarity(x, y, dim, eps),
                      [np.random.default_rng(2).normal(size=shape) for shape in shapes])


@pytest.mark.parametrize("p", [1, 2, 2.0, 0.5, 1.5, 3, inf, -1, -2.5, -inf])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_pairwise_distance_is_torchs(shapes, p):
    for options in {}, {"keepdim": True}, {"eps": 0.1}:
        same_as_torch(lambda x, y: pairwise_distance(x, y, p, **options),
                      lambda torch, x, y: torch.nn.functional.pairwise_distance(x, y, p, **options),
                      [np.random.default_rng(3).normal(size=shape) for shape in shapes])


def test_zero_vectors_and_zero_distances_are_torchs():
    zero = np.zeros((6, 4))
    for x, y in (zero, B), (A, zero), (zero, zero):
        same_as_torch(cosine_similarity,
                      lambda torch, x, y: torch.nn.functional.cosine_similarity(x, y), [x, y])
    for p in 1, 2, 3, inf:
        same_as_torch(lambda x, y: pairwise_distance(x, y, p, eps=0.0),
                      lambda torch, x, y: torch.nn.functional.pairwise_distance(x, y, p, eps=0.0),
                      [A, A])


def test_slope_of_a_short_vector_is_that_of_the_definition():
    "Below eps the cosine is a line with slope 1 / eps; PyTorch leaves that out of its slope."
    check_close(cosine_similarity(1e-10 * A, B),
                [1e-2 * (a @ b) / np.linalg.norm(b) for a, b in zip(A, B)], "the cosine")
    short = Tensor(1e-10 * A, requires_grad=True)
    cosine_similarity(short, B).backward(np.ones(6))
    check_close(short.grad, B / np.linalg.norm(B, axis=1, keepdims=True) / 1e-8, "its slope")


def test_large_and_small_numbers():
    cosine = (A * B).sum(1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1)
    check_close(cosine_similarity(A * 1e200, B * 1e-5), cosine,
                "the cosine of numbers whose squares overflow")
    check_close(cosine_similarity((A * 1e25).astype("float32"), B.astype("float32")), cosine,
                "the same in float32", rtol=1e-5)
    check_close(pairwise_distance(A * 1e200, B * 1e200), np.linalg.norm(A - B, axis=1) * 1e200,
                "the distance")


def test_norm_0_counts_the_features_that_differ():
    x = Tensor([[1.0, 2.0, 0.0, 5.0]], requires_grad=True)
    result = pairwise_distance(x, [[1.0, 3.0, 0.0, np.nan]], p=0, eps=0.0)
    assert (np.isnan(result.item())
            and pairwise_distance(x, [[1.0, 3.0, 0.0, 4.0]], p=0, eps=0.0).item() == 2)


def test_two_numbers_are_vectors_of_length_1():
    for dim in 0, -1:
        same_as_torch(lambda x, y: cosine_similarity(x, y, dim),
                      lambda torch, x, y: torch.nn.functional.cosine_similarity(x, y, dim),
                      [np.array(2.0), np.array(-3.0)])
    same_as_torch(pairwise_distance,
                  lambda torch, x, y: torch.nn.functional.pairwise_distance(x, y),
                  [np.array(2.0), np.array(-3.0)])


def test_modules_are_the_functions():
    check_close(CosineSimilarity(0, 0.1)(A, B), cosine_similarity(A, B, 0, 0.1), "CosineSimilarity")
    check_close(PairwiseDistance(3.0, 0.1, True)(A, B), pairwise_distance(A, B, 3.0, 0.1, True),
                "PairwiseDistance")
    assert (pairwise_distance(A, B, keepdim=True).shape == (6, 1)
            and functional.cosine_similarity is cosine_similarity)


@pytest.mark.parametrize("call, error, text", [
    (lambda: cosine_similarity(A, B[:, :3]), ValueError, "cosine_similarity: x1 has shape (6, 4) and x2 (6, 3)"),
    (lambda: pairwise_distance(A, B[:5]), ValueError, "pairwise_distance: x1 has shape (6, 4) and x2 (5, 4)"),
    (lambda: cosine_similarity(A[0], B[0]), IndexError, "dim is 1, but arguments of shape (4,) have 1 axes"),
    (lambda: pairwise_distance(A, B, p=np.nan), ValueError, "pairwise_distance: p is nan"),
    (lambda: pairwise_distance(A, B, p="2"), TypeError, "p is '2', but it must be a number"),
    (lambda: CosineEmbeddingLoss(margin=1.5), ValueError, "margin is 1.5, but it must be at least -1 and at most 1"),
    (lambda: TripletMarginLoss(p=0), ValueError, "p is 0"),
    (lambda: TripletMarginLoss(margin=0), ValueError, "margin is 0"),
    (lambda: TripletMarginWithDistanceLoss(distance_function=2), TypeError, "must be a function of two Tensors"),
    (lambda: TripletMarginWithDistanceLoss(distance_function=lambda a, b: abs(a.data - b.data).sum(1))(A, B, C), TypeError, "returned ndarray"),
    (lambda: TripletMarginWithDistanceLoss()(A, B, C[:5]), ValueError, "negative has shape (5, 4)"),
    (lambda: InfoNCELoss()(A, B[:5]), ValueError, "InfoNCELoss: query has shape (6, 4) but key has shape (5, 4)"),
    (lambda: NTXentLoss()(A[0], B[0]), ValueError, "NTXentLoss: input1 has shape (4,), but it needs (N, D)"),
    (lambda: NTXentLoss()(A[:, :0], B[:, :0]), ValueError, "with D at least 1"),
    (lambda: SupConLoss()(A, LABELS[:5]), ValueError, "SupConLoss: target has shape (5,), but for input of shape (6, 4) it needs (6,)"),
    (lambda: CircleLoss()(A, np.eye(6)), ValueError, "CircleLoss: target has shape (6, 6)"),
    (lambda: SupConLoss()(A, np.where(LABELS == 0, np.nan, LABELS)), ValueError, "SupConLoss: target[0] is NaN, but every row needs a label"),
    (lambda: InfoNCELoss()([["a"]], [["b"]]), TypeError, "InfoNCELoss: query has dtype <U1"),
    (lambda: SupConLoss(temperature=0), ValueError, "temperature is 0, but it must be greater than 0"),
    (lambda: CircleLoss(margin=2), ValueError, "margin is 2"),
    (lambda: ArcFaceLoss(margin=2), ValueError, "margin is 2"),
    (lambda: ArcFaceLoss()([[1.5, 0.0]], [0]), ValueError, "Divide the vectors by their lengths"),
])
def test_errors(call, error, text):
    check_raises(error, call, text)


# --- Vectors of any length

SIZES = [("float32", 1e20), ("float32", 1e35), ("float32", 1e-30), ("float32", 1e-35),
         ("float64", 1e300), ("float64", 1e305), ("float64", 1e-300), ("float64", 1e-305)]
SIGNS = np.where(LABELS > 0, 1.0, -1.0)
ANGULAR = [(CosineEmbeddingLoss(), A, B, SIGNS), (CosineEmbeddingLoss(0.3), A, B, SIGNS),
           (CosineDistanceLoss(), A, B), (InfoNCELoss(), A, B), (NTXentLoss(), A, B),
           (SupConLoss(), A, LABELS), (CircleLoss(), A, LABELS)]


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("dtype, size", SIZES)
@pytest.mark.parametrize("loss, inputs", [(loss, inputs) for loss, *inputs in ANGULAR],
                         ids=[repr(loss) for loss, *_ in ANGULAR])
def test_long_and_short_vectors(loss, inputs, dtype, size, engine):
    """However long the vectors, the loss is that of their directions, and its slope that at length
    1 divided by the size.
    """
    if engine == "numba":
        pytest.importorskip("numba")
    scaled = [x if x.ndim == 1 else (x * size).astype(dtype) for x in inputs]
    with tinytorch.engine(engine):
        check_close(each(loss, *scaled), each(loss, *inputs),
                    f"{loss!r} of vectors about {size:g} long", rtol=1e-4, atol=1e-5)
        for slope, expected in zip(slopes(loss, *scaled), slopes(loss, *inputs)):
            check_close(slope.astype(np.longdouble) * np.longdouble(size), expected,
                        f"the slope of {loss!r}", rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype, size", SIZES)
def test_long_and_short_distances(dtype, size):
    for p in 0.5, 1, 2, 3, inf, -2:
        found = pairwise_distance(*[(x * size).astype(dtype) for x in (A, B)], p, eps=0.0).data
        check_close(found.astype(np.longdouble) / np.longdouble(size),
                    pairwise_distance(A, B, p, eps=0.0), f"the distance with p={p}", rtol=1e-4)
    if size > 1:
        triplet = [(x * size).astype(dtype) for x in (A, B, C)]
        check_close(each(TripletMarginLoss(), *triplet) / size,
                    each(TripletMarginLoss(1e-30, eps=0.0), A, B, C), "the triplet margin",
                    rtol=1e-4)
        check_close(cosine_similarity(*triplet[:2]), cosine_similarity(A, B), "the cosine",
                    rtol=1e-4)


@pytest.mark.parametrize("dtype, size", [("float32", 1e20), ("float32", 1e-30), ("float64", 1e300), ("float64", 1e-300)])
def test_equal_vectors_of_any_length_cost_nothing(dtype, size):
    x = np.full((1, 3), size, dtype)
    for loss, more in (CosineEmbeddingLoss(), [np.ones(1, dtype)]), (CosineDistanceLoss(), []):
        check_close(loss(x, x, *more), 0, f"{loss!r} of equal vectors", atol=1e-6)
        assert (np.abs(gradients_of(loss, [x, x, *more])[0]) * size < 1e-6).all()


# --- Pairs and triplets

@repeatable
@given(vectors, vectors, factors, factors)
def test_cosine_losses_do_not_see_lengths(a, b, s, t):
    signs = np.array([1.0, -1.0] * 3)
    check_close(each(CosineEmbeddingLoss(0.2), a * s, b * t, signs),
                each(CosineEmbeddingLoss(0.2), a, b, signs), "of scaled vectors", rtol=1e-4,
                atol=1e-6)
    loss = each(CosineDistanceLoss(), a, b)
    assert (-1e-9 <= loss).all() and (loss <= 2 + 1e-9).all()
    check_close(each(CosineEmbeddingLoss(), a, b, 1.0), loss, "similar pairs")
    check_close(each(CosineDistanceLoss(), b, a), loss, "the other way round")


@repeatable
@given(vectors, vectors, vectors, st.sampled_from([1.0, 1.5, 2.0, 3.0, inf]), st.booleans())
def test_triplets(a, p, n, norm, swap):
    loss = TripletMarginLoss(p=norm, eps=0.0, swap=swap)
    value = each(loss, a, p, n)
    assert (value >= 0).all()
    check_close(each(loss, a + 7, p + 7, n + 7), value, "of moved triplets", atol=1e-9)
    check_close(each(with_options(loss, margin=3.0), 3 * a, 3 * p, 3 * n), 3 * value,
                "of triplets three times as large", atol=1e-9)
    assert (each(with_options(loss, swap=True), a, p, n) >= each(
                with_options(loss, swap=False), a, p, n)).all()
    total = sum(slopes(loss, a, p, n))
    check_close(total, np.zeros((6, 3)), "the sum of the three slopes", atol=1e-9)


@pytest.mark.parametrize("swap", [False, True])
@each_reduction
def test_triplets_with_a_distance_are_torchs(swap, reduction):
    options = {"swap": swap, "reduction": reduction, "margin": 0.7}
    for ours, theirs in (None, None), (
        lambda a, b: 1 - cosine_similarity(a, b),
        lambda torch: lambda a, b: 1 - torch.nn.functional.cosine_similarity(a, b)), (
        lambda a, b: (a - b).abs().max(-1), lambda torch: lambda a, b: (a - b).abs().amax(-1)):
        for x in ([A, B, C], [A, A, C], [A, B, B]):
            same_as_torch(TripletMarginWithDistanceLoss(distance_function=ours, **options),
                          lambda torch, *y: torch.nn.TripletMarginWithDistanceLoss(
                              distance_function=theirs and theirs(torch), **options)(*y),
                          x)


def test_swapped_distances_that_tie_share_the_slope():
    same_as_torch(TripletMarginWithDistanceLoss(swap=True, margin=5.0),
                  lambda torch, *y: torch.nn.TripletMarginWithDistanceLoss(
                      swap=True, margin=5.0)(*y),
                  [A, A, C])


def test_swap_takes_the_smaller_of_very_different_distances():
    "Not as the difference of the two, in which 1 is lost beside 1e30."
    loss = TripletMarginWithDistanceLoss(swap=True, distance_function=lambda a, b: (a * b).sum(-1))
    check_close(loss(np.array([[1.0]]), np.array([[1e-30]]), np.array([[1e30]])), 1e-30 - 1 + 1,
                "distances of 1e-30, 1e30 and 1", atol=1e-15)


def test_gradient_goes_through_the_distance():
    for swap in False, True:
        check_gradient(TripletMarginWithDistanceLoss(
                           swap=swap, margin=3.0,
                           distance_function=lambda a, b: 1 - cosine_similarity(a, b)),
                       A, B, C)


def test_parameters_of_a_distance_learn():
    scale = Tensor(np.ones(4), requires_grad=True)
    TripletMarginWithDistanceLoss(margin=9.0,
                                  distance_function=lambda a, b: pairwise_distance(
                                      a * scale, b * scale))(A, B, C).backward()
    assert scale.grad.any()


# --- Contrast within a batch

@pytest.mark.parametrize("loss", [*PAIRS, SupConLoss(0.2)], ids=repr)
@each_reduction
def test_gradient_is_the_slope(loss, reduction):
    "Not so for the circle loss, whose factors count as constants."
    check_gradient(with_options(loss, reduction=reduction), *arguments(loss))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("gamma, margin", [(4.0, 0.4), (80.0, 0.25), (256.0, 0.0), (20.0, 1.0)])
def test_circle_is_the_papers(gamma, margin, reduction):
    def circle(torch, x):
        unit = x / x.norm(dim=1, keepdim=True)
        s, labels = unit @ unit.T, torch.tensor(LABELS)
        partners, others = ((labels[:, None] == labels) & ~torch.eye(6, dtype=bool),
                            labels[:, None] != labels)
        near, far = (1 + margin - s.detach()).clamp(min=0), (s.detach() + margin).clamp(min=0)
        p = (-gamma * near * (s - 1 + margin)).masked_fill(~partners, -inf).logsumexp(1)
        n = (gamma * far * (s - margin)).masked_fill(~others, -inf).logsumexp(1)
        # sample 3 has no partner
        value = torch.nn.functional.softplus(p[[0, 1, 2, 4, 5]] + n[[0, 1, 2, 4, 5]])
        value = torch.cat([value[:3], 0 * x[3, :1], value[3:]])
        return value if reduction == "none" else getattr(value, reduction)()
    same_as_torch(lambda x: CircleLoss(gamma, margin, reduction)(x, LABELS), circle, [A])


@each_batch
def test_reductions_agree(loss):
    values = each(loss, *arguments(loss))
    assert values.shape == ((12,) if isinstance(loss, NTXentLoss) else (6,))
    # SupCon's mean leaves out the sample without a partner
    count = 5 if isinstance(loss, SupConLoss) else len(values)
    check_close(with_options(loss, reduction="sum")(*arguments(loss)), values.sum(), "the sum")
    check_close(loss(*arguments(loss)), values.sum() / count, "the mean")
    for one, other in zip(gradients_of(loss, arguments(loss)),
                          gradients_of(with_options(loss, reduction="none"), arguments(loss),
                                       np.ones(len(values)))):
        if one is not None:
            check_close(one, other / count, "the gradient of the mean")


@each_batch
@repeatable
@given(vectors, vectors, groups, factors, orders)
def test_lengths_and_order_do_not_matter(loss, a, b, labels, scale, order):
    value = each(loss, *arguments(loss, a, b, labels))
    assert (value >= -1e-9).all()
    check_close(each(loss, *arguments(loss, a * scale, b / scale, labels)), value,
                "of scaled vectors", rtol=1e-5, atol=1e-7)
    moved = each(loss, *arguments(loss, a[order], b[order], labels[order]))
    check_close(moved, value[np.concatenate([order, 6 + order])[:len(value)]], "in another order",
                rtol=1e-6, atol=1e-8)
    check_close(each(loss, *arguments(loss, a, b, 5 - labels)), value,
                "with other names for the groups", rtol=1e-9, atol=1e-12)


@each_batch
@repeatable
@given(vectors, vectors, groups)
def test_slope_turns_and_does_not_stretch(loss, a, b, labels):
    inputs = arguments(loss, a, b, labels)
    for x, slope in zip(inputs, slopes(loss, *inputs)):
        check_close((x * slope).sum(axis=1), np.zeros(6), "the slope along the vectors",
                    atol=1e-7 * max(1, np.abs(slope).max()))


def test_relations():
    check_close(NTXentLoss(0.3)(A, B), NTXentLoss(0.3)(B, A), "NT-Xent, views exchanged")
    check_close(NTXentLoss(0.3)(A, B),
                SupConLoss(0.3)(np.concatenate([A, B]), np.tile(np.arange(6), 2)),
                "NT-Xent as SupCon with one partner each")
    check_close(InfoNCELoss(0.3, symmetric=True, reduction="none")(A, B).data,
                (each(InfoNCELoss(0.3), A, B) + each(InfoNCELoss(0.3), B, A)) / 2,
                "symmetric InfoNCE")
    same = np.ones((5, 3))
    check_close(InfoNCELoss()(same, same), log(5), "InfoNCE of embeddings that say nothing")
    check_close(NTXentLoss()(same, same), log(9), "NT-Xent of embeddings that say nothing")
    check_close(SupConLoss()(same, [0, 0, 1, 1, 1]), log(4),
                "SupCon of embeddings that say nothing")
    check_close(ArcFaceLoss(margin=0.0, scale=8.0)(np.tanh(A), LABELS),
                CrossEntropyLoss()(8 * np.tanh(A), LABELS), "ArcFace without margin")


def test_ntxent_is_optaxs():
    "optax.losses.ntxent of optax 0.2.8, of these rows and pairs of labels, in float64."
    rows = np.array([[1.0, 0.2], [0.9, -0.4], [-0.3, 1.0], [0.1, 0.8], [-1.0, 0.5], [0.3, -0.2]])
    for temperature, expected in (0.07, 19.60143604105478), (0.5, 3.3460422557714526):
        check_close(NTXentLoss(temperature)(rows[:3], rows[3:]), expected, "NTXentLoss", rtol=1e-9)


@pytest.mark.parametrize("labels", [["cat", "dog", "cat", "eel", "dog", "cat"], LABELS.astype(float), Tensor(LABELS.astype("float32")), LABELS - 1000, LABELS.astype("uint8")],
                         ids=["words", "floats", "Tensor", "negative", "bytes"])
def test_labels_of_any_kind(labels):
    for loss in GROUPS:
        check_close(loss(A, labels), loss(A, LABELS), repr(loss), rtol=1e-12)


@each_batch
@each_reduction
@pytest.mark.parametrize("count", [0, 1])
def test_one_sample_or_none_costs_nothing(loss, reduction, count):
    loss = with_options(loss, reduction=reduction)
    inputs = arguments(loss, A[:count], B[:count], LABELS[:count])
    result = loss(*inputs)
    check_close(result, np.zeros(result.shape), repr(loss))
    assert result.shape == (() if reduction != "none"
                            else (count * (2 if isinstance(loss, NTXentLoss) else 1),))
    for gradient in gradients_of(loss, inputs, np.ones(result.shape)):
        if gradient is not None:
            check_close(gradient, np.zeros((count, 4)), "its gradient")


@pytest.mark.parametrize("loss", GROUPS, ids=repr)
def test_without_partners_nothing_is_learnt(loss):
    check_close(each(loss, A, np.arange(6)), np.zeros(6), "six groups of one")
    check_close(slopes(loss, A, np.arange(6))[0], np.zeros((6, 4)), "their slope")
    assert each(SupConLoss(), A, LABELS)[3] == 0


def test_circle_without_others_costs_nothing():
    check_close(each(CircleLoss(), A, np.zeros(6)), np.zeros(6), "one group")


@each_batch
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_vectors_without_length_get_no_slope(loss, dtype):
    loss = with_options(loss, temperature=0.01) if hasattr(loss, "temperature") else loss
    a, b = A.astype(dtype), B.astype(dtype)
    a[2], b[0] = 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(each(loss, *arguments(loss, a, b))).all()
        for x, slope in zip(arguments(loss, a, b), slopes(loss, *arguments(loss, a, b))):
            assert np.isfinite(slope).all() and np.abs(slope).max() < 1e4
            assert not slope[~x.any(axis=1)].any()


@each_batch
@pytest.mark.parametrize("size", [1e-9, 1e4, 1e15, 1e30, 1e150])
def test_far_and_cold(loss, size):
    loss = with_options(loss, temperature=0.001) if hasattr(loss, "temperature") else loss
    dtype = "float64" if size > 1e30 else "float32"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = each(loss, *arguments(loss, *with_dtypes([size * A, size * B], dtype)))
        check_close(found, each(loss, *arguments(loss)), f"{loss!r} of vectors about {size:g} long",
                    rtol=1e-3, atol=1e-3)
        for x, y in zip(slopes(loss, *arguments(loss, *with_dtypes([size * A, size * B], dtype))),
                        slopes(loss, *arguments(loss))):
            check_close(size * x.astype(float), y, "its slope", rtol=1e-2,
                        atol=1e-3 * np.abs(y).max())


@each_batch
def test_dtype_is_kept_and_halves_are_computed_in_float32(loss):
    for dtype, rtol in ("float16", 1e-3), ("float32", 1e-5), ("float64", 1e-12):
        small = with_dtypes(arguments(loss), dtype)
        exact = with_dtypes(small, "float64")
        upstream = np.ones(each(loss, *small).shape, dtype)
        pairs = [(each(loss, *small), each(loss, *exact)),
                 *zip(gradients_of(with_options(loss, reduction="none"), small, upstream),
                      gradients_of(with_options(loss, reduction="none"), exact, upstream))]
        for one, other in pairs:
            if one is not None:
                assert one.dtype == dtype
                check_close(one, other, f"{loss!r} of {dtype}", rtol=rtol, atol=rtol)
    assert loss(*[x.tolist() for x in arguments(loss)]).dtype == "float32"
    assert loss(*arguments(loss, A.astype("float16"), B.astype("float16"))).dtype == "float16"


@each_pair
def test_mixed_types(loss):
    result = loss(*(tensors := [Tensor(A.astype("float32"), requires_grad=True),
                                Tensor(B, requires_grad=True)]))
    assert result.dtype == "float64"
    result.backward()
    assert [x.grad.dtype for x in tensors] == ["float32", "float64"]


@each_batch
def test_arguments_stay_as_they_are(loss):
    inputs = [x.copy() for x in arguments(loss)]
    for x in inputs:
        x.flags.writeable = False
    gradients = [x for x in gradients_of(loss, inputs) if x is not None]
    assert all(np.array_equal(x, y) for x, y in zip(inputs, arguments(loss)))
    assert not any(np.shares_memory(x, y) for x in gradients for y in inputs)
    for order in np.asfortranarray, lambda x: np.repeat(
        x, 2, axis=-1)[..., ::2], lambda x: x[::-1].copy()[::-1]:
        moved = [order(x) for x in inputs]
        check_close(loss(*moved), loss(*inputs), "in another memory layout", rtol=1e-12)


@each_batch
def test_backward_twice_adds_up(loss):
    x = Tensor(A, requires_grad=True)
    result = loss(x, *arguments(loss)[1:])
    result.backward()
    once = x.grad.copy()
    result.backward()
    check_close(x.grad, 2 * once, "two calls of backward()")


@each_pair
def test_one_embedding_on_both_sides(loss):
    x = Tensor(A, requires_grad=True)
    loss(x, x).backward()
    check_close(x.grad, sum(gradients_of(loss, [A, A])),
                "the gradient of a Tensor that is both arguments")


@each_batch
def test_nan_reaches_only_what_is_compared_with_it(loss):
    broken = A.copy()
    broken[1, 1] = np.nan
    found = np.isnan(each(loss, *arguments(loss, broken)))
    assert (found[1]
            and (not found[[0, 2]].any() if type(loss) is InfoNCELoss and not loss.symmetric
                 else True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(*arguments(loss, A * np.where(np.arange(6) == 1, inf, 1)[:, None]))


@each_batch
def test_repr_and_functional_form(loss):
    assert repr(eval(repr(loss))) == repr(loss)
    name = {"InfoNCELoss": "info_nce_loss", "NTXentLoss": "nt_xent_loss",
            "SupConLoss": "sup_con_loss", "CircleLoss": "circle_loss"}[type(loss).__name__]
    check_close(getattr(functional, name)(*arguments(loss)), type(loss)()(*arguments(loss)), name)


# --- ArcFace

def test_arcface_sine_keeps_its_digits():
    """Near a cosine of 1 the sine is the root of (1 - c)(1 + c): 1 - c * c has lost half of
    float32's digits.
    """
    c = np.array([[0.999, 0.1], [0.9999, 0.1], [0.99999, 0.1]], "float32")
    exact = gradients_of(ArcFaceLoss(scale=4.0, reduction="sum"),
                         [c.astype(float), np.zeros(3, int)])[0]
    check_close(gradients_of(ArcFaceLoss(scale=4.0, reduction="sum"), [c, np.zeros(3, int)])[0],
                exact, "the slope in float32", rtol=2e-6)


def test_arcface_at_the_ends():
    for cosine in 1.0, -1.0, 1.0005, -1.0005:
        assert np.isfinite(slopes(ArcFaceLoss(), [[cosine, 0.0]], np.array([0]))[0]).all()


@repeatable
@given(arrays(float, (4, 3), elements=st.floats(-1, 1)), st.floats(0, 1.5))
def test_arcface_makes_it_harder(cosines, margin):
    labels = np.array([0, 1, 2, 0])
    assert (each(ArcFaceLoss(margin, 8.0), cosines,
                 labels) >= each(ArcFaceLoss(0.0, 8.0), cosines, labels) - 1e-9).all()


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_engines_agree(engine):
    if engine == "numba":
        pytest.importorskip("numba")
    expected = [loss(*arguments(loss)).item() for loss in PAIRS + GROUPS]
    with tinytorch.engine(engine):
        check_close([loss(*arguments(loss)).item() for loss in PAIRS + GROUPS], expected, engine,
                    rtol=1e-9)


@pytest.mark.parametrize("p", [-2.0, -1.0, -0.5])
def test_a_norm_below_0_is_flat_where_a_difference_is_0(p):
    x, y = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 1.0], [3.0, 1.0, 2.0]]), np.zeros((3, 3))
    same_as_torch(lambda x, y: pairwise_distance(x, y, p, eps=0.0),
                  lambda torch, x, y: torch.nn.functional.pairwise_distance(x, y, p, eps=0.0), [x, y])


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, inf])
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_an_infinite_distance_is_infinite(p, name):
    if name == "numba":
        pytest.importorskip("numba")
    far = np.array([[inf, 1.0], [-inf, inf]])
    assert (pairwise_distance(far, np.zeros((2, 2)), p).data == inf).all()
    with tinytorch.engine(name):
        loss = TripletMarginLoss(p=p)(np.zeros((2, 2)), np.ones((2, 2)), far)
        assert loss.item() == 0          # a negative that is infinitely far away costs nothing
