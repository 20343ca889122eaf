#pragma once
// LPLD_HD marks arithmetic that is compiled for the CPU bodies and for the CUDA kernels alike: one source, one answer.
#if defined(__CUDACC__)
#define LPLD_HD __host__ __device__ inline
#else
#define LPLD_HD inline
#endif
