"""The pictures: what their lines hold, what their descriptions say, and colours that everybody can
tell apart.
"""
import itertools
import re
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
from real_kernel import pictures, run, texts

matplotlib.use("agg")
import matplotlib.pyplot as plt

from tinytorch import plotting
from tinytorch.nn import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, PoissonNLLLoss, TripletMarginLoss
from tinytorch.nn.losses import huber
from tinytorch.plotting import PALETTE, alt_text, panels, plot_landscape, plot_loss, plot_losses, plot_reliability, plot_samples, plot_training, plot_worst

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


# ---- colours

def linear(colour):
    "sRGB to light."
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    "The contrast ratio of two colours (WCAG 2)."
    low, high = sorted(float(linear(c) @ (0.2126, 0.7152, 0.0722)) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def turned(colour):
    """What the site's filter makes of a colour in the dark: invert(.87) hue-rotate(180deg) (Filter
    Effects Module Level 1).
    """
    rotation = np.array([[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]])
    return np.clip(rotation @ (0.87 - 0.74 * colour), 0, 1)


# Machado, Oliveira and Fernandes (2009), doi:10.1109/TVCG.2009.113, severity 1.
SIGHT = {"normal": np.eye(3),
         "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                                 [-0.003882, -0.048116, 1.051998]]),
         "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                                   [-0.011820, 0.042940, 0.968881]]),
         "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                                 [0.004733, 0.691367, 0.303900]]),}


def lab(colour, sight):
    "The place of a colour in CIE Lab, as an eye of this kind sees it."
    xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041]])
    x, y, z = xyz @ np.clip(SIGHT[sight] @ linear(colour), 0, 1) / (0.95047, 1, 1.08883)
    f = lambda t: np.cbrt(t) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116
    return np.array([116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))])


COLOURS = [np.array([int(name[i:i + 2], 16) / 255 for i in (1, 3, 5)]) for name in PALETTE]
each_ground = pytest.mark.parametrize("seen", [lambda colour: colour, turned],
                                      ids=["light", "dark"])


def test_filter_is_the_sites():
    "The test turns colours over as the site's style does, and black and white as they should be."
    style = (plotting.__file__.rsplit("tinytorch", 1)[0] + "nbs/styles.css")
    assert "filter: invert(.87) hue-rotate(180deg)" in open(style, encoding="utf-8").read()
    assert (np.allclose(turned(np.ones(3)), 0.13, atol=1e-3)
            and np.allclose(turned(np.zeros(3)), 0.87, atol=1e-3))


@each_ground
def test_colours_stand_out(seen):
    assert min(contrast(seen(colour), seen(np.ones(3))) for colour in COLOURS) >= 3


@each_ground
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_differ(seen, sight):
    "15 in Lab is several times what an eye just notices (about 2.3)."
    places = [lab(seen(colour), sight) for colour in COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)) >= 15


# ---- lines

def numbers(axis, line=0):
    return (np.asarray(axis.lines[line].get_xdata(), float),
            np.asarray(axis.lines[line].get_ydata(), float))


@pytest.mark.parametrize("loss, target", [(MSELoss(), 1.0), (HuberLoss(delta=0.7), -1.0), (L1Loss(reduction="sum"), 0.5), (BCEWithLogitsLoss(), 1.0),
                                          (PoissonNLLLoss(), 2.0), (CrossEntropyLoss(label_smoothing=0.2), 0.0)], ids=repr)
def test_slope_is_the_losss(loss, target):
    "The right line is the derivative of the left one, by differences; the loss is left as it was."
    before = repr(loss)
    left, right = plot_loss(loss, target, at=(-2.02, 2.98))
    x, value = numbers(left)
    _, slope = numbers(right)
    smooth = (np.ones(len(x) - 2, bool) if not isinstance(loss, L1Loss)
              else abs(x[1:-1] - target) > 0.1)
    assert np.allclose(((value[2:] - value[:-2]) / (x[2:] - x[:-2]))[smooth], slope[1:-1][smooth],
                       atol=0.02)
    assert repr(loss) == before


def test_options_reach_the_formula():
    left, right = plot_loss(huber, target=1.0, delta=0.25)
    assert abs(numbers(right)[1]).max() == 0.25


def test_a_loss_of_other_rows_is_refused():
    with pytest.raises(ValueError, match="TripletMarginLoss needs a row of numbers"):
        plot_loss(TripletMarginLoss())


def test_losses_share_axes_and_have_names():
    axes = panels(2)
    assert plot_losses({"a": MSELoss(), "b": L1Loss()}, ax=axes) is axes
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["a", "b"]
    assert axes[0].lines[0].get_linestyle() != axes[0].lines[1].get_linestyle(), "colour alone must not tell them apart"


def test_legends_of_one_figure_do_not_overlap():
    axes = panels(2, 2)
    for half in axes[:2], axes[2:]: plot_losses({"a": MSELoss(), "b": L1Loss()}, ax=half)
    figure = axes[0].figure
    figure.canvas.draw()
    boxes = [legend.get_window_extent() for legend in
             [*figure.legends, *(ax.get_legend() for ax in axes if ax.get_legend())]]
    assert len(boxes) == 2 and not boxes[0].overlaps(boxes[1])


def test_training_starts_at_log_c():
    ax = plot_training({"a": [2.0, 1.0]}, start=np.log(10))
    assert (set(numbers(ax, 1)[1]) == {np.log(10)} and "2.30" in alt_text(ax)
            and "from 2 to 1 in 2 steps" in alt_text(ax))


