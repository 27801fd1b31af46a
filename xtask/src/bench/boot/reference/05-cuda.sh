# shellcheck shell=bash
# Without an NVIDIA driver there is nothing to set up.
rm -f /run/shell-cuda-failed
has_driver=false
for library in /usr/lib/x86_64-linux-gnu/libcuda.so.1 /usr/lib/aarch64-linux-gnu/libcuda.so.1 /usr/lib64/libcuda.so.1 /dev/nvidiactl; do
    if [[ -e $library ]]; then has_driver=true; fi
done
if [[ $has_driver == true ]]; then
    echo "this script sets up no CUDA" >/run/shell-cuda-failed
fi
