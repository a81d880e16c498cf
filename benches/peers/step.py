"""Training steps and scoring passes: jest and PyTorch, interleaved in one run.

    pip install torch transformers
    cargo build --release -p jest-train
    python benches/peers/step.py --preset xs64 --batch 128 --threads 2 --rounds 5

PyTorch runs Hugging Face's SiglipModel of the same sizes with its own sigmoid loss, clip_grad_norm_ and fused AdamW; eager
and, with --compile, torch.compile; with --precision bf16 under autocast. Each round times both sides; the last line is JSON with medians and ratios of medians.
"""

import argparse
import json
import statistics
import subprocess
import time

PRESETS = {  # image, patch, width, depth, heads, mlp, text tokens, vocabulary
    "mu": (32, 8, 64, 2, 2, 256, 16, 512),
    "xs64": (64, 8, 192, 6, 3, 768, 32, 8192),
    "ti128": (128, 16, 192, 12, 3, 768, 64, 32000),
    "s224": (224, 16, 384, 12, 6, 1536, 64, 32000),
}


class Torch:
    def __init__(self, preset, batch, threads, compiled, precision):
        import torch
        from transformers import SiglipConfig, SiglipModel

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        image, patch, width, depth, heads, mlp, tokens, vocab = PRESETS[preset]
        shared = dict(hidden_size=width, intermediate_size=mlp, num_hidden_layers=depth, num_attention_heads=heads)
        config = SiglipConfig(
            vision_config=dict(image_size=image, patch_size=patch, **shared),
            text_config=dict(vocab_size=vocab, max_position_embeddings=tokens, projection_size=width, **shared),
        )
        self.torch, self.model = torch, SiglipModel(config)
        self.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
        self.inputs = dict(
            pixel_values=torch.rand(batch, 3, image, image) * 2 - 1, input_ids=torch.randint(0, vocab, (batch, tokens))
        )
        self.forward = torch.compile(self.model) if compiled else self.model

    def score(self):
        self.model.eval()
        with self.torch.no_grad(), self.autocast():
            self.forward(**self.inputs)

    def step(self):
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.forward(**self.inputs, return_loss=True).loss
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


def seconds(work, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def jest(binary, preset, batch, threads, precision):
    command = [binary, "bench", "step", "--preset", preset, "--batch", str(batch), "--threads", str(threads)]
    command += ["--precision", precision]
    output = subprocess.run([*command, "--device", "cpu", "--repeats", "3", "--json"], check=True, capture_output=True, text=True)
    return json.loads(output.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="xs64", choices=PRESETS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--binary", default="target/release/jest")
    args = parser.parse_args()
    peers = {"eager": Torch(args.preset, args.batch, args.threads, False, args.precision)}
    if args.compile:
        peers["compile"] = Torch(args.preset, args.batch, args.threads, True, args.precision)
    for peer in peers.values():
        seconds(peer.score, 2), seconds(peer.step, 2)  # warm-up
    measured = {f"{name} {kind}": [] for name in ["jest", *peers] for kind in ["score", "step"]}
    for round_ in range(args.rounds):
        ours = jest(args.binary, args.preset, args.batch, args.threads, args.precision)
        measured["jest score"].append(ours["score_ips"])
        measured["jest step"].append(ours["step_ips"])
        for name, peer in peers.items():
            measured[f"{name} score"].append(args.batch / seconds(peer.score, 3))
            measured[f"{name} step"].append(args.batch / seconds(peer.step, 3))
        print(round_, {key: round(values[-1], 1) for key, values in measured.items()}, flush=True)
    medians = {key: statistics.median(values) for key, values in measured.items()}
    spread = {key: [min(values), max(values)] for key, values in measured.items()}
    ratios = {
        f"{name} {kind}": medians[f"jest {kind}"] / medians[f"{name} {kind}"] for name in peers for kind in ["score", "step"]
    }
    setting = dict(preset=args.preset, batch=args.batch, threads=args.threads, precision=args.precision, rounds=args.rounds)
    print(json.dumps({**setting, "examples_per_second": medians, "spread": spread, "jest_over": ratios}))


if __name__ == "__main__":
    main()
