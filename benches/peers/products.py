"""Matrix products in f32: jest and Burn on the emulated Vulkan adapter, jest and candle on the CPU, interleaved.

    sh benches/peers/install.sh rust
    cargo build --release -p jest-train
    python benches/peers/products.py --device llvmpipe --rounds 3

1024 cubed, and the layers of preset xs64 at 128 images of 64 tokens. Each round times both sides in a process of its own;
the last line is JSON with medians in milliseconds, their spread, and ratios of medians.
"""

import argparse
import json
import statistics
import subprocess

# Rows of a batch, inputs, outputs: queries, keys and values; output of attention; the two layers of the MLP.
SHAPES = ["1024x1024x1024", "8192x192x576", "8192x192x192", "8192x192x768", "8192x768x192"]


def last_json(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="llvmpipe", help="llvmpipe against Burn, or cpu against candle")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jest", default="target/release/jest")
    parser.add_argument("--peers", default="target/peers/rust/release/jest-peers")
    args = parser.parse_args()
    peer = "candle" if args.device == "cpu" else "burn"
    ours = [args.jest, "bench", "ops", "--device", args.device, "--repeats", str(args.repeats), "--json"]
    ours += ["--threads", str(args.threads)] + [word for shape in SHAPES for word in ("--product", shape)]
    theirs = [args.peers, peer, "products", str(args.repeats), *SHAPES]
    times = {shape: {"jest": [], peer: []} for shape in SHAPES}
    for number in range(args.rounds):
        measured = {"jest": last_json(ours)["seconds"], peer: last_json(theirs)}
        for shape in SHAPES:
            times[shape]["jest"].append(1e3 * measured["jest"][f"matmul f32 {shape}"])
            times[shape][peer].append(1e3 * measured[peer][shape])
        print(number, {shape: [round(side[-1], 1) for side in times[shape].values()] for shape in SHAPES}, flush=True)
    median = {shape: {name: statistics.median(all) for name, all in sides.items()} for shape, sides in times.items()}
    spread = {shape: {name: [min(all), max(all)] for name, all in sides.items()} for shape, sides in times.items()}
    ratios = {shape: sides[peer] / sides["jest"] for shape, sides in median.items()}
    print(json.dumps({"device": args.device, "milliseconds": median, "spread": spread, f"jest_over_{peer}": ratios}))


if __name__ == "__main__":
    main()
