# Writes test/golden/*.safetensors with PyTorch, torchvision and Pillow: the numbers the native code is tested against.
# Run by a person (`npm run golden`), never by a test; the difference is reviewed. Needs torch, torchvision,
# Pillow < 13, numpy and safetensors; the versions used are in every file's metadata. Takes minutes.
import torch

import golden_loops
import golden_models
import golden_ops
import golden_systems
from golden_streams import check_streams
from golden_util import check_philox, check_pillow

if __name__ == '__main__':
    torch.manual_seed(0)  # initial weights are all overwritten; this only keeps accidents repeatable
    torch.set_num_threads(1)
    check_philox()
    check_pillow()
    check_streams()
    golden_ops.make()
    golden_models.make()
    golden_loops.make()
    golden_systems.make()
