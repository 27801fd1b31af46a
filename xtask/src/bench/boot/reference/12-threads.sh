# shellcheck shell=bash
# Caps for thread pools where processes are scarce.
cpus="$(nproc)"
pids=max
for file in /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max; do
    if [[ -r $file ]]; then pids="$(cat "$file")"; fi
done
threads=(OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS NUMEXPR_MAX_THREADS VECLIB_MAXIMUM_THREADS
    RAYON_NUM_THREADS TOKIO_WORKER_THREADS)
without="$(sed '/^# SHELL_CAPS_BEGIN/,/^# SHELL_CAPS_END/d' /etc/environment)"
block=
if [[ $pids != max && $pids -lt $((16 * cpus)) ]]; then
    cap=16
    if [[ -r /sys/fs/cgroup/cpu.max ]]; then
        read -r quota period </sys/fs/cgroup/cpu.max
        if [[ $quota != max ]]; then cap=$(((quota + period / 2) / period)); fi
    fi
    cap=$((cap < 2 ? 2 : cap > 16 ? 16 : cap))
    for name in "${threads[@]}"; do
        if ! grep -q "^$name=" <<<"$without"; then block+="$name=$cap"$'\n' && export "$name=$cap"; fi
    done
    block=$'# SHELL_CAPS_BEGIN\n'"$block"$'# SHELL_CAPS_END\n'
fi
printf '%s\n%s' "$without" "$block" | publish /etc/environment
