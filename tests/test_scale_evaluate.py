"""`tito evaluate`: the loss of files, errors that name the chunk, and runs that are taken up again."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tinytorch.core.problem import cores
from tinytorch.nn import CrossEntropyLoss, L1Loss, MSELoss, MultiMarginLoss
from tinytorch.scale import evaluate as module
from tinytorch.scale.evaluate import DataError, evaluate_files, make_loss, option_of

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
    told = evaluate_files(loss, *[folder / name for name in names], rows=rows, keep=3)
    assert told["loss"] == pytest.approx(loss(x, t).item(), rel=1e-12)
    each = CrossEntropyLoss(label_smoothing=0.1, reduction="none")(x, t).data
    assert [w["index"] for w in told["worst"]] == np.argsort(-each)[:3].tolist()
    assert told["samples"] == 100


def test_a_chunk_keeps_to_one_core(data, monkeypatch):
    folder, seen = data[0], []
    real = module.summarize
    monkeypatch.setattr(module, "summarize",
                        lambda *x, **named: seen.append(cores()) or real(*x, **named))
    evaluate_files(MSELoss(), folder / "x.npy", folder / "x.npy", rows=50)
    assert seen == [1, 1]


def test_a_wrong_chunk_is_named_and_the_rest_is_kept(data):
    folder, x, t = data
    t[57] = 9
    np.save(folder / "t.npy", t)
    files, progress = (folder / "x.npy", folder / "t.npy"), folder / "p"
    with pytest.raises(DataError, match=r"chunk 5 \(samples 50 to 59\).*target\[7\] is 9"):
        evaluate_files(CrossEntropyLoss(), *files, rows=10, progress=progress)
    with pytest.raises(DataError) as without:
        evaluate_files(CrossEntropyLoss(), *files, rows=10)
    assert "kept" not in str(without.value)         # and nothing is
    lines = progress.read_text().splitlines()
    assert len(lines) == 10                         # what was evaluated, and nine chunks
    done = []
    with pytest.raises(DataError, match="chunk 5"):
        evaluate_files(CrossEntropyLoss(), *files, rows=10, progress=progress,
                 on_chunk=lambda *state: done.append(state))
    assert done == []                               # the nine are not run again
    t[57] = 1
    np.save(folder / "t.npy", t)                    # another file: begun anew
    told = evaluate_files(CrossEntropyLoss(), *files, rows=10, progress=progress,
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
        evaluate_files(MSELoss(), files[0], files[0], rows=10, progress=progress, on_chunk=stop)
    progress.write_text(progress.read_text() + '[7, {"total"')       # a line that broke off
    done = []
    told = evaluate_files(MSELoss(), files[0], files[0], rows=10, progress=progress,
                    on_chunk=lambda *state: done.append(state))
    assert len(done) == 6 and told["loss"] == 0 and told["samples"] == 400


@pytest.mark.parametrize("other", [{"keep": 5}, {"fill": True}, {"rows": 20}, {"loss": L1Loss()},
                                   {"loss": MSELoss("sum")}, {"target": "y.npy"}])
def test_progress_of_another_run_is_not_used(data, other):
    "Of another loss, option, file, or other chunks: all is computed again."
    folder, x, _ = data
    np.save(folder / "y.npy", x + 1)

    def run(stop=None, loss=MSELoss(), target="x.npy", **options):
        def on_chunk(done, count):
            seen.append(done)
            if done == stop:
                raise KeyboardInterrupt
        seen = []
        options = {"rows": 10, "progress": folder / "p", "on_chunk": on_chunk} | options
        return evaluate_files(loss, folder / "x.npy", folder / target, **options), seen
    with pytest.raises(KeyboardInterrupt):
        run(stop=4)
    told, seen = run(**other)
    assert seen[0] == 1 and len(told["worst"]) == other.get("keep", 10)


def test_several_losses_in_a_sample_are_counted_one_by_one(data):
    folder, x, _ = data
    np.save(folder / "zero.npy", np.zeros_like(x))
    told = evaluate_files(MSELoss(), folder / "x.npy", folder / "zero.npy", rows=10, keep=3)
    assert [w["index"] for w in told["worst"]] == np.argsort(-x.ravel()**2)[:3].tolist()


def test_files_that_do_not_fit(data):
    folder, x, t = data
    np.save(folder / "short.npy", t[:90])
    whole = (folder / "x.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-100])
    for target, text in (
        ("short.npy", "input has 100 samples.*target 90"),
        ("no.npy", "There is no"),
        ("x.npy", "target"),
        ("cut.npy", "cut.npy cannot be opened"),
    ):
        with pytest.raises(DataError, match=text):
            evaluate_files(CrossEntropyLoss(ignore_index=0), folder / "x.npy", folder / target)


def test_an_unreadable_chunk_is_named(data):
    folder, x, t = data
    chunk = folder / "x.zarr" / "c" / "2" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(DataError, match=r"chunk 2 \(samples 60 to 89\) of .*x.zarr cannot be read"):
        evaluate_files(CrossEntropyLoss(), folder / "x.zarr", folder / "t.zarr")


@pytest.mark.parametrize("layout", [{}, {"zarr_format": 2}, {"shards": (60, 4)}],
                         ids=["3", "2", "shards"])
def test_a_chunk_that_zarr_does_not_store_is_named(data, layout):
    "Zarr reads its fill value there: as if the model had said so."
    folder, x, t = data
    path, step = folder / "holes.zarr", 60 if "shards" in layout else 30
    holes = zarr.create_array(str(path), shape=x.shape, dtype=x.dtype, chunks=(30, 4),
                              fill_value=0, **layout)
    holes[:60] = x[:60]
    holes[60 + step:] = x[60 + step:]
    with pytest.raises(DataError, match=r"chunk 2 \(samples 60 to 89\) of .*holes.zarr cannot be "
                                        r"read: its part \S+ is not stored.*fill value 0.*--fill"):
        evaluate_files(CrossEntropyLoss(), path, folder / "t.zarr")
    x[60:60 + step] = 0
    told = evaluate_files(CrossEntropyLoss(), path, folder / "t.zarr", fill=True)
    assert told["loss"] == pytest.approx(CrossEntropyLoss()(x, t).item(), rel=1e-12)


def test_parquet_that_is_cut_or_lacks_values(data):
    folder, x, t = data
    whole = (folder / "t.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[:-40])
    with pytest.raises(DataError, match="cut.parquet cannot be opened"):
        evaluate_files(CrossEntropyLoss(), folder / "x.npy", folder / "cut.parquet")
    t = [None if k == 70 else int(n) for k, n in enumerate(t)]
    pyarrow.parquet.write_table(pyarrow.table({"t": t}), folder / "null.parquet",
                                row_group_size=30)
    with pytest.raises(DataError, match=r"chunk 3 \(samples 60 to 79\) of .*null.parquet cannot be "
                                        r"read: 1 values are missing"):
        evaluate_files(CrossEntropyLoss(), folder / "x.npy", folder / "null.parquet", rows=20)
    pyarrow.parquet.write_table(pyarrow.table({"t": ["cat"] * 100}), folder / "text.parquet")
    with pytest.raises(DataError, match="target has dtype object"):
        evaluate_files(CrossEntropyLoss(), folder / "x.npy", folder / "text.parquet")


@pytest.mark.parametrize("damage", [
    lambda lines: [*lines, b"garbage"], lambda lines: [*lines, b"\xff\xfe"],
    lambda lines: [*lines, bytes(40)], lambda lines: [*lines, b"null"],
    lambda lines: [*lines, b'[5, {"total": 1}]'], lambda lines: [*lines, b'[5, {"odd": 1}]'],
    lambda lines: [lines[0], b"x" + lines[1], *lines[2:]], lambda lines: [bytes(100)],
    lambda lines: [*lines[:-1], lines[-1][:-5]]])
def test_lines_of_the_progress_that_were_damaged_are_done_again(data, damage):
    folder, x, t = data
    progress = folder / "out.partial"

    def stop(done, count):
        if done == 3:
            raise KeyboardInterrupt
    given = CrossEntropyLoss(), folder / "x.npy", folder / "t.npy"
    with pytest.raises(KeyboardInterrupt):
        evaluate_files(*given, rows=20, progress=progress, on_chunk=stop)
    progress.write_bytes(b"\n".join(damage(progress.read_bytes().splitlines())) + b"\n")
    told = evaluate_files(*given, rows=20, progress=progress)
    assert told["loss"] == pytest.approx(CrossEntropyLoss()(x, t).item(), rel=1e-12)
    assert not progress.exists()


def test_a_place_that_cannot_be_written_is_told(data):
    folder = data[0]
    (folder / "full").mkdir()
    for progress in folder / "full", folder / "no" / "such":
        with pytest.raises(DataError, match="cannot be written"):
            evaluate_files(CrossEntropyLoss(), folder / "x.npy", folder / "t.npy",
                           progress=progress)


def test_files_of_another_kind_or_dtype(data):
    folder, x, t = data
    np.savez(folder / "z.npz", x=x)
    (folder / "z.npz").rename(folder / "z.npy")
    (folder / "text.npy").write_text("1 2 3 4")
    zarr.open_group(str(folder / "hollow.zarr"), mode="w")
    for name, kind in (("s", str), ("c", complex), ("d", "M8[s]"), ("r", [("a", float)])):
        np.save(folder / f"{name}.npy", t.astype(kind))
    lists = [[1.0, None, 2.0, 3.0], *x.tolist()[1:]]
    pyarrow.parquet.write_table(pyarrow.table({"x": lists}), folder / "inner.parquet")
    for input, target, message in (
            ("z.npy", "t.npy", "z.npy is no .npy file"), ("text.npy", "t.npy", "is no .npy file"),
            ("hollow.zarr", "t.npy", "empty Zarr group"),
            ("inner.parquet", "t.npy", "inner.parquet .* 1 values are missing"),
            *[("x.npy", f"{name}.npy", "target has dtype .* needs real numbers")
              for name in "scdr"]):
        with pytest.raises(DataError, match=message):
            evaluate_files(CrossEntropyLoss(), folder / input, folder / target)
    with pytest.raises(DataError, match="at least 1 sample"):
        evaluate_files(CrossEntropyLoss(), folder / "x.npy", folder / "t.npy", rows=-3)


def test_perplexity_is_that_of_likelihoods(data):
    folder = data[0]
    for loss, has in ((CrossEntropyLoss(), True), (MultiMarginLoss(), False)):
        told = evaluate_files(loss, folder / "x.npy", folder / "t.npy")
        assert ("perplexity" in told) == has and len(told["by_class"]) == 4


def test_a_file_without_samples_and_a_single_number(data):
    folder, x, t = data
    np.save(folder / "none.npy", x[:0])
    pyarrow.parquet.write_table(pyarrow.table({"x": x[:0, 0]}), folder / "none.parquet")
    for name in "none.npy", "none.parquet":
        assert evaluate_files(MSELoss(), folder / name, folder / name)["samples"] == 0
    np.save(folder / "one.npy", np.float64(3))
    with pytest.raises(DataError, match="The target is a single number"):
        evaluate_files(MSELoss(), folder / "x.npy", folder / "one.npy")


def test_options_are_read():
    assert [option_of(text) for text in ("reduction=none", "weight=[1, 2.5]", "beta=1e-3",
                                         "zero_infinity=true", "name=a=b", "ignore_index=-1")] == [
        ("reduction", "none"), ("weight", [1, 2.5]), ("beta", 1e-3), ("zero_infinity", True),
        ("name", "a=b"), ("ignore_index", -1)]
    assert make_loss("CrossEntropyLoss", {"weight": [1, 2]}).weight.tolist() == [1, 2]
    for options, text in (({"reduction": "none"}, "reduction is 'none'"),
                          ({"smoothing": 1}, "smoothing")):
        with pytest.raises(DataError, match=text):
            make_loss("CrossEntropyLoss", options)


SLOW = """
import sys, time
from pathlib import Path
from tinytorch.nn import CrossEntropyLoss
from tinytorch.scale.evaluate import evaluate_files
evaluate_files(CrossEntropyLoss(), "x.npy", "t.npy", rows=5, progress=Path("p"),
         on_chunk=lambda *state: (print(state[0], flush=True), time.sleep(0.2)))
