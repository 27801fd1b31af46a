//! NVIDIA and AMD devices, drivers and CUDA toolkits of a container, and the CUDA set-up plan.
