#!/usr/bin/env python3
"""Writes what jest-data/src/text reads of other projects' data.

    python3 scripts/text/make_tables.py         needs ftfy 6.3.1 and open_clip_torch 3.3.0

- jest-data/src/text/clean/tables.json: HTML5 names (Python's html.entities) and the tables of ftfy (Apache-2.0): character maps, ligatures,
  and its two expressions for text that was decoded wrongly, without the white space of their verbose form.
- assets/clip/merges.txt.gz: the merges of CLIP's byte-level BPE that its vocabulary of 49,408 uses, one a line (MIT, OpenAI)."""
import gzip, html.entities, json, os
import ftfy.bad_codecs  # registers the sloppy codecs
from ftfy import badness, chardata
from open_clip.tokenizer import default_bpe

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def plain(pattern):
    """A verbose expression without comments and white space outside classes; inside, `[` and `&` are escaped."""
    out, in_class = [], False
    for line in pattern.split("\n"):
        i = 0
        while i < len(line):
            c = line[i]
            if c == "\\":
                out.append(line[i:i + 2])
                i += 2
                continue
            if in_class:
                in_class = c != "]"
                out.append("\\" + c if c in "[&~" else c)
            elif c == "#":
                break
            elif not c.isspace() or c == "\xa0":
                in_class = c == "["
                out.append(c)
            i += 1
    # Python's \\w: letters and numbers of any kind, no combining marks.
    return "".join(out).replace("\\w", "[\\p{L}\\p{N}_]")


detector = plain(chardata.UTF8_DETECTOR_RE.pattern)
behind, detector = detector.removeprefix("(?<!").split(")(", 1)
names = html.entities.html5
tables = {
    "entities": {name[:-1]: char for name, char in sorted(names.items()) if name.endswith(";")},
    "bare_entities": sorted(name for name in names if not name.endswith(";")),
    "charmaps": {name: bytes(range(128, 256)).decode(name) for name in chardata.CHARMAP_ENCODINGS},
    "ligatures": {chr(char): letters for char, letters in chardata.LIGATURES.items()},
    "badness": plain(badness.BADNESS_RE.pattern),
    "detector": "(?:" + detector,
    "not_before_detector": behind,
}
with open(os.path.join(root, "jest-data/src/text/clean/tables.json"), "w", encoding="utf-8") as f:
    json.dump(tables, f, ensure_ascii=True, indent=0, separators=(",", ":"))
    f.write("\n")

merges = gzip.open(default_bpe()).read().decode("utf-8").split("\n")[1:49152 - 256 - 2 + 1]
with open(os.path.join(root, "assets/clip/merges.txt.gz"), "wb") as f:
    with gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9, mtime=0, filename="") as z:
        z.write(("\n".join(merges) + "\n").encode("utf-8"))
print(len(merges), "merges;", {k: len(v) for k, v in tables.items()})
