"""Joint selection: jest, and the paper's algorithm 1 in PyTorch over B x B matrices, interleaved in one run.

    pip install torch
    cargo build --release -p jest-train
    python benches/peers/selection.py --super-batch 16384 --sub-batch 3264 --chunks 16 --width 256 --threads 2 --rounds 3

Both draw from unit embeddings at random of a learner and a reference. PyTorch stores the scores as algorithm 1 does, and
sums them over the picks as products of matrix and vector, which is the faster way; each side is a process of its own, so
that its largest memory is its own. The last line is JSON with medians, their spread, and ratios of medians.
"""

import sys

sys.path.pop(0)  # This file has the name of a standard module, which others import.

import argparse
import json
import resource
import statistics
import subprocess
import time


def torch_once(args):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size, draws = args.super_batch, args.sub_batch // args.chunks

    def model(scale, bias):
        image = torch.rand(size, args.width) * 2 - 1
        text = 0.5 * image + torch.rand(size, args.width) * 2 - 1
        return F.normalize(image), F.normalize(text), scale, bias

    def losses(image, text, scale, bias):
        logits = image @ text.T
        logits.mul_(scale).add_(bias)
        logits.diagonal().neg_()
        return F.softplus(logits)

    models = [model(20.0, -12.0), model(60.0, -13.0)]
    start = time.perf_counter()
    with torch.no_grad():
        scores = losses(*models[0]) - losses(*models[1])
        own = scores.diagonal().clone()
        gumbel = lambda: -torch.log(-torch.log(torch.rand(size)))
        picked = torch.topk(own + gumbel(), draws).indices
        for _ in range(args.chunks - 1):
            mask = torch.zeros(size)
            mask[picked] = 1.0
            conditional = own + mask @ scores + scores @ mask - 1e8 * mask
            picked = torch.cat([picked, torch.topk(conditional + gumbel(), draws).indices])
    seconds = time.perf_counter() - start
    assert len(set(picked.tolist())) == args.sub_batch
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_rss_mb": peak / 1024, "import_rss_mb": before / 1024}))


def last_json(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--super-batch", type=int, default=16384)
    parser.add_argument("--sub-batch", type=int, default=3264)
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jest", default="target/release/jest")
    parser.add_argument("--torch-once", action="store_true", help="one measurement of PyTorch, in this process")
    args = parser.parse_args()
    if args.torch_once:
        return torch_once(args)
    sizes = []
    for name in ["super_batch", "sub_batch", "chunks", "width", "threads"]:
        sizes += ["--" + name.replace("_", "-"), str(getattr(args, name))]
    ours = [args.jest, "bench", "select", "--device", "cpu", "--json", *sizes]
    theirs = [sys.executable, __file__, "--torch-once", *sizes]
    results = {"jest": [], "torch": []}
    for number in range(args.rounds):
        for name, command in [("jest", ours), ("torch", theirs)]:
            results[name].append(last_json(command))
            print(f"round {number}: {name} {json.dumps(results[name][-1])}", flush=True)
    median = lambda name, key: statistics.median(result[key] for result in results[name])
    ends = lambda name: [end(result["seconds"] for result in results[name]) for end in (min, max)]
    print(json.dumps({
        "sizes": {name: getattr(args, name) for name in ["super_batch", "sub_batch", "chunks", "width", "threads"]},
        "jest": {key: median("jest", key) for key in ["seconds", "peak_rss_mb"]},
        "torch": {key: median("torch", key) for key in ["seconds", "peak_rss_mb", "import_rss_mb"]},
        "spread": {name: ends(name) for name in results},
        "speedup": median("torch", "seconds") / median("jest", "seconds"),
        "memory_ratio": median("torch", "peak_rss_mb") / median("jest", "peak_rss_mb"),
    }))


if __name__ == "__main__":
    main()
