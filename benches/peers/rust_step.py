"""Training steps and scoring passes in f32 on the CPU: jest and candle, interleaved.

    sh benches/peers/install.sh rust
    cargo build --release -p jest-train
    python benches/peers/rust_step.py --batch 32 --rounds 3

Candle's model is `benches/peers/rust/src/candle_model.rs`, of the sizes that `jest bench step` has: SigLIP's towers, full captions,
the sigmoid loss, clipped gradients, AdamW. Each round times both sides in a process of its own; the last line is JSON with medians in
examples a second, their spread, ratios of medians, and the peer's number of parameters and losses.
"""

import argparse
import json
import os
import statistics
import subprocess

PEER = "candle"


def last_json(command, threads):
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}  # Candle's.
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(output.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="xs64", choices=["mu", "xs64"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jest", default="target/release/jest")
    parser.add_argument("--peers", default="target/peers/rust/release/jest-peers")
    args = parser.parse_args()
    ours = [args.jest, "bench", "step", "--preset", args.preset, "--batch", str(args.batch), "--threads", str(args.threads)]
    ours += ["--device", "cpu", "--repeats", str(args.repeats), "--json"]
    theirs = [args.peers, PEER, "step", args.preset, str(args.batch), str(args.repeats)]
    measured = {f"{name} {kind}": [] for name in ["jest", PEER] for kind in ["score", "step"]}
    for number in range(args.rounds):
        for name, command in [("jest", ours), (PEER, theirs)]:
            line = last_json(command, args.threads)
            for kind in ["score", "step"]:
                measured[f"{name} {kind}"].append(line[f"{kind}_ips"])
        print(number, {key: round(values[-1], 2) for key, values in measured.items()}, flush=True)
    medians = {key: statistics.median(values) for key, values in measured.items()}
    spread = {key: [min(values), max(values)] for key, values in measured.items()}
    ratios = {kind: medians[f"jest {kind}"] / medians[f"{PEER} {kind}"] for kind in ["score", "step"]}
    setting = dict(peer=PEER, preset=args.preset, batch=args.batch, rounds=args.rounds)
    told = dict(parameters=line["parameters"], losses=line["losses"])
    print(json.dumps({**setting, "examples_per_second": medians, "spread": spread, "jest_over": ratios, **told}))


if __name__ == "__main__":
    main()