"""


def test_a_run_that_was_killed_goes_on(data, monkeypatch):
    folder, x, t = data
    with subprocess.Popen([sys.executable, "-c", SLOW], cwd=folder, stdout=subprocess.PIPE,
                          text=True) as run:
        for _ in range(7):
            assert run.stdout.readline()
        run.kill()                                        # SIGKILL: nothing is tidied up
    kept = len((folder / "p").read_text().splitlines()) - 1
    assert kept >= 7
    monkeypatch.chdir(folder)
    done = []
    told = evaluate_files(CrossEntropyLoss(), "x.npy", "t.npy", rows=5, progress="p",
                    on_chunk=lambda *state: done.append(state))
    assert done == [(number, 20) for number in range(kept + 1, 21)] and not (folder / "p").exists()
    assert told["loss"] == pytest.approx(CrossEntropyLoss()(x, t).item(), rel=1e-12)


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
    refused = CliRunner().invoke(app, ["evaluate", "--loss", "MSELoss", "--input", "x.npy",
                                       "--target", "x.npy", "--out", str(folder)])
    assert refused.exit_code == 2 and "is a directory" in refused.output


@pytest.fixture(scope="module")
def cluster():
    "A scheduler and two worker processes."
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True,
                                  dashboard_address=None) as cluster:
        yield cluster


def leaves(told, place=()):
    "Yield what a result holds, and where."
    if isinstance(told, (dict, list)):
        for key, value in told.items() if isinstance(told, dict) else enumerate(told):
            yield from leaves(value, (*place, key))
    else:
        yield place, told


def same(told, expected):
    "Another process may not have compiled the formula yet: the last bits may differ."
    assert dict(leaves(told)) == pytest.approx(dict(leaves(expected)), rel=1e-12)


def test_command_on_a_cluster(data, monkeypatch, cluster):
    from typer.testing import CliRunner

    from tinytorch.tito.cli import app
    folder, x, t = data
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["evaluate", "--loss", "CrossEntropyLoss", "--rows", "20",
                                    "--input", "x.zarr", "--target", "t.zarr",
                                    "--scheduler", cluster.scheduler_address])
    assert done.exit_code == 0, done.output
    told = json.loads((folder / "evaluation.json").read_text())
    same(told, evaluate_files(CrossEntropyLoss(), "x.zarr", "t.zarr", rows=20))


def test_a_wrong_chunk_on_a_cluster_is_named(data, cluster):
    folder, x, t = data
    t[57] = 9
    np.save(folder / "t.npy", t)
    with pytest.raises(DataError, match=r"chunk 2 \(samples 40 to 59\).*target\[17\] is 9.*kept"):
        evaluate_files(CrossEntropyLoss(), folder / "x.npy", folder / "t.npy", rows=20,
                 scheduler=cluster.scheduler_address, progress=folder / "p")


def test_a_worker_that_is_killed_changes_nothing(data, cluster):
    folder, x, t = data
    killed = []

    def kill(done, count):
        if not killed:
            pid = next(iter(cluster.workers.values())).pid
            os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
            killed.append(pid)
    told = evaluate_files(CrossEntropyLoss(), folder / "x.npy", folder / "t.npy", rows=1,
                    scheduler=cluster.scheduler_address, on_chunk=kill)
    assert killed
    same(told, evaluate_files(CrossEntropyLoss(), folder / "x.npy", folder / "t.npy", rows=1))


def test_a_scheduler_that_goes_away_is_told(data, tmp_path):
    pytest.importorskip("distributed")
    folder, address = data[0], tmp_path / "address.json"
    dask = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen([*dask, "scheduler", "--port", "0", "--no-dashboard",
                                  "--scheduler-file", str(address)], stderr=subprocess.DEVNULL)
    worker = subprocess.Popen([*dask, "worker", "--scheduler-file", str(address),
                               "--nthreads", "1"], stderr=subprocess.DEVNULL)
    try:
        while not address.exists():
            assert scheduler.poll() is None
            time.sleep(0.1)
        where = json.loads(address.read_text())["address"]
        with pytest.raises(DataError, match=f"{where} went away. What was done is kept"):
            evaluate_files(CrossEntropyLoss(), folder / "x.npy", folder / "t.npy", rows=1,
                           scheduler=where, progress=tmp_path / "progress",
                           on_chunk=lambda done, count: scheduler.kill())
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere", "tcp://127.0.0.1"])
def test_a_scheduler_that_is_not_there_is_told(data, address):
    pytest.importorskip("distributed")
    with pytest.raises(DataError, match=f"There is no scheduler at {address}"):
        evaluate_files(MSELoss(), data[0] / "x.npy", data[0] / "x.npy", scheduler=address)
