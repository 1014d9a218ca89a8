"""The benchmark: contenders compute the same, figures are put together rightly, absent peers are
named. Nothing here depends on a time.
"""
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import tinytorch.nn
from tinytorch.checking import shapes_of
from tinytorch.nn.criterion import LOSSES
from tinytorch import bench
from tinytorch.notebooks.project import TitoError

ROOT = Path(__file__).resolve().parents[1]
tinytorch.nn.__all__           # imports every module that registers losses
NAMES = [name for name, loss in LOSSES.items()
         if loss.formula is not None and loss.__module__.startswith("tinytorch.")]


class Fake:
    "A contender that computes what it is told to."
    def __init__(self, name, change=lambda loss, gradient: (loss, gradient), lacks=()):
        self.name, self.change, self.lacks = name, change, lacks

    def session(self):
        return nullcontext()

    def has(self, name):
        return name not in self.lacks

    def prepare(self, name, arrays, gradient):
        loss, slope = (None if x is None else bench.as_numbers(x)
                       for x in bench.reference(name, arrays, gradient))
        return lambda: self.change(loss, slope)


def cell(times, loss="MSELoss", shape=(10,), gradient=True, bytes=120):
    return {"loss": loss, "shape": list(shape), "gradient": gradient, "bytes": bytes,
            "first": dict.fromkeys(times, 1.0),
            "times": {name: [x, x, x] for name, x in times.items()}, "disturbed": 0.5,
            "left_out": {}}


def results(*cells):
    return {"cpu": "a processor", "cores": 2, "system": "Linux", "threads": 2,
            "versions": {"python": "3"}, "bandwidth": 1e9, "cells": list(cells), "memory": [],
            "imports": {}}


def printed(call):
    "What `call(console)` prints."
    console = Console(file=StringIO(), width=200, highlight=False, markup=False)
    call(console)
    return console.file.getvalue()


SMALL = [
    (peer, name, shape)
    for peer in bench.PEERS
    for name in NAMES
    for shape in shapes_of(LOSSES[name], [(7, 5), (2, 5, 3, 4)] if LOSSES[name].rows else [(10,)])
    # it is slow
    if peer != "compile" or (name, shape) in {("HuberLoss", (10,)), ("CrossEntropyLoss", (7, 5))}
]


def need(peer):
    if not bench.installed(*bench.PEERS[peer].packages):
        pytest.skip(f"{peer} is not installed")


@pytest.mark.parametrize("peer, name, shape", SMALL)
def test_peer_computes_the_same(peer, name, shape):
    need(peer)
    racer, arrays = bench.PEERS[peer](), bench.bench_arguments(name, shape)
    for gradient in (True, False) if racer.has(name) else ():
        result = racer.prepare(name, arrays, gradient)()
        assert bench.mismatch(result, bench.reference(name, arrays, gradient)) == ""
        assert (result[1] is not None) == gradient


def test_peers_have_the_losses_of_their_libraries():
    torch = pytest.importorskip("torch")
    assert all(bench.Torch().has(name) == hasattr(torch.nn, name) for name in [*NAMES, "NoLoss"])
    assert set(bench.OPTAX) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_our_engines_are_found_by_name_and_start_anew(name):
    arrays = bench.bench_arguments(name, (6, 4) if LOSSES[name].rows else (20,))
    before = [x.copy() for x in arrays]
    for engine in bench.engines():
        ours = bench.Ours(engine)
        with ours.session():
            call = ours.prepare(name, arrays, True)
            # not added up
            assert [bench.mismatch(call(), bench.reference(name, arrays, True))
                    for _ in range(2)] == ["", ""]
            loss, gradient = ours.prepare(name, arrays, False)()
            assert gradient is None and not loss.requires_grad
    assert all(np.array_equal(x, y) for x, y in zip(arrays, before))


@pytest.mark.parametrize("racer", ["numpy", *bench.PEERS])
def test_every_contender_has_its_own_copy(racer):
    if racer in bench.PEERS:
        need(racer)
    arrays = bench.bench_arguments("HuberLoss", (20,))
    expected = [bench.as_numbers(x).copy() for x in bench.reference("HuberLoss", arrays, True)]
    call = (bench.PEERS[racer]() if racer in bench.PEERS
            else bench.Ours(racer)).prepare("HuberLoss", arrays, True)
    arrays[0][:] = 7
    assert bench.mismatch(call(), expected) == ""


WRONG = {
    "another loss": (lambda loss, gradient: (loss * 1.001, gradient), "its loss is"),
    "NaN": (lambda loss, gradient: (loss * np.nan, gradient), "its loss is nan"),
    "a gradient times 2": (lambda loss, gradient: (loss, 2 * gradient), "its gradient differs"),
    "one number of the gradient": (
        lambda loss, gradient: (
            loss, np.where(np.arange(gradient.size).reshape(gradient.shape) == 3, 0, gradient)),
        "its gradient differs"),
    "no gradient": (lambda loss, gradient: (loss, None), "no gradient"),
    "a gradient of another shape": (lambda loss, gradient: (loss, gradient.ravel()[:-1]),
                                    "no gradient of the input's shape")}


