#!/bin/sh
# Builds tokenloss-core into a shared library that links against nothing, and shows that the same build fails
# once std is switched on. Then runs the golden vectors without std's floating point functions. Needs the host
# toolchain and nm. Exits 0 only if all three hold.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-target}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# No RUSTFLAGS of the caller's: they could add link arguments.
unset RUSTFLAGS
library=$target/release/libno_std_proof.so
rm -f "$library"

if ! cargo build --release --locked 2>"$log"; then
    cat "$log" >&2
    echo "no_std proof: FAILED, the library does not build without std" >&2
    exit 1
fi
undefined=$(nm -D --undefined-only "$library")
if [ -n "$undefined" ]; then
    echo "$undefined" >&2
    echo "no_std proof: FAILED, the library needs the symbols above" >&2
    exit 1
fi
for function in row_f32 batch_f64 merged judged theorised spelled; do
    if ! nm -D --defined-only "$library" | grep -q " T $function\$"; then
        echo "no_std proof: FAILED, $function is not exported, so nothing about it is proved" >&2
        exit 1
    fi
done
bytes=$(wc -c <"$library")

if cargo build --release --locked --features control 2>"$log"; then
    echo "no_std proof: FAILED, the control builds with std on, so the proof proves nothing" >&2
    exit 1
fi
# It must fail for the right reason.
if ! grep -q "E0152" "$log"; then
    cat "$log" >&2
    echo "no_std proof: FAILED, the control fails for another reason than std" >&2
    exit 1
fi
# What was linked must also compute the right numbers: the golden vectors, by libm.
if ! cargo test --release --locked --test libm >"$log" 2>&1; then
    cat "$log" >&2
    echo "no_std proof: FAILED, libm misses the golden vectors" >&2
    exit 1
fi
echo "no_std proof: holds, $bytes bytes, no undefined symbol; the control fails as it must, libm meets the golden vectors"
