#!/bin/sh
# Runs the example on 2 and on 4 ranks, shows that ranks which disagree all say so, and that the comparison can
# fail. Needs an MPI library with mpirun, and libclang (Debian: libopenmpi-dev openmpi-bin libclang-dev). Exits 0
# only if all of it holds.
set -eu
cd "$(dirname "$0")"
program=${CARGO_TARGET_DIR:-target}/release/sharded-mpi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo build --release

# Copies between processes by way of the kernel are forbidden in most containers.
export OMPI_MCA_btl_vader_single_copy_mechanism=none
run() {
    threads=$(($(nproc) / $1))
    RAYON_NUM_THREADS=$((threads > 1 ? threads : 1)) \
        mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$1" "$program" "$2"
}

for ranks in 2 4; do
    run "$ranks" compare
done

for ranks in 2 4; do
    run "$ranks" disagree | tee "$log"
    said=$(grep -c "^rank [0-9]*: dim: rank $((ranks - 1)) has 577, rank 0 has 576\$" "$log" || true)
    if [ "$said" -ne "$ranks" ]; then
        echo "sharded-mpi: FAILED, $said of $ranks ranks report the disagreement" >&2
        exit 1
    fi
done

# A comparison that cannot fail shows nothing.
if run 2 control >"$log" 2>&1; then
    cat "$log" >&2
    echo "sharded-mpi: FAILED, other hidden states on one rank pass the comparison" >&2
    exit 1
fi
if ! grep -q "MISMATCH" "$log"; then
    cat "$log" >&2
    echo "sharded-mpi: FAILED, the control fails for another reason than the comparison" >&2
    exit 1
fi
echo "sharded-mpi: holds; the control fails as it must"
