"""Does onnxruntime compute from `jest export --format onnx` what `jest` and transformers compute?

    python scripts/interchange/check_onnx.py [JEST [CHECKPOINT ...]]

JEST is the program (target/release/jest). First the models of fixtures/hf_* against the embeddings that transformers gave for them; then each CHECKPOINT against `jest embed` on assets/sample/eval/clipart_retrieval, with pixels made by Pillow
and ids made by tokenizers from the exported folder alone. Needs onnx, onnxruntime, numpy, safetensors, Pillow and tokenizers. Exits with 1
where a unit embedding is off by more than 1e-5."""

import io
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import numpy as np
import onnx
import onnxruntime
from PIL import Image
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAIRS = ROOT / "assets/sample/eval/clipart_retrieval"
LIMIT = 1e-5


def jest(*args):
    program = sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/jest"
    subprocess.run([program, *args], check=True, stdout=subprocess.DEVNULL)


class Towers:
    """Both files, as onnxruntime runs them."""

    def __init__(self, folder):
        self.sessions = []
        for name in ["vision_model.onnx", "text_model.onnx"]:
            path = str(folder / "onnx" / name)
            onnx.checker.check_model(path, full_check=True)
            self.sessions.append(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))

    def embed(self, pixels, ids):
        """In batches of 1, 6, 32, 32, ..: the first axis is free."""
        cuts = [0, 1, 7, *range(39, len(ids), 32), len(ids)]
        parts = [(pixels[a:b], ids[a:b].astype(np.int64)) for a, b in zip(cuts, cuts[1:]) if a < b]
        vision, text = self.sessions
        images = [vision.run(["image_embeds"], {"pixel_values": pixels})[0] for pixels, _ in parts]
        texts = [text.run(["text_embeds"], {"input_ids": ids})[0] for _, ids in parts]
        return np.concatenate(images), np.concatenate(texts)


def inputs(folder):
    """Pixels and ids of the pairs, by what the folder says of pictures and texts."""
    said = json.loads((folder / "preprocessor_config.json").read_text())
    length = json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"]
    assert not said.get("do_center_crop"), "written for pictures that are squashed"
    size, mean, std = said["size"], np.float32(said["image_mean"]), np.float32(said["image_std"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pad = tokenizer.padding["pad_id"]
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    pixels, ids = [], []
    with tarfile.open(next(PAIRS.glob("*.tar.gz"))) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    for name in [name for name in members if name.endswith(".txt")]:
        key = name.removesuffix(".txt")
        image = next(members[other] for other in members if other.startswith(key + ".") and other.split(".")[-1] in ("png", "jpg", "webp"))
        square = Image.open(io.BytesIO(image)).convert("RGB").resize((size["width"], size["height"]), said["resample"])
        pixels.append(((np.asarray(square, np.float32) / 255 - mean) / std).transpose(2, 0, 1))
        row = tokenizer.encode(members[name].decode()).ids
        ids.append(row + [pad] * (length - len(row)))
    return np.float32(pixels), np.int64(ids)


def compare(name, found, expected):
    errors = [float(np.abs(a - b).max()) for a, b in zip(found, expected)]
    print(f"{name}: {len(found[0])} pairs, largest difference of unit embeddings: images {errors[0]:.1e}, texts {errors[1]:.1e}")
    return max(errors) <= LIMIT


def fixture(name, place):
    jest("export", ROOT / "fixtures" / name, place / name, "--format", "onnx")
    given = load_file(ROOT / "fixtures" / name / "expected.safetensors")
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = Towers(place / name).embed(given["pixel_values"], given["input_ids"])
    return compare(name, found, [unit(given["image_embeds"]), unit(given["text_embeds"])])


def checkpoint(folder, place):
    jest("export", folder, place / "onnx", "--format", "onnx")
    jest("embed", "--checkpoint", folder, "--data", PAIRS, "--out", place / "embeddings", "--device", "cpu")
    parts = [load_file(path) for path in sorted((place / "embeddings").glob("part-*.safetensors"))]
    expected = [np.concatenate([part[of] for part in parts]) for of in ("image", "text")]
    return compare(folder, Towers(place / "onnx").embed(*inputs(place / "onnx")), expected)


good = []
for name in ["hf_siglip_tiny", "hf_clip_tiny", "hf_dual_pooler", "hf_dual_mean"]:
    with tempfile.TemporaryDirectory() as place:
        good.append(fixture(name, pathlib.Path(place)))
for folder in sys.argv[2:]:
    with tempfile.TemporaryDirectory() as place:
        good.append(checkpoint(folder, pathlib.Path(place)))
sys.exit(not all(good))
