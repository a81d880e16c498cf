#!/bin/sh
# Checks every kernel of a GPU against the oracles, then measures it, and writes one JSON file. The machine with the GPU needs
# a driver, no toolchain, no network and no Vulkan loader.
#
#   sh benches/gpu.sh                      builds, checks and measures on this machine
#   sh benches/gpu.sh pack gpu.tar.gz      builds, and packs all that the rest needs
#   tar xzf gpu.tar.gz && sh gpu/run.sh    checks and measures on another machine; `check` or `measure` after it does one of both
#
# From the environment: DEVICE, a spelling of --device (default gpu); OUT, the file (default gpu.json); SIZES=small, for a slow
# device; LOADER, a libvulkan.so.1 to pack (default: what ldconfig finds); PYTHON, one with torch (default python3).
# Nothing is measured where a kernel is wrong, unless `measure` asks for it; what fails while it is measured is an `error` in the file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
device=${DEVICE:-gpu}
out=${OUT:-gpu.json}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Binaries without their debug information, the loader, and what the tests read, in the folder $1.
build() {
    cd "$here/.."
    loader=${LOADER:-$(ldconfig -p | sed -n 's/.*libvulkan\.so\.1 .*=> //p' | head -n 1)}
    [ -f "$loader" ] || { echo "no Vulkan loader: install libvulkan1, or name its libvulkan.so.1 as LOADER" >&2; exit 1; }
    mkdir -p "$1/tests" "$1/lib" "$1/jest-kernels" "$1/fixtures"
    cargo test --release -p jest-kernels --lib --tests --no-run --message-format=json >"$work/built"
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$work/built" | while read -r test; do
        name=${test##*/}
        cp "$test" "$1/tests/${name%-*}"
    done
    cargo build --release -p jest-train --bin jest
    cp "${CARGO_TARGET_DIR:-target}/release/jest" "$1/jest"
    ! command -v strip >/dev/null || strip "$1/jest" "$1"/tests/*
    cp "$loader" "$1/lib/libvulkan.so.1"
    cp fixtures/losses.safetensors fixtures/jest_scores.safetensors fixtures/pi_resize.safetensors "$1/fixtures"
    cp benches/gpu.sh "$1/run.sh"
    cp benches/peers/gpu.py "$1"
    git rev-parse HEAD >"$1/commit"
}

# The loader that was packed where the machine has none, and NVIDIA's driver where nothing tells the loader of it.
find_driver() {
    ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1 ' || export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] || return 0
    for known in /etc/vulkan/icd.d /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d; do
        for file in "$known"/*nvidia*.json; do [ ! -f "$file" ] || return 0; done
    done
    for file in /usr/local/nvidia/share/vulkan/icd.d/*.json; do
        [ ! -f "$file" ] || { export VK_ADD_DRIVER_FILES="$file"; return 0; }
    done
    if ldconfig -p 2>/dev/null | grep -q 'libGLX_nvidia\.so\.0 '; then
        echo '{"file_format_version":"1.0.0","ICD":{"library_path":"libGLX_nvidia.so.0","api_version":"1.3.0"}}' >"$work/nvidia.json"
        export VK_ADD_DRIVER_FILES="$work/nvidia.json"
    fi
}

check() {
    filter=
    [ "${SIZES:-}" != small ] || filter=matches_oracle
    : >"$work/failed"
    for test in "$here"/tests/*; do
        echo "checking ${test##*/}" >&2
        CARGO_MANIFEST_DIR=$here/jest-kernels JEST_TEST_DEVICE=$device JEST_SHADER_TALLY=$work/tally "$test" $filter >"$work/log" 2>&1 ||
            {
                cat "$work/log" >&2
                echo "${test##*/}" >>"$work/failed"
                sed -n "s/^test \(.*\) \.\.\. FAILED$/${test##*/} \1/p" "$work/log" >>"$work/failed"
            }
        sed -n 's/^test result: [a-zA-Z]*\. \([0-9]*\) passed.*/\1/p' "$work/log" >>"$work/passed"
    done
    passed=$(awk '{ sum += $1 } END { print sum + 0 }' "$work/passed")
    kernels=$(cut -f 2 "$work/tally" 2>/dev/null | sort -u | wc -l)
    failed=$(sed 's/.*/"&"/' "$work/failed" | paste -s -d , -)
    checked=",\"check\":{\"passed\":$passed,\"kernels\":$((kernels)),\"failed\":[$failed]}"
    echo "$passed tests passed, $((kernels)) kernels ran" >&2
    [ -z "$failed" ] || {
        printf '{"commit":"%s"%s}\n' "$(cat "$here/commit")" "$checked" >"$out"
        echo "a kernel is wrong on $device: $out names the tests, nothing is measured" >&2
        exit 1
    }
}

# The last line that a command prints, which is JSON, or its last words; 1 where it failed.
last_json() {
    if "$@" >"$work/out" 2>"$work/err"; then
        tail -n 1 "$work/out"
    else
        printf '{"error":"%s"}\n' "$(tail -n 1 "$work/err" | tr -d '[:cntrl:]' | sed 's/\\/\\\\/g; s/"/\\"/g')"
        return 1
    fi
}

# Adds to the file, under the name $1, what `jest bench` measures with the other arguments.
part() {
    name=$1
    shift
    echo "measuring $name" >&2
    failed=0
    line=$(last_json "$here/jest" bench "$@" --device "$device" --json) || failed=1
    printf ',"%s":%s' "$name" "$line" >>"$work/json"
    return $failed
}

measure() {
    if [ "${SIZES:-}" = small ]; then
        products='64 128' rows=256x96 attention=2x64x3x32 preset=mu batch=8 loss='--batch 256 --width 64' select=1024x256x4x64
    else
        products='4096 8192' rows=65536x768 attention=256x256x12x64 preset=b256 batch=256 loss='--batch 32768 --width 768'
        select=163840x32768x16x768
    fi
    ops="--attention $attention"
    peer=
    for n in $products; do
        ops="$ops --product ${n}x${n}x$n"
        peer="$peer --product $n"
    done
    printf '{"commit":"%s"%s' "$(cat "$here/commit")" "${checked:-}" >"$work/json"
    for precision in f32 f16; do
        part "ops_$precision" ops --precision $precision $ops || :
        part "step_$precision" step --precision $precision --preset $preset --batch $batch --profile ||
            part "step_${precision}_in_pieces" step --precision $precision --preset $preset --batch $batch --micro-batch 32 --profile || :
    done
    part rows ops --rows $rows || :
    part loss loss $loss || :
    IFS=x read -r super_batch sub_batch chunks width <<END
$select
END
    part select select --super-batch "$super_batch" --sub-batch "$sub_batch" --chunks "$chunks" --width "$width" || :
    echo "measuring torch" >&2
    torch=$(last_json "${PYTHON:-python3}" "$here/gpu.py" $peer --rows $rows --attention $attention --preset $preset --batch $batch --select $select) || :
    printf ',"torch":%s}\n' "$torch" >>"$work/json"
    cp "$work/json" "$out.partial"
    mv "$out.partial" "$out"
    echo "$out"
}

if [ -f "$here/commit" ]; then
    find_driver
    case ${1:-all} in
    check) check ;;
    measure) measure ;;
    all)
        check
        measure
        ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
elif [ "${1:-}" = pack ]; then
    (build "$work/gpu")
    tar -czf "${2:-gpu.tar.gz}" -C "$work" gpu
    echo "${2:-gpu.tar.gz}"
else
    (build "$work/gpu")
    sh "$work/gpu/run.sh" "$@"
fi
