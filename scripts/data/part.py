#!/usr/bin/env python3
"""part.py SHARDS OUT.tar FIELD=VALUE ...: copies the samples whose .json has those values, byte for byte, into one shard.

Keys of several shards may repeat, so a sample is named SHARD-KEY in the new one.
"""
import io
import json
import pathlib
import sys
import tarfile

shards, out, *wanted = sys.argv[1:]
wanted = dict(pair.split("=", 1) for pair in wanted)
copied = 0
pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
with tarfile.open(out, "w") as part:
    for shard in sorted(pathlib.Path(shards).glob("*.tar*")):
        samples = {}
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                samples.setdefault(key, {})[ending] = tar.extractfile(member).read()
        for key, files in samples.items():
            fields = json.loads(files.get("json", "{}"))
            if any(str(fields.get(name)) != value for name, value in wanted.items()):
                continue
            copied += 1
            for ending, content in files.items():
                info = tarfile.TarInfo(f"{shard.name.partition('.')[0]}-{key}.{ending}")
                info.size = len(content)
                part.addfile(info, io.BytesIO(content))
print(f"{copied} samples in {out}")
sys.exit(0 if copied else 1)
