#!/bin/sh
# Records what the real driver and its devices say, and what vast-gpu makes of it: record.sh VAST_GPU DIRECTORY
# What changes from moment to moment is asked before and after, so that vast-gpu's answer has to lie between.
set -eu
vast_gpu=$1
directory=$2
mkdir -p "$directory"
cd "$directory"

fields=index,name,uuid,pci.bus_id,compute_cap,driver_version,mig.mode.current,memory.total,enforced.power.limit
moving=memory.used,utilization.gpu,power.draw.instant,power.draw.average,temperature.gpu
smi() {
    nvidia-smi --format=csv,noheader,nounits "$@"
}

cat /proc/driver/nvidia/version >kernel.txt
smi --query-gpu="$fields" >fixed.csv
smi --query-gpu="$moving" >before.csv
"$vast_gpu" probe --json >probe.json
smi --query-gpu="$moving" >after.csv
smi --query-compute-apps=gpu_uuid,pid,used_memory >processes.csv
nvidia-smi -q | grep -m 1 'CUDA.*Version' >cuda.txt
"$vast_gpu" probe >probe.txt
"$vast_gpu" plan --json >plan.json
"$vast_gpu" torch-backend >torch-backend.txt
"$vast_gpu" ask-driver init libcuda.so.1 >init.txt
"$vast_gpu" ask-driver version libcuda.so.1 >version.txt
