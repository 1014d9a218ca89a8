"What readers look for, and the page that must come first."
import pytest

LESSON, REFERENCE = "04_losses/losses_dev.html", "reference/losses.html"
USE = "04_losses/losses_use_dev.html"
FIRST = {
    "cross entropy": f"{LESSON}#cross-entropy", "crossentropy": f"{LESSON}#cross-entropy",
    "cros entropy": f"{LESSON}#cross-entropy", "Cross-Entropy": f"{LESSON}#cross-entropy",
    "F.cross_entropy": "reference/functional.html#cross_entropy",
    "torch.nn.functional.mse_loss": "reference/functional.html#mse_loss",
    "CrossEntropyLoss": f"{REFERENCE}#CrossEntropyLoss", "nn.MSELoss": f"{REFERENCE}#MSELoss",
    "BCEWithLogitsLoss": f"{REFERENCE}#BCEWithLogitsLoss", "huber": f"{LESSON}#huber-loss",
    "hubber": f"{LESSON}#huber-loss", "outliers": f"{LESSON}#huber-loss", "nan": f"{USE}#stability",
    "pos_weight": LESSON, "class imbalance": LESSON, "class weights": LESSON,
    "how to install": "guide/students.html#install", "mse": f"{LESSON}#mean-squared-error",
    "mae": f"{LESSON}#absolute-error", "log sum exp": f"{LESSON}#log-sum-exp",
    "logsumexp": f"{REFERENCE}#logsumexp", "log loss": f"{LESSON}#binary-cross-entropy",
    "binary crossentropy": f"{LESSON}#binary-cross-entropy",
    "label smoothing": f"{LESSON}#label-smoothing",
    "ignore_index": f"{LESSON}#weights-ignored-samples-and-which-mean",
    "reduction": f"{LESSON}#weights-ignored-samples-and-which-mean",
    "perplexity": f"{USE}#the-next-character-a-small-language-model",
    "smooth l1": f"{REFERENCE}#SmoothL1Loss", "nll_loss": f"{REFERENCE}#NLLLoss",
    "kl divergence": "04_losses/likelihood_losses_dev.html#kullback-leibler-divergence",
    "poisson": "likelihood_losses", "dice": "segmentation_losses", "focal": "segmentation_losses",
    "jaccard": "segmentation_losses", "triplet": "embedding_losses", "infonce": "embedding_losses",
    "ctc": "sequence_losses", "hinge": "margin_losses", "quantile": "regression_losses",
    "which loss": "04_losses/chooser_dev.html",
    "difference to pytorch": "04_losses/differences_dev.html",
    "mixed precision": "04_losses/half_precision_dev.html", "grading": "guide/instructors.html",
    "Dropout": "reference/layers.html#Dropout", "tensor": "reference/tensor.html#Tensor",
    "language model": USE, "dask": "scale/dask_dev.html", "svm": "HingeLoss", "posweight": LESSON,
    "listwise": "ranking_losses", "autocast": "04_losses/half_precision_dev.html",
    "What works where": "hosts/table.html", "JAX": "hosts/jax_host_dev.html",
    "Keras": "hosts/keras_host_dev.html", "PyTorch": "hosts/torch_host_dev.html",
    "scikit-learn": "hosts/sklearn_host_dev.html", "gradient boosting": "hosts/boosting_dev.html",
    "Losses of Dask arrays": "scale/dask_dev.html", "submit": "guide/instructors.html"}


def results(page, query: str) -> list:
    "The addresses that the panel lists, from the top of the site."
    page.fill("input[type=search]", "")
    page.wait_for_selector(".smalldocs-search-results.show", state="hidden")
    page.fill("input[type=search]", query)
    page.wait_for_selector(".smalldocs-search-results.show > *")
    return [link.get_attribute("href").removeprefix("./")
            for link in page.locator(".search-result").all()]


@pytest.fixture(scope="module")
def home(chromium, address):
    "The home page, where all queries are typed."
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    yield page
    page.close()

MACHINERY = tuple(f"{wing}/" for wing in ("core", "nn", "checking", "notebooks", "exercises", "grading",
                                          "site", "bench", "tito"))


@pytest.mark.parametrize("query", FIRST)
def test_the_right_page_comes_first(home, query):
    first = results(home, query)[0]
    # a name of a family: its lesson or its reference
    assert FIRST[query] in first and first.startswith(("04_losses", "reference", "guide", "hosts", "scale"))


@pytest.mark.parametrize("query", ["cross entropy", "huber", "mse", "label smoothing"])
def test_machinery_is_not_among_the_first(home, query):
    assert not [href for href in results(home, query)[:8]
                if href.startswith((*MACHINERY, "changelog"))]


def test_nothing_found_is_said(home):
    assert not results(home, "zzqqxxkk")
    assert "No results" in home.inner_text(".smalldocs-search-results")


def test_search_from_a_folder(chromium, site):
    page = chromium.new_page()
    page.goto((site / "reference/losses.html").as_uri())
    assert results(page, "crossentropy")[0] == f"../{LESSON}#cross-entropy"
    page.close()


CONTRAST = """() => {
    const light = (colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((x) => (x /= 255) <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
    const ground = getComputedStyle(document.querySelector(".smalldocs-search-results")).backgroundColor;
    const ratios = [...document.querySelectorAll(".search-result div")].map((box) => [light(getComputedStyle(box).color), light(ground)].sort((a, b) => b - a)).map(([a, b]) => (a + .05) / (b + .05));
    return [ground, getComputedStyle(document.body).backgroundColor, Math.min(...ratios)];
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_panel_has_the_colours_of_the_page(watch, dark):
    page = watch(dark=dark).open("index.html")
    results(page, "huber")
    panel, ground, contrast = page.evaluate(CONTRAST)
    assert panel == ground and contrast >= 4.5
