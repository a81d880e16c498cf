#!/bin/sh
# Checks every kernel of a GPU against the oracles, then measures it, and writes one JSON file.
# usage, in the root of the repository: sh benches/gpu.sh [DEVICE] [OUT]
# DEVICE is a spelling of --device (default gpu), OUT the file (default gpu.json). Nothing but this repository and a Rust
# toolchain is needed; nothing is measured where a kernel is wrong.
set -eu
device=${1:-gpu}
out=${2:-gpu.json}

JEST_TEST_DEVICE=$device cargo test --release -p jest-kernels
cargo build --release -p jest-train --bin jest
jest=${CARGO_TARGET_DIR:-target}/release/jest

# The last line of what a measurement prints is its JSON.
measure() {
    printed=$("$jest" bench "$@" --device "$device" --json)
    printf '%s\n' "$printed" | tail -n 1
}

partial=$out.partial
{
    printf '{"commit":"%s"' "$(git rev-parse HEAD)"
    for precision in f32 f16; do
        printf ',"ops_%s":' "$precision"
        measure ops --precision "$precision"
        for batch in 32 256; do
            printf ',"step_%s_%s":' "$precision" "$batch"
            measure step --precision "$precision" --batch "$batch"
        done
    done
    printf ',"loss":'
    measure loss
    printf ',"select":'
    measure select
    printf '}\n'
} >"$partial"
mv "$partial" "$out"
echo "$out"
