"""Examples per second of jest-data's loader against WebDataset behind PyTorch's DataLoader, two workers each.

usage: cargo build --release -p jest-data --example throughput
       pip install torch webdataset pillow tokenizers
       python benches/peers/pictures.py DIR
       python benches/peers/loader.py DIR [--size 64] [--rounds 5] [--epochs 5]

The sample's shards serve as well: target/release/jest data build assets/sample/train DIR --samples-per-shard 400. Two workers of WebDataset need two
shards or more. Both read the same plain tar shards, shuffle shards and 5,000 samples, decode PNG and JPEG, resize to SIZE by bicubic, normalise to f32
and tokenise captions to 16 ids with the sample's tokenizer.json. Rounds alternate; what counts is the ratio of medians.
"""

import argparse
import glob
import pathlib
import re
import statistics
import subprocess
import time

import numpy as np
import tokenizers
import torch
import webdataset as wds

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "assets/sample/tokenizer.json"
TOKENS = 16


class Prepare:
    """Picture and caption to tensors; picklable, so that workers get it."""

    def __init__(self, size):
        self.size = size
        self.tokenizer = None

    def __call__(self, sample):
        if self.tokenizer is None:
            self.tokenizer = tokenizers.Tokenizer.from_file(str(TOKENIZER))
            self.tokenizer.enable_truncation(TOKENS)
            self.tokenizer.enable_padding(length=TOKENS)
        image, caption = sample
        image = image.convert("RGB").resize((self.size, self.size), 3)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(127.5).sub_(1.0)
        return pixels, torch.tensor(self.tokenizer.encode(caption).ids)


def theirs(shards, size, epochs, batch):
    data = wds.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(5000).decode("pil")
    data = data.to_tuple("png;jpg;jpeg;webp", "txt").map(Prepare(size)).batched(batch)
    loader = wds.WebLoader(data, batch_size=None, num_workers=2, persistent_workers=True)
    for _ in loader:  # The first epoch starts the workers.
        pass
    examples, start = 0, time.perf_counter()
    for _ in range(epochs):
        for pixels, _ in loader:
            examples += len(pixels)
    return examples / (time.perf_counter() - start)


def ours(folder, size, epochs):
    command = [ROOT / "target/release/examples/throughput", folder, TOKENIZER, str(size), "2", str(epochs)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"decoding every epoch: (\d+) examples/s", out)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    shards = sorted(glob.glob(f"{args.folder}/*.tar"))
    rates = {"jest-data": [], "webdataset": []}
    for i in range(args.rounds):
        rates["jest-data"].append(ours(args.folder, args.size, args.epochs))
        rates["webdataset"].append(theirs(shards, args.size, args.epochs, 512))
        print(f"round {i + 1}: " + ", ".join(f"{name} {rate[-1]:.0f}/s" for name, rate in rates.items()), flush=True)
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    for name, rate in rates.items():
        print(f"{name}: median {medians[name]:.0f} examples/s, from {min(rate):.0f} to {max(rate):.0f}")
    print(f"ratio of medians {medians['jest-data'] / medians['webdataset']:.2f}")


main()
