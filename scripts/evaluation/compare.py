#!/usr/bin/env python3
"""Holds `jest eval` against CLIP_benchmark on the same checkpoint and folders.

    python3 scripts/evaluation/compare.py CHECKPOINT [JEST]

CHECKPOINT is the checkpoint folder of a model that open_clip can compute, JEST the program (target/release/jest). It is exported with
`jest export --format open-clip`, and the command `clip_benchmark eval --model local-dir:EXPORT` evaluates the export: its transforms,
tokenizer, model and metrics. Tasks are those of assets/sample, laid out for CLIP_benchmark, with every second picture of the retrieval
task given a second caption. Needs clip_benchmark 1.6.2, open_clip_torch 3.3.0, webdataset, transformers 5 and torch beside the Python that
runs this. Exit code 1 if a metric differs by more than 5e-5."""
import io, json, math, os, subprocess, sys, tarfile, tempfile

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
checkpoint = sys.argv[1]
jest = sys.argv[2] if len(sys.argv) > 2 else os.path.join(root, "target/release/jest")
benchmark = os.path.join(os.path.dirname(sys.executable), "clip_benchmark")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def put(out, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    out.addfile(member, io.BytesIO(content))


def lay_out(task, folder):
    source = os.path.join(root, "assets/sample/eval", task)
    classes = json.load(open(os.path.join(source, "classes.json")))
    retrieval = classes["type"] == "retrieval"
    os.makedirs(os.path.join(folder, "test"))
    captions = 0
    with tarfile.open(os.path.join(source, "000000.tar.gz")) as packed, tarfile.open(os.path.join(folder, "test/0.tar"), "w") as out:
        for member in packed:
            content = packed.extractfile(member).read()
            if retrieval and member.name.endswith(".txt"):
                captions += 1
                content += b"\nanother picture" if captions % 2 else b""
            put(out, member.name, content)
            if member.name.endswith(".json") and not retrieval:
                put(out, member.name.removesuffix("json") + "cls", str(json.loads(content)["label"]).encode())
    write = lambda name, text: open(os.path.join(folder, name), "w").write(text)
    write("test/nshards.txt", "1")
    if retrieval:
        write("dataset_type.txt", "retrieval")
    else:
        write("classnames.txt", "\n".join(classes["classes"]))
        write("zeroshot_classification_templates.txt", "\n".join(classes["templates"]).replace("{}", "{c}"))
    return "zeroshot_retrieval" if retrieval else "zeroshot_classification"


worst = 0.0
with tempfile.TemporaryDirectory() as place:
    export, result = os.path.join(place, "export"), os.path.join(place, "result.json")
    run(jest, "export", checkpoint, export, "--format", "open-clip")
    for task in ["clipart_retrieval", "fashion_zs", "emoji_zs"]:
        folder = os.path.join(place, task)
        kind = lay_out(task, folder)
        run(benchmark, "eval", "--model", f"local-dir:{export}", "--pretrained", "", "--dataset", f"wds/{task}", "--dataset_root", folder,
            "--task", kind, "--no_amp", "--num_workers", "0", "--output", result)
        theirs = json.load(open(result))
        line = run(jest, "eval", "--checkpoint", checkpoint, "--task", folder, "--format", "clip-benchmark", "--device", "cpu")
        ours = json.loads(line)
        assert ours.keys() == theirs.keys() and ours["metrics"].keys() == theirs["metrics"].keys(), (ours, theirs)
        for name, value in theirs["metrics"].items():
            own = ours["metrics"][name]
            print(f"{task} {name}: CLIP_benchmark {value:.6f}, jest {own:.6f}")
            worst = max(worst, math.inf if math.isnan(value) or own is None else abs(value - own))
print(f"largest difference {worst:.1e}")
sys.exit(worst > 5e-5)
