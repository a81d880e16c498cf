"""The loader on shards from an HTTP server on this machine against the same shards as files.

usage: cargo build --release -p jest-data --features remote --example throughput
       python benches/peers/remote.py DIR [--size 64] [--rounds 5] [--epochs 5] [--rate MB]

DIR holds 00000.tar, 00001.tar, ... The server is a process of its own; with --rate each of its connections gives so many million bytes a
second. Rounds alternate; what counts is the ratio of medians.
"""

import argparse
import functools
import glob
import http.server
import multiprocessing
import pathlib
import re
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args, rate, **named):
        self.rate = rate
        super().__init__(*args, **named)

    def log_message(self, *_):
        pass

    def copyfile(self, source, out):
        begin, sent = time.monotonic(), 0
        while piece := source.read(256 << 10):
            try:
                out.write(piece)
            except OSError:  # The reader has ended.
                return
            sent += len(piece)
            if self.rate:
                time.sleep(max(0.0, begin + sent / self.rate - time.monotonic()))


def serve(folder, rate, port):
    handler = functools.partial(Handler, directory=folder, rate=rate)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    port.send(server.server_address[1])
    server.serve_forever()


def rate_of(source, size, epochs):
    command = [ROOT / "target/release/examples/throughput", source, ROOT / "assets/sample/tokenizer.json", str(size), "2", str(epochs)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert ", 0 skipped" in out, out
    return float(re.search(r"decoding every epoch: (\d+) examples/s", out)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.0)
    args = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(args.folder, args.rate * 1e6, there), daemon=True)
    server.start()
    last = len(glob.glob(f"{args.folder}/*.tar")) - 1
    pattern = f"{{00000..{last:05}}}.tar"
    sources = {"files": f"{args.folder}/{pattern}", "http": f"http://127.0.0.1:{here.recv()}/{pattern}"}
    rates = {name: [] for name in sources}
    for i in range(args.rounds):
        for name, source in sources.items():
            rates[name].append(rate_of(source, args.size, args.epochs))
        print(f"round {i + 1}: " + ", ".join(f"{name} {rate[-1]:.0f}/s" for name, rate in rates.items()), flush=True)
    for name, rate in rates.items():
        print(f"{name}: median {statistics.median(rate):.0f} examples/s, from {min(rate):.0f} to {max(rate):.0f}")
    print(f"ratio of medians {statistics.median(rates['http']) / statistics.median(rates['files']):.3f}")
    server.kill()


main()
