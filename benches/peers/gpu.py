"""What `benches/gpu.sh` measures, in PyTorch on the same GPU; the last line is JSON.

    python benches/peers/gpu.py --product 4096 --rows 65536x768 --attention 256x256x12x64 --preset b256 --batch 256

Seconds of products, of what moves memory, and of attention with and without its gradient (scaled_dot_product_attention), in
f32 without TF32, f16 and bf16; examples a second of scoring and of a training step of two towers of the preset's sizes, with the
sigmoid loss, clip_grad_norm_ and fused AdamW, in f32 and under autocast; and one joint selection, whose scores are computed
a chunk at a time. Where PyTorch is missing, the line says so.
"""

import argparse
import json
import statistics
import time

WARM_UPS = 2
DTYPES = ["f32", "f16", "bf16"]
PRESETS = {  # image, patch, width, depth, heads, mlp, text tokens, vocabulary
    "mu": (32, 8, 64, 2, 2, 256, 16, 512),
    "xs64": (64, 8, 192, 6, 3, 768, 32, 8192),
    "b256": (256, 16, 768, 12, 12, 3072, 64, 32000),
}


def numbers(text):
    return [int(part) for part in text.split("x")]


class Bench:
    def __init__(self, torch, device, repeats):
        self.torch, self.device, self.repeats = torch, device, repeats
        self.calls = 8 if device == "cuda" else 1
        self.dtypes = dict(f32=torch.float32, f16=torch.float16, bf16=torch.bfloat16)

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def seconds(self, work, calls):
        """Median of one call, of several that are waited for together."""
        times = []
        for repeat in range(WARM_UPS + self.repeats):
            self.wait()
            start = time.perf_counter()
            for _ in range(calls):
                work()
            self.wait()
            if repeat >= WARM_UPS:
                times.append((time.perf_counter() - start) / calls)
        return statistics.median(times)

    def random(self, *shape, dtype="f32"):
        return self.torch.randn(*shape, device=self.device, dtype=self.dtypes[dtype])

    def products(self, sides):
        for n in sides:
            for dtype in DTYPES:
                a, b = self.random(n, n, dtype=dtype), self.random(n, n, dtype=dtype)
                yield f"matmul {dtype} {n}x{n}x{n}", lambda a=a, b=b: a @ b

    def rows(self, shapes):
        functional = self.torch.nn.functional
        for rows, cols in shapes:
            name = f"{rows}x{cols}"
            x, to = self.random(rows, cols), self.random(rows, cols)
            yield f"copy {name}", lambda: to.copy_(x)
            weight, bias = self.random(cols).requires_grad_(), self.random(cols).requires_grad_()
            leaf = x.clone().requires_grad_()
            norm = lambda x: functional.layer_norm(x, (cols,), weight, bias, 1e-6)
            with self.torch.no_grad():
                plain = weight.detach()
            yield f"layer_norm {name}", lambda: functional.layer_norm(x, (cols,), plain, plain, 1e-6)
            yield f"layer_norm with gradient {name}", lambda: self.gradients(norm(leaf), to, leaf, weight, bias)
            yield f"gelu {name}", lambda: functional.gelu(x, approximate="tanh")
            labels = self.torch.arange(rows, device=self.device) % cols
            yield f"softmax_cross_entropy {name}", lambda: self.gradients(functional.cross_entropy(leaf, labels), None, leaf)
            leaf.grad = to
            yield f"adamw {name}", self.torch.optim.AdamW([leaf], lr=1e-3, fused=self.device == "cuda").step

    def gradients(self, y, dy, *by):
        return self.torch.autograd.grad(y, by, dy)

    def attention(self, shapes):
        attend = self.torch.nn.functional.scaled_dot_product_attention
        for n, length, heads, width in shapes:
            for dtype in DTYPES:
                q, k, v = (self.random(n, heads, length, width, dtype=dtype).requires_grad_() for _ in range(3))
                dy, name = self.random(n, heads, length, width, dtype=dtype), f"{dtype} {n}x{length}x{heads}x{width}"
                plain = [x.detach() for x in (q, k, v)]
                yield f"attention {name}", lambda plain=plain: attend(*plain)
                yield f"attention with gradient {name}", lambda q=q, k=k, v=v, dy=dy: self.gradients(attend(q, k, v), dy, q, k, v)


