"""Single operations: jest and PyTorch, interleaved in one run.

    pip install torch
    cargo build --release -p jest-train
    python benches/peers/ops.py --threads 2 --rounds 5

Square products of 1024 and 2048 in f32 and bf16, and softmax cross-entropy with its gradient over 4096 x 4096. Each round times
both sides; the last line is JSON with medians in milliseconds, their spread, and ratios of medians.
"""

import argparse
import json
import statistics
import subprocess
import time

import torch


def torch_works():
    works = {}
    for n in (1024, 2048):
        a, b = torch.randn(n, n), torch.randn(n, n)
        works[f"matmul f32 {n}"] = lambda a=a, b=b: a @ b
        a16, b16 = a.bfloat16(), b.bfloat16()
        works[f"matmul bf16 {n}"] = lambda a=a16, b=b16: a @ b
    logits = torch.randn(4096, 4096, requires_grad=True)
    labels = torch.arange(4096)

    def cross_entropy():
        logits.grad = None
        torch.nn.functional.cross_entropy(logits, labels).backward()

    works["softmax_cross_entropy 4096x4096"] = cross_entropy
    return works


def milliseconds(work, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def jest(binary, threads, precision):
    command = [binary, "bench", "ops", "--precision", precision, "--threads", str(threads), "--device", "cpu", "--repeats", "3", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = json.loads(output.stdout.strip().splitlines()[-1])["seconds"]
    return {op: 1e3 * value for op, value in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--binary", default="target/release/jest")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    works = torch_works()
    for work in works.values():
        milliseconds(work, 2)  # warm-up
    ours, theirs = {}, {}
    for round_ in range(args.rounds):
        times = jest(args.binary, args.threads, "f32")
        rounded = jest(args.binary, args.threads, "bf16")
        times |= {op: value for op, value in rounded.items() if "bf16" in op}
        for op, value in times.items():
            ours.setdefault(op, []).append(value)
            theirs.setdefault(op, []).append(milliseconds(works[op], 3))
        print(round_, {op: [round(ours[op][-1], 1), round(theirs[op][-1], 1)] for op in times}, flush=True)
    median = {op: [statistics.median(ours[op]), statistics.median(theirs[op])] for op in ours}
    ratios = {op: theirs / ours for op, (ours, theirs) in median.items()}
    spread = {op: [[min(all), max(all)] for all in (ours[op], theirs[op])] for op in ours}
    setting = dict(threads=args.threads, rounds=args.rounds)
    print(json.dumps({**setting, "milliseconds_jest_torch": median, "spread": spread, "jest_over_torch": ratios}))


if __name__ == "__main__":
    main()
