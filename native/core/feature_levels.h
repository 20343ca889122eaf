#pragma once
// Functions compiled for several CPUs, one of which is chosen when the library is loaded. Clones are by feature level: a
// clone for one CPU model is chosen on that model alone. LPLD_FEATURE_LEVELS comes from CMakeLists.txt.

// What such a function calls is compiled into it, for its CPU.
#define LPLD_INLINE __attribute__((always_inline)) inline

#if defined(LPLD_FEATURE_LEVELS)
#define LPLD_WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define LPLD_AVX2 __attribute__((target_clones("arch=x86-64-v3", "default")))
#else  // compilers that know no feature levels
#define LPLD_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#define LPLD_AVX2 __attribute__((target_clones("avx2", "default")))
#endif
