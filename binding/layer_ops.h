#pragma once
// Single ops that are layers of a network, with their gradients: the part of ops.cpp's table in layer_ops.cpp.
#include "op_arguments.h"

namespace lpld {

Napi::Value norm_act_op(const Info& info);
Napi::Value batch_norm_act_op(const Info& info);
Napi::Value conv_norm_act_op(const Info& info);
Napi::Value unshuffled_conv_op(const Info& info);
Napi::Value winograd_conv_op(const Info& info);

}  // namespace lpld