def test_landscape_has_the_functions_heights():
    function = lambda x, y: (x - 1) ** 2 + 3 * y
    xs, ys, path = np.linspace(-1, 2, 7), np.linspace(0, 2, 5), [(-1.0, 2.0), (1.0, 0.5)]
    flat, space = plot_landscape(function, xs, ys, path)
    assert np.allclose(np.array(space.lines[0].get_data_3d()).T,
                       [(x, y, function(x, y)) for x, y in path])
    assert np.allclose(space.zz_dataLim.intervalx, [0, 10])
    assert ("from 0 at (1, 0) up to 10" in alt_text(flat)
            and "from 10 at (-1, 2) to 1.5 at (1, 0.5)" in alt_text(flat))


def test_samples_and_worst_agree():
    """The largest losses are marked, and theirs are the images, in order; the numbers given are
    not changed.
    """
    losses = np.array([0.2, 5.0, 0.1, 3.0])
    kept, images = losses.copy(), np.arange(4)[:, None, None] * np.ones((4, 2, 2))
    assert list(numbers(plot_samples(losses, n=2), 1)[1]) == [3.0, 5.0]
    axes = plot_worst(images, losses, [0, 1, 2, 3], [9, 8, 7, 6], n=2)
    assert ([int(axis.images[0].get_array()[0, 0]) for axis in axes] == [1, 3]
            and axes[0].get_title() == "1 as 8\nloss 5.0")
    assert "1 as 8, loss 5.0; 3 as 6, loss 3.0" in alt_text(axes) and np.array_equal(losses, kept)
    with pytest.raises(ValueError, match="losses is empty"):
        plot_samples([])


def test_reliability_by_a_loop():
    "Bins, shares and error against a slow definition, ends of bins and certainty included."
    rng = np.random.default_rng(0)
    p = np.append(rng.uniform(size=500), [0.0, 0.25, 1.0])
    happened = rng.uniform(size=503) < p
    ax = plot_reliability(p, happened, bins=4)
    bins = [[(q, h) for q, h in zip(p, happened) if k / 4 <= q < (k + 1) / 4 or (k == 3 and q == 1)]
            for k in range(4)]
    said, seen = ([float(np.mean([pair[i] for pair in b])) for b in bins] for i in (0, 1))
    error = sum(len(b) / 503 * abs(s - o) for b, s, o in zip(bins, said, seen))
    assert (np.allclose(numbers(ax, 1), [said, seen])
            and np.allclose([bar.get_height() for bar in ax.patches], [len(b) / 503 for b in bins]))
    assert ax.get_title() == f"expected calibration error {error:.2g}"


@pytest.mark.parametrize("p, happened, text", [([1.2, 0.1], [1, 0], "logits"), ([0.5], [1, 0], "both be (N,)"), ([], [], "both be (N,)"), ([np.nan], [1], "between 0 and 1")])
def test_reliability_names_what_is_wrong(p, happened, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        plot_reliability(p, happened)


@pytest.mark.parametrize("draw", [
    lambda ax: plot_loss(MSELoss(), ax=ax), lambda ax: plot_losses({"a": MSELoss()}, ax=ax), lambda ax: plot_training({"a": [1.0]}, ax=ax[0]),
    lambda ax: plot_samples([1.0], ax=ax[0]), lambda ax: plot_worst(np.ones((2, 3, 3)), [1.0, 2.0], [0, 0], [1, 1], ax=ax),
    lambda ax: plot_reliability([0.5], [1], ax=ax[0])], ids=["loss", "losses", "training", "samples", "worst", "reliability"])
def test_draws_where_it_is_told_and_says_what(draw):
    axes = panels(2)
    result = draw(axes)
    assert result is axes or result is axes[0]
    assert len(alt_text(axes)) > 30 and re.search(r"\d", alt_text(axes))
    assert plt.get_fignums() == [axes[0].figure.number], "no other figure was made"


def test_description_is_saved_with_the_picture():
    "In Jupyter the PNG of a figure carries its description, whether or not its size comes with it."
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.core.pylabtools import select_figure_formats
    shell = InteractiveShell.instance()
    try:
        for kind, extra in (("png", set()), ("retina", {"height", "width"})):
            select_figure_formats(shell, {kind})
            ax = plot_training({"a": [2.0, 1.0]})
            _, metadata = shell.display_formatter.format(ax.figure)
            assert (metadata["image/png"]["alt"] == "a: the loss goes from 2 to 1 in 2 steps."
                    and metadata["image/png"].keys() - {"alt"} == extra)
    finally:
        InteractiveShell.clear_instance()


NOTEBOOKS = [path for path in sorted((ROOT / "nbs").rglob("*.ipynb"))
             if path.name[0] not in "_." and "image/png" in path.read_text(encoding="utf-8")]
QUICK = ("plotting_dev", "regression_losses_dev")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_is_shown_in_a_kernel(path, request):
    "As Jupyter runs it, each cell shows the pictures that are saved with it."
    if path.stem not in QUICK and not request.config.getoption("--slow"):
        pytest.skip("slow: runs a whole notebook in a kernel")
    shown, failed = run(nbformat.read(path, as_version=4), path.parent, ROOT)
    assert failed is None, texts(failed)
    saved = {cell.id: pictures(cell) for cell in nbformat.read(path, as_version=4).cells}
    assert {cell.id: pictures(cell)
            for cell in shown.cells} == {cell.id: saved[cell.id] for cell in shown.cells}
