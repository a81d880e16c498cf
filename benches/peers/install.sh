#!/bin/sh
# Installs what the scripts beside it compare with, into target/peers: PyTorch, transformers and open_clip in a Python
# environment, Burn and candle as a binary. Nothing of the workspace depends on them.
#
#     sh benches/peers/install.sh           # 20 minutes or more, 8 GB
#     sh benches/peers/install.sh rust      # Burn and candle alone: 5 minutes of CPU time, 1.6 GB
set -e
cd "$(dirname "$0")/../.."
if [ "$1" != rust ]; then
    python3 -m venv target/peers/venv
    target/peers/venv/bin/pip install torch transformers open_clip_torch
fi
cargo build --release --manifest-path benches/peers/rust/Cargo.toml --target-dir target/peers/rust
