"""Makes `fixtures/hf_dual_pooler`, `fixtures/hf_dual_mean` and, in `fixtures/interchange`, `dinov2`, `bert` and `backbones.safetensors`.

    python make_backbones.py ../../fixtures

Needs torch, safetensors and transformers 5. What is written is described in fixtures/README.md.
"""

import json
import pathlib
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig, BertModel, Dinov2Config, Dinov2Model, VisionTextDualEncoderConfig, VisionTextDualEncoderModel,
)

TOKENS, VOCABULARY, START, END = 16, 60, 1, 2
NO_DROPOUT = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}


def dinov2(**keys):
    return Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, mlp_ratio=2,
                        **NO_DROPOUT, **keys)


def bert():
    return BertConfig(vocab_size=VOCABULARY, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
                      max_position_embeddings=TOKENS, eos_token_id=END, pad_token_id=0, **NO_DROPOUT)


def shaken(model):
    """Parameters that start as 0 or 1 would hide what is done to them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                noise = torch.randn(parameter.shape, generator=generator)
                parameter += (0.3 if parameter.ndim == 1 else 0.15) * noise
    return model.eval()


def texts(n, generator):
    ids = torch.randint(3, VOCABULARY, (n, TOKENS), generator=generator)
    ids[:, 0] = START
    lengths = [TOKENS, 3, 9, 2, 14][:n]
    for row, length in zip(ids, lengths):
        row[length - 1] = END
        row[length:] = 0
    return ids, (torch.arange(TOKENS) < torch.tensor(lengths)[:, None]).long()


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def mean(model, ids, mask):
    hidden = model(ids, attention_mask=mask).last_hidden_state
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def expected(model, folder, images, ids, values):
    """Writes the model, whose tensors have other names in a file than in memory, and its gradients under the same names."""
    model.save_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    with tempfile.TemporaryDirectory() as beside:
        model.save_pretrained(beside)
        gradients = {f"grad.{name}": grad for name, grad in load_file(pathlib.Path(beside) / "model.safetensors").items()}
    tensors = {"pixel_values": images, "input_ids": ids} | values | gradients
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / "expected.safetensors")


def dual(config):
    torch.manual_seed(0)
    return shaken(VisionTextDualEncoderModel(config))


def pooler(folder, images, ids, mask):
    """The library's own model, with its loss."""
    config = VisionTextDualEncoderConfig.from_vision_text_configs(dinov2(use_mask_token=False), bert(), projection_dim=20)
    model = dual(config)
    out = model(input_ids=ids, attention_mask=mask, pixel_values=images, return_loss=True)
    out.loss.backward()
    values = {"image_embeds": out.image_embeds, "text_embeds": out.text_embeds, "logits_per_text": out.logits_per_text}
    expected(model, folder, images, ids, values | {"loss": out.loss.reshape(1)})


def means(folder, images, ids, mask):
    """The same towers, texts by the mean of their tokens, and the sigmoid loss with a bias."""
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        dinov2(use_mask_token=False), bert(), projection_dim=20, jest={"pool": "mean", "init_logit_bias": -2.5})
    model = dual(config)
    model.text_model.pooler = None
    model.logit_bias = torch.nn.Parameter(torch.tensor([-2.5]))
    image = unit(model.visual_projection(model.vision_model(images).pooler_output))
    text = unit(model.text_projection(mean(model.text_model, ids, mask)))
    logits = model.logit_scale.exp() * text @ image.T + model.logit_bias
    signs = 2 * torch.eye(len(logits)) - 1
    loss = -torch.nn.functional.logsigmoid(signs * logits).sum(1).mean()
    loss.backward()
    values = {"image_embeds": image, "text_embeds": text, "logits_per_text": logits, "loss": loss.reshape(1)}
    expected(model, folder, images, ids, values)


def backbones(folder, generator, ids, mask):
    """Towers on their own as they are published: a mask token, a pooler; pictures of other sizes."""
    torch.manual_seed(2)
    vision, text = shaken(Dinov2Model(dinov2())), shaken(BertModel(bert()))
    vision.save_pretrained(folder / "dinov2")
    text.save_pretrained(folder / "bert")
    tensors = {"ids": ids, "mean": mean(text, ids, mask)}
    for side in (24, 72):
        images = torch.randn(2, 3, side, side, generator=generator)
        patches = torch.zeros(1, (side // 8) ** 2 + 1, 16)
        tensors |= {
            f"images{side}": images,
            f"position{side}": vision.embeddings.interpolate_pos_encoding(patches, side, side)[0],
            f"pooled{side}": vision(images).pooler_output,
        }
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "backbones.safetensors")


def main():
    fixtures = pathlib.Path(sys.argv[1])
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 32, 32, generator=generator)
    ids, mask = texts(5, generator)
    pooler(fixtures / "hf_dual_pooler", images, ids, mask)
    means(fixtures / "hf_dual_mean", images, ids, mask)
    backbones(fixtures / "interchange", generator, ids, mask)
    for folder in ("hf_dual_pooler", "hf_dual_mean"):
        print(folder, len(load_file(fixtures / folder / "model.safetensors")), "tensors,",
              json.loads((fixtures / folder / "config.json").read_text())["model_type"])


if __name__ == "__main__":
    main()
