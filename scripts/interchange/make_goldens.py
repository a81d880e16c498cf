"""Makes `fixtures/interchange` from `fixtures/hf_clip_tiny` and `fixtures/hf_siglip_tiny`.

    python make_goldens.py ../../fixtures

Needs torch, safetensors, scipy, timm 1, open_clip 3 and transformers 5. What is written is described in fixtures/README.md.
"""

import pathlib
import sys
import types

import numpy as np
import open_clip
import scipy.ndimage
import timm
import torch
import transformers
from open_clip.convert import load_big_vision_weights
from open_clip.model import CLIP, resize_pos_embed, resize_text_pos_embed
from open_clip.transformer import TextTransformer
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def clip(image_size, context_length):
    vision = {"image_size": image_size, "layers": 2, "width": 48, "head_width": 16, "mlp_ratio": 2.0, "patch_size": 8}
    text = {"context_length": context_length, "vocab_size": 99, "width": 32, "heads": 2, "layers": 2, "mlp_ratio": 2.0}
    return CLIP(24, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text), quick_gelu=True).eval()


def blocks(hf, theirs, ours, out):
    for i in range(2):
        a, b = f"{theirs}.encoder.layers.{i}", f"{ours}.resblocks.{i}"
        for kind in ("weight", "bias"):
            qkv = [hf[f"{a}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            out[f"{b}.attn.in_proj_{kind}"] = torch.cat(qkv)
            for from_name, to_name in [("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"),
                                       ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")]:
                out[f"{b}.{to_name}.{kind}"] = hf[f"{a}.{from_name}.{kind}"]


def open_clip_names(hf):
    out = {
        "logit_scale": hf["logit_scale"],
        "token_embedding.weight": hf["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": hf["text_model.embeddings.position_embedding.weight"],
        "text_projection": hf["text_projection.weight"].T.contiguous(),
        "visual.class_embedding": hf["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": hf["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": hf["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": hf["visual_projection.weight"].T.contiguous(),
    }
    for kind in ("weight", "bias"):
        out[f"ln_final.{kind}"] = hf[f"text_model.final_layer_norm.{kind}"]
        out[f"visual.ln_pre.{kind}"] = hf[f"vision_model.pre_layrnorm.{kind}"]
        out[f"visual.ln_post.{kind}"] = hf[f"vision_model.post_layernorm.{kind}"]
    blocks(hf, "text_model", "transformer", out)
    blocks(hf, "vision_model", "visual.transformer", out)
    return out


def resized(fixtures):
    """Tables by the libraries' own functions, and embeddings of a CLIP that open_clip resized as it loaded it."""
    generator = torch.Generator().manual_seed(0)
    siglip = load_file(fixtures / "hf_siglip_tiny/model.safetensors")
    kernel = siglip["vision_model.embeddings.patch_embedding.weight"]
    positions = siglip["vision_model.embeddings.position_embedding.weight"]
    out = {}
    for side in (4, 12):
        for name, args in [("bicubic", ("bicubic", True)), ("bilinear", ("bilinear", False))]:
            out[f"siglip.kernel{side}.{name}"] = resample_patch_embed(kernel, [side, side], *args)
    for grid in (2, 3, 7):
        out[f"siglip.position{grid}.bicubic"] = resample_abs_pos_embed(positions[None], [grid, grid], num_prefix_tokens=0)[0]
        zoomed = scipy.ndimage.zoom(positions.reshape(4, 4, -1).numpy(), (grid / 4, grid / 4, 1), order=1)
        out[f"siglip.position{grid}.bilinear"] = torch.from_numpy(zoomed.reshape(grid * grid, -1))
    state = open_clip_names(load_file(fixtures / "hf_clip_tiny/model.safetensors"))
    for image_size, tokens in [(48, 10), (24, 21)]:
        model, loaded = clip(image_size, tokens), dict(state)
        resize_pos_embed(loaded, model)
        resize_text_pos_embed(loaded, model)
        model.load_state_dict(loaded, strict=True)
        images = torch.randn(2, 3, image_size, image_size, generator=generator)
        ids = torch.randint(1, 97, (2, tokens), generator=generator)
        ids[0, -1], ids[1, 5:] = 98, 0
        ids[1, 5] = 98
        name = f"clip{image_size}"
        out[f"{name}.position"] = loaded["visual.positional_embedding"]
        out[f"{name}.text_position"] = loaded["positional_embedding"]
        out[f"{name}.images"], out[f"{name}.ids"] = images, ids
        with torch.no_grad():
            out[f"{name}.image_embeds"] = unit(model.encode_image(images))
            out[f"{name}.text_embeds"] = unit(model.encode_text(ids))
    save_file({name: value.contiguous() for name, value in out.items()}, fixtures / "interchange/resized.safetensors")


def attention(out, name, heads, query, key, value, proj):
    """Linear layers `(weight [out, in], bias)` as flax's MultiHeadDotProductAttention has them, an axis for the heads."""
    for part, (weight, bias) in zip(("query", "key", "value"), (query, key, value)):
        out[f"{name}/{part}/kernel"] = weight.T.reshape(weight.shape[1], heads, -1)
        out[f"{name}/{part}/bias"] = bias.reshape(heads, -1)
    out[f"{name}/out/kernel"] = proj[0].T.reshape(heads, -1, proj[0].shape[0])
    out[f"{name}/out/bias"] = proj[1]


def big_vision_names(hf, heads):
    """The parameters of big_vision's two_towers with a vit and a text_transformer."""
    linear = lambda name: (hf[f"{name}.weight"], hf[f"{name}.bias"])
    out = {
        "t": hf["logit_scale"],
        "b": hf["logit_bias"],
        "img/embedding/kernel": hf["vision_model.embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0),
        "img/embedding/bias": hf["vision_model.embeddings.patch_embedding.bias"],
        "img/pos_embedding": hf["vision_model.embeddings.position_embedding.weight"][None],
        "img/MAPHead_0/probe": hf["vision_model.head.probe"],
        "txt/Embed_0/embedding": hf["text_model.embeddings.token_embedding.weight"],
        "txt/pos_embedding": hf["text_model.embeddings.position_embedding.weight"][None],
        "txt/head/kernel": hf["text_model.head.weight"].T,
        "txt/head/bias": hf["text_model.head.bias"],
    }

    def norm(to_name, from_name):
        out[f"{to_name}/scale"], out[f"{to_name}/bias"] = linear(from_name)

    def mlp(to_name, from_name):
        for k in (0, 1):
            weight, bias = linear(f"{from_name}.fc{k + 1}")
            out[f"{to_name}/Dense_{k}/kernel"], out[f"{to_name}/Dense_{k}/bias"] = weight.T, bias

    for tower, encoder, last in [("img", "vision_model", "post_layernorm"), ("txt", "text_model", "final_layer_norm")]:
        root = f"{tower}/" + ("Transformer" if tower == "img" else "Encoder_0")
        norm(f"{root}/encoder_norm", f"{encoder}.{last}")
        for i in range(2):
            a, b = f"{root}/encoderblock_{i}", f"{encoder}.encoder.layers.{i}"
            norm(f"{a}/LayerNorm_0", f"{b}.layer_norm1")
            norm(f"{a}/LayerNorm_1", f"{b}.layer_norm2")
            mlp(f"{a}/MlpBlock_0", f"{b}.mlp")
            parts = [linear(f"{b}.self_attn.{part}_proj") for part in ("q", "k", "v", "out")]
            attention(out, f"{a}/MultiHeadDotProductAttention_0", heads, *parts)
    head, to_head = "vision_model.head", "img/MAPHead_0"
    norm(f"{to_head}/LayerNorm_0", f"{head}.layernorm")
    mlp(f"{to_head}/MlpBlock_0", f"{head}.mlp")
    weights = np.split(hf[f"{head}.attention.in_proj_weight"], 3)
    biases = np.split(hf[f"{head}.attention.in_proj_bias"], 3)
    parts = list(zip(weights, biases)) + [linear(f"{head}.attention.out_proj")]
    attention(out, f"{to_head}/MultiHeadDotProductAttention_0", heads, *parts)
    return out


def stacked(params):
    """As with `scan`: the blocks of an encoder in one tensor, with an axis of layers."""
    out = {}
    for name, value in params.items():
        if "/encoderblock_0/" in name:
            layers = [params[name.replace("encoderblock_0", f"encoderblock_{i}")] for i in range(2)]
            out[name.replace("encoderblock_0", "encoderblock")] = np.stack(layers)
        elif "/encoderblock_" not in name:
            out[name] = value
    return out


def open_clip_reads(path, expected):
    """open_clip's own reader of these files gives the embeddings of transformers."""
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
    trunk = timm.create_model("vit_base_patch16_siglip_224", num_classes=0, act_layer="gelu_tanh", **size)
    gelu = lambda: torch.nn.GELU("tanh")
    text = TextTransformer(context_length=16, vocab_size=96, width=32, heads=2, layers=2, mlp_ratio=2.0, output_dim=32,
                           no_causal_mask=True, pool_type="last", proj_bias=True, act_layer=gelu,
                           norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6))
    model = types.SimpleNamespace(visual=types.SimpleNamespace(trunk=trunk), text=text,
                                  logit_scale=torch.zeros([]), logit_bias=torch.zeros([]))
    load_big_vision_weights(model, str(path))
    with torch.no_grad():
        images, texts = trunk.eval()(expected["pixel_values"]), text.eval()(expected["input_ids"])
    for got, want in [(images, "image_embeds"), (texts, "text_embeds")]:
        error = (unit(got) - expected[want]).abs().max().item()
        print(f"{path.name} by open_clip, {want}: {error:.1e}")
        assert error < 1e-5


def big_vision(fixtures):
    folder = fixtures / "hf_siglip_tiny"
    hf = {name: value.numpy() for name, value in load_file(folder / "model.safetensors").items()}
    params, expected = big_vision_names(hf, heads=2), load_file(folder / "expected.safetensors")
    out = fixtures / "interchange"
    np.savez(out / "siglip.npz", **{f"params/{name}": value for name, value in params.items()})
    np.savez_compressed(out / "siglip_stacked.npz", **stacked(params))
    for name in ("siglip.npz", "siglip_stacked.npz"):
        open_clip_reads(out / name, expected)


def towers(fixtures):
    """Towers on their own, as transformers saves them: without and with the name of the tower in front."""
    for cls, source, name in [(transformers.SiglipVisionModel, "hf_siglip_tiny", "siglip_vision"),
                              (transformers.CLIPTextModelWithProjection, "hf_clip_tiny", "clip_text")]:
        cls.from_pretrained(fixtures / source).save_pretrained(fixtures / "interchange" / name)


def main():
    fixtures = pathlib.Path(sys.argv[1])
    (fixtures / "interchange").mkdir(exist_ok=True)
    resized(fixtures)
    big_vision(fixtures)
    towers(fixtures)


main()
