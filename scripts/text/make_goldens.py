#!/usr/bin/env python3
"""Tokenizers and the ids that their original libraries give, into fixtures/text.

    python3 scripts/text/make_goldens.py

Needs open_clip_torch 3.3.0 (with ftfy 6.3.1), sentencepiece 0.2.3, transformers 5.23.0 and tokenizers 0.23. SigLIP's own vocabularies are
not shipped: small ones of the same kinds are trained here on the captions of assets/sample. ids.json holds, by tokenizer, the length, and the
nasty texts' ids and a hash over the ids of every caption of assets/sample/manifest.jsonl.gz and variants of it."""
import gzip, io, json, os
import sentencepiece
from open_clip.tokenizer import SimpleTokenizer, basic_clean, canonicalize_text, get_clean_fn

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
out = os.path.join(root, "fixtures", "text")

rows = [json.loads(line) for line in gzip.open(os.path.join(root, "assets/sample/manifest.jsonl.gz"))]
captions = [row["caption"] for row in rows]
# 10,000 texts and more: the captions, and each again as a prompt in capitals with its source and style.
texts = captions + [f"A photo_of: {row['caption'].upper()} ({row['source']}, {row['style']})" for row in rows]

nasty = [
    "", " ", "a", "!!!", "___", "Hello_World", "it's #1 [really] {so} ~`^\\|", "  two\t\n spaces ", "don't STOP, we'll 'S 'Re",
    "ÉCOLE straße İstanbul ΣΑΣ ΟΔΟΣ", "e\u0301cole n\u0303 a\u030a", "\u00e9\u0301", "a\u0000b", "a\u200db \u200e\u200f\ufeff", "\u0007bell \u001b[31mred\u001b[0m \u001bq",
    "😀👩‍👩‍👧‍👦🏳️‍🌈👍🏽", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดี", "你好，世界。", "こんにちは ｶﾀｶﾅ ＬＯＵＤ　ＮＯＩＳＥ", "안녕하세요",
    "½ ² ③ Ⅳ ㎏ ™ ﬁ ﬂ ﬆ ĳ ŉ", "“curly” ‘quotes’ – — …", "a\u00a0b\u2003c\u3000d\u2028e\u0085f", "\u001c\u001d\u001e\u001f", "Tom &amp; Jerry &lt;b&gt; &#39;x&#x27; &nbsp;|", "&amp;amp;lt; &notit; &NTILDE; &copy 2020",
    "<a href=\"x\">&amp;</a>", "1,234.56 12345 3rd", "http://www.example.com/a_b?c=d&e=f#g", "user@example.com @you #tag", "C:\\path\\to", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "</s> <unk> <pad> <s> [SEP] [CLS] [PAD]", "antidisestablishmentarianism supercalifragilisticexpialidocious", "x" * 120, "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 4,
    "ünïcödé ẞ ǅ ſ K Å", "𝒳𝓎𝓏 𝟙𝟚", "\U0001f1e9\U0001f1ea \u2764\ufe0f", "tab\tnew\nline\r\nreturn\rvt\u000bff\u000c.", "ʼn ʼ ‛ ‟", "｛full＿width｝！",
]
mojibake = ["schÃ¶n", "âœ” No problems", "â€œquotedâ€\x9d", "doesnâ€™t", "L&AMP;AMP;ATILDE;&AMP;SUP3;PEZ", "voilÃ le travail", "Ã la mode Ã s", "â€œ like this â€�", "\x93quotes\x94 \x85", "ÐŸÑ€Ð¸Ð²ÐµÑ‚", "пїЅ вЂ™ Рџ", "cafÃ© and “ok” â€” ä¸\xad", "ﾐ ＡＢＣ Â© Â£5", "l’été Ã©tÃ©", "√∂ caf√©", "Î³Î»ÏŽÏƒÏƒÎ±", "ãƒ„ ¯\\_(ã\x83\x84)_/¯", "\x80 \x99", "Ã¢â‚¬â„¢", "a\u001ab Ã©", "naïve façade — piñata", "Ä‘Æ°á»\x9dng", "í\xa0½í¸\x80 Ã"]

# What a charsmap matches as a whole and a character at a time differently; what spells out pieces that are no text.
whole = ["ｶﾞ ﾊﾟﾋﾟ", "ａ\u0301 Ａ\u030a", "<0x41>A<0xE4>ä", "the<unused0>of the cats"]


def digest(rows):
    """FNV-1a with 64 bits, an id at a time."""
    hash = 0xcbf29ce484222325
    for ids in rows:
        for id in ids:
            hash = (hash ^ id) * 0x100000001b3 % 2**64
    return f"{hash:016x}"


