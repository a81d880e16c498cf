"""The sigmoid loss with its gradients from embeddings: jest and open_clip's SigLipLoss, interleaved in one run.

    pip install torch open_clip_torch
    cargo build --release -p jest-train
    python benches/peers/sigmoid_loss.py --batch 8192 --width 256 --threads 2 --rounds 5

open_clip runs twice: over the whole b x b matrix, and in blocks of `--block` images and texts, each with a backward of its own,
as each of its processes does over several devices. Every measurement is a process of its own. Memory is the largest resident
memory while the loss is computed, less what was resident before, embeddings included. The last line is JSON with medians,
their spread, and ratios of medians.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time

PEERS = ["full", "blocks"]


def resident(key):
    """A size of this process in MiB: VmRSS now, VmHWM at most."""
    status = open("/proc/self/status").read()
    return int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) / 1024


def open_clip_once(args):
    import torch
    from open_clip.loss import SigLipLoss

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    n = args.batch
    image, text = (
        torch.nn.functional.normalize(torch.randn(n, args.width), dim=-1).requires_grad_() for _ in range(2)
    )
    scale, bias = (torch.tensor(value, requires_grad=True) for value in (10.0, -10.0))
    loss, size = SigLipLoss(), args.block if args.peer_once == "blocks" else n

    def work():
        for leaf in (image, text, scale, bias):
            leaf.grad = None
        for i in range(0, n, size):
            for j in range(0, n, size):
                pairs = (image[i : i + size], text[j : j + size])
                block = loss._loss(*pairs, scale, bias, negative_only=i != j)
                (block * (size / n)).backward()

    with open("/proc/self/clear_refs", "w") as largest:
        largest.write("5")  # The largest resident memory begins anew.
    before, seconds = resident("VmRSS"), []
    for repeat in range(2 + args.repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    seconds = statistics.median(seconds[2:])
    print(json.dumps({"milliseconds": 1e3 * seconds, "memory_mb": resident("VmHWM") - before}))


def last_json(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def jest_once(args):
    sizes = ["--batch", str(args.batch), "--width", str(args.width), "--threads", str(args.threads)]
    told = last_json([args.jest, "bench", "loss", "--device", "cpu", "--repeats", str(args.repeats), "--json", *sizes])
    (seconds,) = told["seconds"].values()
    return {"milliseconds": 1e3 * seconds, "memory_mb": told["peak_rss_mb"] - told["rss_before_mb"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--block", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jest", default="target/release/jest")
    parser.add_argument("--peer-once", choices=PEERS, help="one measurement of open_clip, in this process")
    args = parser.parse_args()
    if args.peer_once:
        return open_clip_once(args)
    numbers = ["batch", "width", "block", "threads", "repeats"]
    passed = [word for name in numbers for word in ("--" + name, str(getattr(args, name)))]
    results = {"jest": [], **{peer: [] for peer in PEERS}}
    for number in range(args.rounds):
        results["jest"].append(jest_once(args))
        for peer in PEERS:
            results[peer].append(last_json([sys.executable, __file__, "--peer-once", peer, *passed]))
        print(number, {name: {key: round(x) for key, x in all[-1].items()} for name, all in results.items()}, flush=True)
    of = lambda name, key: [result[key] for result in results[name]]
    median = lambda name, key: statistics.median(of(name, key))
    print(json.dumps({
        **{name: getattr(args, name) for name in [*numbers, "rounds"]},
        "milliseconds": {name: median(name, "milliseconds") for name in results},
        "spread": {name: [min(of(name, "milliseconds")), max(of(name, "milliseconds"))] for name in results},
        "memory_mb": {name: median(name, "memory_mb") for name in results},
        "jest_over": {peer: median(peer, "milliseconds") / median("jest", "milliseconds") for peer in PEERS},
    }))


if __name__ == "__main__":
    main()
