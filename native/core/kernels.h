#pragma once
// Which tensors our own kernels serve, and how they are called: on the current stream of the tensor's device.
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>

#include "core/device.h"
#include "core/error.h"
#include "kernels/table.h"

namespace lpld {

// The table where it works on the memory `tensor` lies in, null where ATen has to serve.
const KernelTable* kernels_for(const at::Tensor& tensor);

// While it lives, kernels_for() answers null on this thread.
class WithoutKernels {
 public:
  WithoutKernels();
  ~WithoutKernels();
  WithoutKernels(const WithoutKernels&) = delete;
  WithoutKernels& operator=(const WithoutKernels&) = delete;
};

// A stream of a CUDA device besides its default one, which nothing can be captured on; the same one for the life of the
// calling thread, because LibTorch keeps workspaces for every stream that its libraries have met.
c10::Stream side_stream(const at::Device& device);

// The current stream of a tensor's device as the CUDA runtime knows it; null on the host.
void* stream_of(const at::Tensor& tensor);

// Calls a kernel of the table with the device of `tensor` current. Throws E_INTERNAL with `name` where it fails.
template <class Args>
void launch(const char* name, int (*kernel)(const Args&, void*), const at::Tensor& tensor, const Args& args) {
  const c10::DeviceGuard guard(tensor.device());
  const int status = kernel(args, stream_of(tensor));
  LPLD_CHECK(status == 0, Internal, name, ": the kernel failed with error ", status);
}

}  // namespace lpld
