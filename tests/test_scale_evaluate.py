"""`tito evaluate`: the loss of files, errors that name the chunk, and runs that are taken up again."""
import json
import os

import numpy as np
import pytest

from tinytorch.core.problem import cores
from tinytorch.nn import CrossEntropyLoss, MSELoss
from tinytorch.scale import evaluate as module
from tinytorch.scale.evaluate import DataError, evaluate

if os.environ.get("CI") == "true":             # there these packages are asked for
    import pyarrow
    import pyarrow.parquet
    import zarr
else:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    zarr = pytest.importorskip("zarr")


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(100, 4)), rng.integers(0, 4, 100)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "t.npy", t)
    for name, array in ("x", x), ("t", t):
        zarr.create_array(str(tmp_path / f"{name}.zarr"), data=array,
                          chunks=(30, *array.shape[1:]))
        columns = {f"c{k}": c for k, c in enumerate(array.reshape(100, -1).T)}
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet",
                                    row_group_size=30)
    pyarrow.parquet.write_table(pyarrow.table({"x": x.tolist()}), tmp_path / "list.parquet",
                                row_group_size=30)
    return tmp_path, x, t


@pytest.mark.parametrize("names", [("x.npy", "t.npy"), ("x.zarr", "t.zarr"),
                                   ("x.parquet", "t.parquet"), ("list.parquet", "t.npy")])
@pytest.mark.parametrize("rows", [None, 17])
def test_files_give_the_loss_of_arrays(data, names, rows):
    folder, x, t = data
    loss = CrossEntropyLoss(label_smoothing=0.1)
    told = evaluate(loss, *[folder / name for name in names], rows=rows, keep=3)
    assert told["loss"] == pytest.approx(loss(x, t).item(), rel=1e-12)
    each = CrossEntropyLoss(label_smoothing=0.1, reduction="none")(x, t).data
    assert [w["index"] for w in told["worst"]] == np.argsort(-each)[:3].tolist()
    assert told["samples"] == 100


def test_a_chunk_keeps_to_one_core(data, monkeypatch):
    folder, seen = data[0], []
    real = module.summarize
    monkeypatch.setattr(module, "summarize",
                        lambda *x, **named: seen.append(cores()) or real(*x, **named))
    evaluate(MSELoss(), folder / "x.npy", folder / "x.npy", rows=50)
    assert seen == [1, 1]


def test_a_wrong_chunk_is_named_and_the_rest_is_kept(data):
    folder, x, t = data
    t[57] = 9
    np.save(folder / "t.npy", t)
    files, progress = (folder / "x.npy", folder / "t.npy"), folder / "p"
    with pytest.raises(DataError, match=r"chunk 5 \(samples 50 to 59\).*target\[7\] is 9"):
        evaluate(CrossEntropyLoss(), *files, rows=10, progress=progress)
    lines = progress.read_text().splitlines()
    assert len(lines) == 10                         # what was evaluated, and nine chunks
    done = []
    with pytest.raises(DataError, match="chunk 5"):
        evaluate(CrossEntropyLoss(), *files, rows=10, progress=progress,
                 on_chunk=lambda *state: done.append(state))
    assert done == []                               # the nine are not run again
    t[57] = 1
    np.save(folder / "t.npy", t)                    # another file: begun anew
    told = evaluate(CrossEntropyLoss(), *files, rows=10, progress=progress,
                    on_chunk=lambda *state: done.append(state))
    assert len(done) == 10 and not progress.exists()
    assert told["loss"] == pytest.approx(CrossEntropyLoss()(x, t).item(), rel=1e-12)


def test_progress_is_used(data):
    folder, x, t = data
    files, progress, kept = (folder / "x.npy", folder / "t.npy"), folder / "p", []

    def stop(done, count):
        kept.append(progress.read_text())
        if done == 4:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        evaluate(MSELoss(), files[0], files[0], rows=10, progress=progress, on_chunk=stop)
    progress.write_text(progress.read_text() + '[7, {"total"')       # a line that broke off
    done = []
    told = evaluate(MSELoss(), files[0], files[0], rows=10, progress=progress,
                    on_chunk=lambda *state: done.append(state))
    assert len(done) == 6 and told["loss"] == 0 and told["samples"] == 400


def test_several_losses_in_a_sample_are_counted_one_by_one(data):
    folder, x, _ = data
    np.save(folder / "zero.npy", np.zeros_like(x))
    told = evaluate(MSELoss(), folder / "x.npy", folder / "zero.npy", rows=10, keep=3)
    assert [w["index"] for w in told["worst"]] == np.argsort(-x.ravel()**2)[:3].tolist()


def test_files_that_do_not_fit(data):
    folder, x, t = data
    np.save(folder / "short.npy", t[:90])
    whole = (folder / "x.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-100])
    for target, text in (("short.npy", "input has 100 samples.*target 90"), ("no.npy", "There is no"),
                         ("x.npy", "target"), ("cut.npy", "cut.npy cannot be opened")):
        with pytest.raises(DataError, match=text):
            evaluate(CrossEntropyLoss(ignore_index=0), folder / "x.npy", folder / target)


def test_an_unreadable_chunk_is_named(data):
    folder, x, t = data
    chunk = folder / "x.zarr" / "c" / "2" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(DataError, match=r"chunk 2 \(samples 60 to 89\) of .*x.zarr cannot be read"):
        evaluate(CrossEntropyLoss(), folder / "x.zarr", folder / "t.zarr")


def test_command(data, monkeypatch):
    from typer.testing import CliRunner

    from tinytorch.tito.cli import app
    folder, x, t = data
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["evaluate", "--loss", "CrossEntropyLoss", "--input", "x.zarr",
                                    "--target", "t.zarr", "-o", "label_smoothing=0.2"])
    assert done.exit_code == 0, done.output
    told = json.loads((folder / "evaluation.json").read_text())
    assert told["loss"] == pytest.approx(CrossEntropyLoss(label_smoothing=0.2)(x, t).item(),
                                         rel=1e-12)
