#!/usr/bin/env bash
# Runs the numeric tests as other processors would, as far as one machine can imitate them, in several orders, and prints
# a line for each setup. Two setups of one thread run at the same time. --fast: two or three setups, metrics alone.
# --demo: also runs the demo in each setup and checks its known answer. All other arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# Numeric tests check what BLAS, LAPACK, torch or oneDNN computed: all tests of metrics, and those other files that
# compare with a tolerance. All other folders compare text, files and integers, or, in evaluation, means and ranks.
metrics=(tests/observations/test_{observations,projection}.py tests/metrics/test_*.py)
others=(tests/observations/test_uncertainty.py tests/test_image_level.py tests/{features,training,models}/test_*.py)
tolerances='approx|allclose|isclose|assert_close'

# NAME THREADS ORDER VARIABLES. The variables are requests; the printed line says what is in use.
sse="ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 NPY_DISABLE_CPU_FEATURES=X86_V3,X86_V4"
fast=(
    "as_it_is 2 reversed"
    "oldest 1 1 OPENBLAS_CORETYPE=Prescott $sse"
    "avx512 1 2 OPENBLAS_CORETYPE=SkylakeX"
)
more=(
    "avx2 1 written OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2"
    "avx2_nets_sse 2 3 OPENBLAS_CORETYPE=Haswell ONEDNN_MAX_CPU_ISA=SSE41"
    "avx512_nets_avx2 2 reversed OPENBLAS_CORETYPE=SkylakeX ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2"
    "zen 2 4 OPENBLAS_CORETYPE=Zen"
    "zen_torch_sse 1 reversed OPENBLAS_CORETYPE=Zen ATEN_CPU_CAPABILITY=default"
    "prescott 2 5 OPENBLAS_CORETYPE=Prescott"
    "prescott_avx2 1 reversed OPENBLAS_CORETYPE=Prescott ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2"
    "oldest_threads 2 6 OPENBLAS_CORETYPE=Prescott $sse"
)

# Prints the kernels in use; ends with SIGILL if the processor lacks the instructions.
probe='
import numpy, scipy.linalg, threadpoolctl, torch
matrix = numpy.random.default_rng(0).normal(size=(200, 200))
numpy.linalg.svd(matrix @ matrix)
scipy.linalg.eigh(matrix @ matrix.T)
torch.nn.functional.conv2d(torch.rand(2, 3, 64, 64), torch.rand(8, 3, 3, 3))
blas = {pool["architecture"] for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"}
simd = numpy.show_config(mode="dicts")["SIMD Extensions"]
numpy_uses, torch_uses = (simd.get("found") or simd["baseline"])[-1], torch.backends.cpu.get_cpu_capability()
print("BLAS", *blas, "NumPy", numpy_uses, "torch", torch_uses, "threads", torch.get_num_threads())'

# Prints the setup's line and what failed; the exit code says whether anything failed.
try_setup() {
    read -r name threads order variables <<<"$1"
    logs=$all_logs/$name
    mkdir "$logs"
    read -ra environment <<<"OMP_NUM_THREADS=$threads $variables"
    printf '%-16s ' "$name"
    code=0
    shown=$(env "${environment[@]}" ONEDNN_VERBOSE=1 python -c "$probe" 2>"$logs/probe") || code=$?
    if [ "$code" -eq 132 ]; then
        echo "does not start on this processor (illegal instruction)"
        return 0
    elif [ "$code" -ne 0 ]; then
        cat "$logs/probe"
        return 1
    fi
    onednn=$(sed -n 's/^onednn_verbose.*,isa:\(Intel \)\?//p' <<<"$shown")
    printf '%s oneDNN %s order %s: ' "$(tail -n 1 <<<"$shown")" "$onednn" "$order"
    try_tests && if [ -n "$demo" ]; then try_demo; fi
}

try_tests() {
    arguments=()
    [ "$order" = written ] || arguments=(--order "$order")
    arguments+=(-q -p no:cacheprovider "${options[@]}" "${tests[@]}")
    passed=1
    env "${environment[@]}" pytest "${arguments[@]}" &>"$logs/tests" || passed=
    tail -n 1 "$logs/tests"
    [ -n "$passed" ] || { grep -E '^(FAILED|ERROR)' "$logs/tests" || tail -n 30 "$logs/tests"; return 1; }
}

try_demo() {
    printf '%-16s demo: ' "$name"
    folder=$logs/demo_$name
    env "${environment[@]}" seg-transfer demo --folder "$folder" --threads "$threads" &>"$logs/demo" ||
        { tail -n 30 "$logs/demo"; return 1; }
    python scripts/demo_answer.py "$folder"
}

setups=("${fast[@]}" "${more[@]}") demo= options=()
for argument in "$@"; do
    case $argument in
    --fast) setups=("${fast[@]}") others=() ;;
    --demo) demo=1 ;;
    *) options+=("$argument") ;;
    esac
done
mapfile -t tests < <(grep -lE "$tolerances" /dev/null "${others[@]}")
tests+=("${metrics[@]}")
all_logs=$(mktemp -d)
trap 'rm -rf "$all_logs"' EXIT

# The lines of a setup are printed together when it has finished.
report_setup() {
    shown=$(try_setup "$1" 2>&1) || touch "$all_logs/failed"
    echo "$shown"
}

for setup in "${setups[@]}"; do
    read -r _ threads _ <<<"$setup"
    if [ "$threads" -gt 1 ]; then
        wait
        report_setup "$setup"
    else
        [ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n
        report_setup "$setup" &
    fi
done
wait
[ ! -e "$all_logs/failed" ]
