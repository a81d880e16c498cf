"""Writes shards of photograph-like pictures, to measure loaders with: the same arguments give the same bytes.

usage: pip install numpy pillow
       python benches/peers/pictures.py OUT [--count 4000] [--shards 8] [--least 64] [--most 256] [--format png]

Each picture is noise whose amplitude falls as 1/f, as it does in photographs, so that PNG and JPEG have as much to do as there. Sides are drawn
evenly from LEAST to MOST.
"""

import argparse
import io
import pathlib
import tarfile

import numpy as np
from PIL import Image

WORDS = "a the red green blue small large old cat dog tree house river boat street cloud stone bird in on under near with".split()


def picture(rng, width, height):
    """Three correlated planes of 1/f noise, spread over 0..255."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    planes = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random(frequency.shape))
        planes.append(np.fft.irfft2(phase / frequency**1.2, s=(height, width)))
    planes = np.stack([planes[0], 0.9 * planes[0] + 0.3 * planes[1], 0.8 * planes[0] + 0.4 * planes[2]], axis=-1)
    planes = 128 + 55 * planes / planes.std()
    return Image.fromarray(planes.clip(0, 255).astype(np.uint8))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--least", type=int, default=64)
    parser.add_argument("--most", type=int, default=256)
    parser.add_argument("--format", choices=["png", "jpg"], default="png")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for shard in range(args.shards):
        with tarfile.open(args.out / f"{shard:05}.tar", "w") as tar:
            for i in range(shard, args.count, args.shards):
                width, height = rng.integers(args.least, args.most + 1, 2)
                file = io.BytesIO()
                picture(rng, width, height).save(file, {"png": "PNG", "jpg": "JPEG"}[args.format])
                caption = " ".join(rng.choice(WORDS, rng.integers(3, 12)))
                for ending, content in [(args.format, file.getvalue()), ("txt", caption.encode())]:
                    member = tarfile.TarInfo(f"{i:09}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


main()