def towers(torch, preset):
    image, patch, width, depth, heads, mlp, tokens, vocab = PRESETS[preset]
    nn = torch.nn

    class Tower(nn.Module):
        def __init__(self, length):
            super().__init__()
            gelu = lambda x: nn.functional.gelu(x, approximate="tanh")
            block = nn.TransformerEncoderLayer(width, heads, mlp, 0.0, gelu, 1e-6, batch_first=True, norm_first=True)
            self.position = nn.Parameter(torch.randn(length, width) * 0.02)
            self.blocks = nn.TransformerEncoder(block, depth, nn.LayerNorm(width), enable_nested_tensor=False)

        def forward(self, x):
            return self.blocks(x + self.position)

    class TwoTowers(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.table = nn.Conv2d(3, width, patch, patch), nn.Embedding(vocab, width)
            self.vision, self.text = Tower((image // patch) ** 2), Tower(tokens)
            self.probe = nn.Parameter(torch.randn(1, 1, width) * 0.02)
            self.pool, self.norm = nn.MultiheadAttention(width, heads, batch_first=True), nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU("tanh"), nn.Linear(mlp, width))
            self.head = nn.Linear(width, width)
            self.scale, self.bias = nn.Parameter(torch.tensor(2.3)), nn.Parameter(torch.tensor(-10.0))

        def forward(self, pixels, ids):
            x = self.vision(self.patches(pixels).flatten(2).transpose(1, 2))
            pooled, _ = self.pool(self.probe.expand(len(x), -1, -1), x, x, need_weights=False)
            pooled = pooled + self.mlp(self.norm(pooled))
            text = self.head(self.text(self.table(ids))[:, -1])
            return nn.functional.normalize(pooled[:, 0], dim=-1), nn.functional.normalize(text, dim=-1)

        def loss(self, pixels, ids):
            image, text = self(pixels, ids)
            logits = image @ text.T * self.scale.exp() + self.bias
            signs = 2 * torch.eye(len(image), device=image.device) - 1
            return -nn.functional.logsigmoid(signs * logits).sum() / len(image)

    return TwoTowers()


def step(bench, preset, batch, dtype):
    torch = bench.torch
    image, *_, tokens, vocab = PRESETS[preset]
    torch.manual_seed(0)
    model = towers(torch, preset).to(bench.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=bench.device == "cuda")
    pixels = bench.random(batch, 3, image, image)
    ids = torch.randint(0, vocab, (batch, tokens), device=bench.device)
    autocast = lambda: torch.autocast(bench.device, dtype=bench.dtypes[dtype], enabled=dtype != "f32")
    # Without a scale f16 may underflow; here only the time counts.

    def score():
        with torch.no_grad(), autocast():
            model(pixels, ids)

    def train():
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = model.loss(pixels, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    ips = {f"{name}_ips": batch / bench.seconds(work, 1) for name, work in [("score", score), ("step", train)]}
    peak = torch.cuda.max_memory_allocated() if bench.device == "cuda" else 0
    return {"preset": preset, "batch": batch, **ips, "peak_device_bytes": peak}


def select(bench, super_batch, sub_batch, chunks, width):
    torch, functional, draws = bench.torch, bench.torch.nn.functional, sub_batch // chunks
    torch.manual_seed(0)
    models = []
    for sign, scale, bias in [(1, 20.0, -12.0), (-1, 60.0, -13.0)]:
        image = bench.random(super_batch, width)
        models.append((sign, functional.normalize(image), functional.normalize(0.5 * image + bench.random(super_batch, width)), scale, bias))
    gumbel = lambda: -torch.log(-torch.log(torch.rand(super_batch, device=bench.device)))
    bench.wait()
    start = time.perf_counter()
    with torch.no_grad():
        conditional = sum(s * functional.softplus(-(scale * (image * text).sum(-1) + bias)) for s, image, text, scale, bias in models)
        drawn = torch.zeros(super_batch, dtype=torch.bool, device=bench.device)
        for chunk in range(chunks):
            noisy = torch.where(drawn, -torch.inf, conditional + gumbel())
            picked = torch.topk(noisy, draws).indices
            drawn[picked] = True
            if chunk + 1 < chunks:
                for sign, image, text, scale, bias in models:
                    for left, right in [(image, text), (text, image)]:
                        logits = left @ right[picked].T
                        conditional += sign * functional.softplus(logits.mul_(scale).add_(bias)).sum(-1)
    bench.wait()
    assert int(drawn.sum()) == draws * chunks
    return {"super_batch": super_batch, "sub_batch": sub_batch, "chunks": chunks, "width": width, "seconds": time.perf_counter() - start}


def tried(bench, work):
    """The result, or what went wrong; the rest is measured all the same."""
    try:
        return work()
    except RuntimeError as error:
        return {"error": str(error).splitlines()[0]}
    finally:
        if bench.device == "cuda":
            bench.torch.cuda.empty_cache()
            bench.torch.cuda.reset_peak_memory_stats()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", type=int, action="append", default=[])
    parser.add_argument("--rows", type=numbers, action="append", default=[])
    parser.add_argument("--attention", type=numbers, action="append", default=[])
    parser.add_argument("--preset", default="b256", choices=PRESETS)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--select", type=numbers, default=[163840, 32768, 16, 768], help="super-batch, sub-batch, chunks and width")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    try:
        import torch
    except ImportError as error:
        print(json.dumps({"skipped": str(error)}))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    bench = Bench(torch, device, args.repeats)
    seconds = {}
    for works in [bench.products(args.product), bench.rows(args.rows), bench.attention(args.attention)]:
        try:
            for name, work in works:
                seconds[name] = tried(bench, lambda: bench.seconds(work, bench.calls))
        except RuntimeError as error:  # no room for the operands
            seconds["error"] = str(error).splitlines()[0]
    steps = {dtype: tried(bench, lambda: step(bench, args.preset, args.batch, dtype)) for dtype in DTYPES}
    picks = tried(bench, lambda: select(bench, *args.select))
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    print(json.dumps({"torch": torch.__version__, "device": name, "seconds": seconds, "step": steps, "select": picks}))


if __name__ == "__main__":
    main()
