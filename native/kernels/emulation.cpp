// The kernels compiled for the host: every .cu as plain loops (kernels/launch.h) behind the same table. A library of the
// tests alone, never shipped: loaded in place of liblpld_kernels.so it serves tensors on the CPU, so that dispatch, autograd
// glue, tables and index arithmetic are compared with the CPU bodies on a machine without a card.
#include <cmath>
#include <initializer_list>

#include "kernels/norm_act.cu"
#include "kernels/render.cu"
#include "kernels/synthesis.cu"
#include "kernels/table.cu"
