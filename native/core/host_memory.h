#pragma once
// Memory of LibTorch's CPU tensors. A training or synthesis loop frees tens of megabytes a step and asks for the same sizes
// again; glibc hands such blocks back to the system, which zeroes 4 KiB page after page the next time (measured: a tenth to a
// fifth of an iteration of synthesis). Here blocks from 128 KiB on are kept for the next tensor of about their size, and those from 2 MiB on
// lie on huge pages where the system grants them. Blocks in use and kept ones together stay within 5/4 of the most that was
// in use, or 64 MiB above it if that is more; smaller tensors are LibTorch's own allocator's. Light: no torch header.
#include <cstdint>

namespace lpld {

void install_host_memory();  // once a process, before its first tensor; later calls do nothing
void keep_host_memory();     // from here on freed blocks are kept: a job begins
void settle_host_memory();   // after a job: no more is kept than that job had in use at most
void release_host_memory();  // gives back all that is kept, and from here on every block at once
struct HostMemory {
  int64_t used, kept;     // bytes of blocks from 128 KiB on
  int64_t fresh, reused;  // blocks handed out since the process began: made for it, or kept ones again
};
HostMemory host_memory();

}  // namespace lpld
