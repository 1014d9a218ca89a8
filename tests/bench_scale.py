"""Measure losses of Dask arrays: `python tests/bench_scale.py overhead processes build memory`.

Each part measures its two ways in turn, in one run, and prints medians. `memory` makes 30 GB of
logits chunk by chunk; `--gigabytes 10` makes fewer.
"""
import argparse
import time
from statistics import median

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import tinytorch
from tinytorch.core.problem import at_most
from tinytorch.nn import CrossEntropyLoss, LogCoshLoss, MSELoss


def in_turn(ways: dict, repeats: int, clock=time.perf_counter) -> dict:
    "Return the median seconds of each function, called in turn."
    times = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: median(seconds) for name, seconds in times.items()}


def apart(array, count: int):
    "Return a Dask array of `count` chunks, all of which are this array."
    chunks = ((len(array),) * count, *[(n,) for n in array.shape[1:]])
    return da.map_blocks(lambda: array, chunks=chunks, dtype=array.dtype,
                         meta=array[:0], name=f"same-{id(array)}")


def drop(gradient):
    "Return the lazy number of elements of a gradient, whose chunks are let go one by one."
    return gradient.map_blocks(lambda block: np.array([[block.size]]), chunks=(1, 1)).sum()


def overhead(args) -> None:
    "Chunks of 64 MiB as tasks of the threads scheduler, and in a loop: processor time, one core."
    rng, count = np.random.default_rng(0), 8
    x = rng.normal(size=(4096, 4096)).astype(np.float32)
    for loss, t in (MSELoss(), x[::-1].copy()), (CrossEntropyLoss(), rng.integers(0, 4096, 4096)):
        xs, ts = apart(x, count), apart(t, count)
        for what, wrt in ("value", ()), ("gradient", None):
            with tinytorch.engine(args.engine):
                lazy = loss.value_and_gradient(xs, ts) if what == "gradient" else (loss(xs, ts),)
            lazy = [lazy[0], *[drop(x) for x in lazy[1:]]]

            def loop():
                with tinytorch.engine(args.engine), at_most(1):
                    return [loss.partial(x, t, wrt=wrt).divisor for _ in range(count)]

            def tasks():
                return dask.compute(*lazy, scheduler="threads", num_workers=1)
            times = in_turn({"loop": loop, "Dask": tasks}, args.repeats, time.process_time)
            print(f"overhead {args.engine} {type(loss).__name__} {what}: "
                  f"{100 * (times['Dask'] / times['loop'] - 1):+.1f} % of "
                  f"{1000 * times['loop'] / count:.1f} ms a chunk", flush=True)


def chunk_of(shape, block_info=None):
    "Make a chunk of numbers."
    return np.random.default_rng(block_info[None]["chunk-location"]).random(shape)


def processes(args) -> None:
    "One worker process with one thread, and two, on the same chunks of 64 MB, already there."
    clusters = {n: LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=":0",
                                silence_logs="ERROR")
                for n in (1, 2)}
    clients = {n: Client(cluster) for n, cluster in clusters.items()}
    ways = {}
    for n, client in clients.items():
        x = da.map_blocks(chunk_of, (8000, 1000), chunks=((8000,) * 12, (1000,)), dtype=float)
        x, t = client.persist([x, x / 2])        # nothing moves between workers
        client.gather(client.compute((x + t).sum()))
        with tinytorch.engine(args.engine):
            lazy = LogCoshLoss()(x, t)
        ways[n] = lambda client=client, lazy=lazy: client.compute(lazy + time.time()).result()
    times = in_turn(ways, args.repeats)
    print(f"processes: {times[1] / times[2]:.2f} times as fast with two "
          f"({1000 * times[1]:.0f} and {1000 * times[2]:.0f} ms)", flush=True)
    for n in clusters:
        clients[n].close()
        clusters[n].close()


def build(args) -> None:
    "The graph of 10,000 chunks."
    for count in 1000, 10_000:
        x, t = da.zeros((count, 8), chunks=(1, 8)), da.zeros(count, chunks=1, dtype=int)
        start = time.perf_counter()
        size = sum(len(lazy.dask) for lazy in CrossEntropyLoss().value_and_gradient(x, t))
        print(f"build: {count} chunks, {size} tasks in {time.perf_counter() - start:.2f} s",
              flush=True)


def logits_of(block_info=None):
    "Make a chunk of logits."
    rng = np.random.default_rng(block_info[None]["chunk-location"])
    return rng.standard_normal(block_info[None]["chunk-shape"], np.float32)


def peak() -> int:
    "Return the largest memory that this process ever had, in bytes."
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(args) -> None:
    "Logits made chunk by chunk, by two workers that are killed at 1.5 GB."
    rows, classes = 4096, 32_000
    count = round(args.gigabytes * 1e9 / (4 * rows * classes))
    x = da.map_blocks(logits_of, chunks=((rows,) * count, (classes // 4,) * 4), dtype=np.float32)
    t = da.zeros(rows * count, chunks=rows, dtype=int)
    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit="1.5GB",
                      dashboard_address=":0", silence_logs="ERROR") as cluster:
        with Client(cluster) as client:
            start = time.perf_counter()
            loss = CrossEntropyLoss()(x, t).compute()
            peaks = [f"{size / 1e9:.2f}" for size in client.run(peak).values()]
    print(f"memory: {x.nbytes / 1e9:.1f} GB of logits, loss {loss:.6f}, at most "
          f"{' and '.join(peaks)} GB a worker, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=["overhead", "processes", "build", "memory"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--gigabytes", type=float, default=30)
    parser.add_argument("--engine", default="numpy")
    args = parser.parse_args()
    for part in args.parts:
        globals()[part](args)