@pytest.mark.parametrize("change, text", WRONG.values(), ids=WRONG)
def test_who_computes_something_else_is_left_out(change, text):
    cell = bench.measure("MSELoss", (10,), True,
                         [bench.Ours("numpy"), Fake("torch", change), Fake("jax")], budget=0)
    assert text in cell["left_out"]["torch"] and list(cell["left_out"]) == ["torch"]
    assert list(cell["times"]) == ["numpy", "jax"]
    assert f"torch is left out of MSELoss 10: {cell['left_out']['torch']}\n" in printed(
        lambda console: bench.show_tables(console, results(cell)))


def test_who_fails_is_left_out_with_the_reason():
    def fail(loss, gradient):
        raise RuntimeError("no such kernel\nin 40 lines")

    cell = bench.measure("MSELoss", (10,), False,
                         [Fake("torch", fail), Fake("jax", lacks=["MSELoss"])], budget=0)
    assert cell["left_out"] == {"torch": "RuntimeError: no such kernel"} and cell["times"] == {}


def test_a_small_softmax_that_is_wrong_is_noticed():
    "Among many classes most slopes are small beside the target's, but they count."
    arrays = bench.bench_arguments("CrossEntropyLoss", (4, 5000))
    loss, slope = map(bench.as_numbers, bench.reference("CrossEntropyLoss", arrays, True))
    wrong = np.where(np.abs(slope) < 1e-3 * np.abs(slope).max(), 0, slope)
    assert bench.mismatch((loss, wrong), (loss, slope)) == "its gradient differs from ours"


def test_every_contender_runs_once_a_round_in_turn(monkeypatch):
    order = []
    racers = {name: (nullcontext, lambda name=name: order.append(name)) for name in "abc"}
    monkeypatch.setattr(bench, "calibrate", lambda *racer: (1, 1e-3))          # one call a sample
    times, disturbed = bench.race(racers, budget=0)
    assert 0 <= disturbed <= 1
    assert order == list("abcbcacababcbca")
    assert (all(low <= middle <= high for low, middle, high in times.values())
            and list(times) == ["a", "b", "c"])


def test_grid_covers_the_registry():
    pairs = bench.grid()
    assert {name for name, _ in pairs} >= set(NAMES)
    assert [shape for name, shape in pairs if name == "MSELoss"] == list(bench.ELEMENTS)
    assert [shape for name, shape in pairs
            if name == "CrossEntropyLoss"] == list(bench.LOGIT_SHAPES)
    assert set(bench.grid(["NLLLoss"], quick=True)) == {("NLLLoss", shape) for shape in bench.QUICK
                                                        if len(shape) == 2}
    with pytest.raises(TitoError, match="There is no loss MSE; there are .*MSELoss"):
        bench.grid(["MSE"])


@pytest.mark.parametrize("name", NAMES)
def test_arguments_lie_in_the_domain(name):
    shape = shapes_of(LOSSES[name], [(2, 7, 3), (2, 7)])[0] if LOSSES[name].rows else (3_000_000,)
    arrays = bench.bench_arguments(name, shape)
    assert arrays[0].shape == shape and all(x.dtype in (np.float32, np.int64) for x in arrays)
    loss = LOSSES[name]()
    loss.problem(*loss.fit(*arrays))          # raises where they do not


def test_bytes_that_must_move():
    pair = bench.bench_arguments("MSELoss", (10,))
    assert bench.traffic(pair, False) == 80 and bench.traffic(pair, True) == 120
    assert (bench.traffic(bench.bench_arguments("CrossEntropyLoss", (32, 10)),
              True) == 2 * 32 * 10 * 4 + 32 * 8)


def test_ratios_in_the_table():
    one, other = (cell({"numpy": 2e-6, "torch": 8e-6, "jax": 1e-6}),
                  cell({"numpy": 4e-6, "torch": 4e-6}, loss="L1Loss"))
    sheet = bench.ratio_sheet(
        results(one, other, cell({"numpy": 1e-6, "torch": 3e-6}, gradient=False)), "numpy")
    assert sheet.header[5:] == ["torch", "jax", "torch, forward"]
    assert [row[5:] for row in sheet.rows] == [["4.00×", "0.50×", "3.00×"], ["1.00×", "", ""],
                                               ["2.00×", "0.50×", "3.00×"],
                                               ["1.00×", "0.50×", "3.00×"]]
    # 120 bytes at 1 GB/s take 0.12 µs
    assert sheet.rows[0][:5] == ["MSELoss", "10", "2 µs", "±0%", "6%"]
    assert "worst against torch, forward + backward: L1Loss 10" in sheet.notes