def train(name, kind, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sorted(set(captions))), model_writer=model, model_type=kind, num_threads=1, minloglevel=2, **options)
    with open(os.path.join(out, name), "wb") as f:
        f.write(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def sized(ids, length, pad, eos):
    ids = ids + [eos]
    return ids + [pad] * (length - len(ids)) if len(ids) <= length else ids[:length - 1] + [eos]


# SigLIP 1: unigram, nmt_nfkc, ids as T5's.
unigram = train("unigram.model", "unigram", vocab_size=1200, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.999)
# SigLIP 2: BPE with bytes for what is unknown, text as it is, ids as Gemma's.
gemma = train("gemma.model", "bpe", vocab_size=1600, pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>",
              byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
              user_defined_symbols=["\n\n", "▁▁", "<mask>"], split_digits=True)
# mT5's kind, for SigLIP in many languages: unigram with bytes, and one piece that is switched off.
from sentencepiece import sentencepiece_model_pb2
train("bytes.model", "unigram", vocab_size=600, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, byte_fallback=True, character_coverage=0.98,
      normalization_rule_name="identity")
proto = sentencepiece_model_pb2.ModelProto()
with open(os.path.join(out, "bytes.model"), "rb") as f:
    proto.ParseFromString(f.read())
next(piece for piece in proto.pieces if piece.piece == "▁the").type = proto.SentencePiece.UNUSED
with open(os.path.join(out, "bytes.model"), "wb") as f:
    f.write(proto.SerializeToString())
bytes_model = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
# This trainer breaks ties at random, so that a vocabulary that is there stays.
if not os.path.exists(os.path.join(out, "vocab.txt")):
    from tokenizers import BertWordPieceTokenizer
    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(sorted(set(captions)), vocab_size=1000, min_frequency=2, show_progress=False)
    vocab = [piece for piece, _ in sorted(pieces.get_vocab().items(), key=lambda entry: entry[1])]
    with open(os.path.join(out, "vocab.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(vocab) + "\n")
from transformers import BertTokenizer
bert = BertTokenizer.from_pretrained(out)
clip = SimpleTokenizer()


def hf_siglip(text):
    import re, string
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\s+", " ", text).strip()


clean = get_clean_fn("canonicalize")
# Name: file ("clip" is built in), rule, padding id (none: the tokenizer's own), length, ids.
tokenizers = {
    "clip": ("clip", None, None, 77, lambda text: clip([text])[0].tolist()),
    "siglip, open_clip": ("unigram.model", "open_clip", 1, 64, lambda text: sized(unigram.encode(clean(text)), 64, 1, 1)),
    "siglip, big_vision": ("unigram.model", "big_vision", 1, 16, lambda text: sized(unigram.encode(canonicalize_text(text)), 16, 1, 1)),
    "siglip, hf": ("unigram.model", "hf", 1, 64, lambda text: sized(unigram.encode(hf_siglip(text)), 64, 1, 1)),
    "unigram": ("unigram.model", None, None, 64, lambda text: sized(unigram.encode(text), 64, 0, 1)),
    "gemma": ("gemma.model", None, None, 64, lambda text: sized(gemma.encode(text), 64, 0, 1)),
    "bytes": ("bytes.model", None, None, 64, lambda text: sized(bytes_model.encode(text), 64, 0, 1)),
    "wordpiece": ("vocab.txt", None, None, 32,
                  lambda text: bert(text, max_length=32, padding="max_length", truncation=True, split_special_tokens=True).input_ids),
}
with open(os.path.join(out, "texts.json"), "w") as f:
    json.dump({"nasty": nasty + mojibake + whole, "cleaned": [basic_clean(text) for text in nasty + mojibake + whole]}, f, indent=0)
    f.write("\n")
result = {}
for name, (file, rule, pad, length, encode) in tokenizers.items():
    result[name] = {"tokenizer": file, "canonicalize": rule, "pad": pad, "length": length, "captions": digest(encode(text) for text in texts), "texts": len(texts), "nasty": [encode(text) for text in nasty + mojibake + whole]}
    # 1 MB of words.
    result[name]["long"] = encode("a drawing of cats, " * 52430)
with open(os.path.join(out, "ids.json"), "w") as f:
    lines = ",\n".join(json.dumps(name) + ": " + json.dumps(value, separators=(",", ":")) for name, value in result.items())
    f.write("{\n" + lines + "\n}\n")
print({name: (value["captions"], value["texts"]) for name, value in result.items()})
