"""Do other libraries open what `jest export` writes, and compute the same?

    jest export RUN hf --format hf
    jest export RUN oc --format open-clip        # where open_clip has a name for the sizes
    python check.py hf [oc]

Needs torch, transformers 5 and, for the second folder, open_clip 3. Both are loaded strictly. Prints for each what is missing and
unexpected, and for two folders the largest difference of embeddings between the libraries; exits with 1 above 1e-5.
"""

import json
import pathlib
import sys

import torch


def transformers_model(folder):
    import transformers

    kind = json.loads((folder / "config.json").read_text())["model_type"]
    cls = {"siglip": transformers.SiglipModel, "clip": transformers.CLIPModel,
           "vision-text-dual-encoder": transformers.VisionTextDualEncoderModel}[kind]
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    print(f"{folder}: {cls.__name__}, missing {sorted(info['missing_keys'])}, unexpected {sorted(info['unexpected_keys'])}")
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def open_clip_model(folder):
    import open_clip

    model = open_clip.create_model(f"local-dir:{folder}")
    print(f"{folder}: {type(model).__name__}, {len(model.state_dict())} tensors, strict")
    return model.eval()


def normalized(output):
    output = getattr(output, "pooler_output", output)
    return torch.nn.functional.normalize(output, dim=-1)


def main():
    folders = [pathlib.Path(arg) for arg in sys.argv[1:]]
    model = transformers_model(folders[0])
    vision, text = model.config.vision_config, model.config.text_config
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, vision.image_size, vision.image_size, generator=generator)
    ids = torch.randint(3, text.vocab_size - 2, (4, text.max_position_embeddings), generator=generator)
    if model.config.model_type == "clip":
        ids[:, -3:] = text.eos_token_id
    if len(folders) < 2:
        return
    other = open_clip_model(folders[1])
    with torch.no_grad():
        pairs = [
            (normalized(model.get_image_features(images)), normalized(other.encode_image(images))),
            (normalized(model.get_text_features(ids)), normalized(other.encode_text(ids))),
        ]
    errors = [(a - b).abs().max().item() for a, b in pairs]
    print(f"largest difference of unit embeddings: images {errors[0]:.1e}, texts {errors[1]:.1e}")
    sys.exit(max(errors) > 1e-5)


main()