def test_unsteady_times_are_marked():
    shaky = cell({"numpy": 1.0, "torch": 2.0})
    shaky["times"]["torch"] = [1.0, 2.0, 9.0]
    assert bench.ratio_sheet(results(shaky), "numpy").rows[0][5] == "~2.00×"


def test_geometric_mean():
    assert bench.geometric_mean([2, 0.5]) == pytest.approx(1)
    assert bench.geometric_mean({"a": 1.0, "b": 8, "c": 27}.values()) == pytest.approx(6)


def test_the_machine_has_the_name_of_its_instructions(monkeypatch):
    assert bench.instructions()
    assert f"({bench.instructions()})" in bench.machine()["cpu"]
    for simd, name in (({"baseline": ["A"], "found": ["B", "C"]}, "C"), ({"baseline": ["A"]}, "A"),
                       ({}, "")):
        monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": simd})
        assert bench.instructions() == name


def test_json_round_trip(tmp_path):
    file = tmp_path / "figures" / "results.json"
    before = results(cell({"numpy": 1.5e-6}), cell({"numpy": 2.0})) | {"imports": {"numpy": 0.1}}
    bench.save_results(before, file)
    assert bench.load_results(file) == before == json.loads(file.read_text(encoding="utf-8"))
    assert printed(lambda console: bench.bench(console, show_file=file)) == printed(
        lambda console: bench.show_tables(console, before))


@pytest.mark.parametrize("text", ["", "[]", "{}", "3"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(TitoError, match="other.json holds no results"):
        bench.load_results(tmp_path / "other.json")


def test_absent_peers_are_named(monkeypatch):
    monkeypatch.setattr(bench, "installed", lambda *packages: False)
    racers, absent = bench.contenders(["numpy"], list(bench.PEERS))
    assert [racer.name for racer in racers] == ["numpy"]
    assert (absent[0] == 'torch is left out: torch not installed (pip install -e ".[bench]")'
            and "jax and optax" in absent[2])


def test_a_run_says_who_is_absent_and_saves(monkeypatch, tmp_path):
    for name, value in {"installed": lambda *packages: False, "keep_to": lambda cores: None,
                        "copy_bandwidth": lambda: 1e10, "settle": lambda: False,
                        "import_times": lambda names: dict.fromkeys(names, 0.1)}.items():
        monkeypatch.setattr(bench, name, value)
    file = tmp_path / "results.json"
    text = printed(lambda console: bench.bench(console, quick=True, only=["MSELoss"], out=file))
    assert ("torch is left out" in text and "jax is left out" in text
            and "Other programs are running" in text)
    assert "Other programs ran during 100% of the samples" in text
    saved = bench.load_results(file)
    assert ([c["shape"] for c in saved["cells"]] == [[10], [100_000], [1_000_000]]
            and saved["imports"] == {"numpy": 0.1, "tinytorch": 0.1})
    assert str(file) in text.replace("\n", "")


@pytest.mark.parametrize("option, text", [({"ours": ["cuda"]}, "no engine cuda here"), ({"peers": ["keras"]}, "no peer keras here; there is torch")])
def test_unknown_names_are_refused(option, text):
    with pytest.raises(TitoError, match=text):
        bench.bench(None, **option)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="the high-water mark cannot be set back here")
def test_peak_memory_counts_the_gradient_and_not_the_inputs():
    size = 4 * 5_000_000
    assert 0.9 * size < bench.peak("numpy", "MSELoss", (5_000_000,)) < 2 * size
    row = bench.measure_memory("MSELoss", (10,), [Fake("nobody")])
    assert row["peak"] == {} and "nobody" in row["left_out"]["nobody"]


def test_import_times_are_of_new_processes():
    times = bench.import_times(["numpy", "tinytorch"], rounds=1)
    assert (list(times) == ["numpy", "tinytorch"]
            and all(0 < seconds < 60 for seconds in times.values()))


def test_pictures_of_few_rows():
    code = ("import matplotlib; matplotlib.use('Agg'); from tinytorch import bench; import "
            "sys, json; "
            "figures = [bench.draw(r) for r in json.load(sys.stdin)]; "
            "[figure.canvas.draw() for figure in figures]; "
            "assert not any(ax.get_legend() for figure in figures for ax in figure.axes); "
            "assert [len(figure.legends) for figure in figures] == [1] * 3; print('drawn')")
    many = [results(cell({"numpy": 1.0})),
            results(cell({"numpy": 1.0, "torch": 2.0}, shape=(3, 4))),
            results(cell({"numpy": 1.0, "numba": 0.5, "torch": 2.0}),
                    cell({"numpy": 1.0, "jax": 2.0}, "NLLLoss", (3, 4)))]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], input=json.dumps(many),
                          capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.stdout.strip() == "drawn", done.stderr


def test_published_results_can_be_shown():
    published = bench.load_results(ROOT / "nbs/bench/bench.json")
    assert "geometric mean" in printed(lambda console: bench.show_tables(console, published))
