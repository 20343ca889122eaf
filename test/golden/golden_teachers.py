# Answers of labelling teachers: evaluation mode, train mode (BatchNorm normalises with the batch's own statistics, biased),
# and two teachers combined by the mean of their logits and by G-VBSM's mean at equal Frobenius norms over the batch.
# Run by a person like make_golden.py (`python3 test/golden/golden_teachers.py`); values are float64.
# Sources: methods/lpld-sre2l-cda.md 1.3 (train mode), methods/frontier.md 1.2 (norm-mean).
import numpy as np
import torch
from torch import nn

import golden_util
from golden_models import build, filled
from golden_util import check_philox, check_pillow, close, image_bytes, save

SIZE, MEAN, STD = 32, 0.45, 0.25
BATCHES = [4, 2]  # whole images, in order


def images():
    table = (torch.arange(256, dtype=torch.float32).div(255) - MEAN).div(STD).double()
    pixels = np.stack([image_bytes((SIZE, SIZE, 3), 700 + i) for i in range(sum(BATCHES))])
    return table[torch.tensor(pixels).long()].permute(0, 3, 1, 2)


def second():
    """Another teacher of the same shape: the stem negated, the head three times as large."""
    model = filled(build('resnet18-small'))
    model.conv1.weight.neg_()
    model.fc.weight.mul_(3)
    return model


def answers(model, x, train):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(train)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    out = [model(part) for part in x.split(BATCHES)]
    if train:
        assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())  # they drift, and are not used
        model.load_state_dict(before)
    return out


def norm_mean(*logits):
    norms = [torch.linalg.norm(z) for z in logits]
    mean = sum(norms) / len(norms)
    return sum(z / n * mean for z, n in zip(logits, norms)) / len(logits)


def make():
    x = images()
    one, two = filled(build('resnet18-small')), second()
    tensors = {}
    for name, train in (('eval', False), ('train', True)):
        a, b = answers(one, x, train), answers(two, x, train)
        tensors[name] = torch.cat(a)
        tensors[f'{name}/mean'] = torch.cat([(p + q) / 2 for p, q in zip(a, b)])
        tensors[f'{name}/norm-mean'] = torch.cat([norm_mean(p, q) for p, q in zip(a, b)])
        close(name, torch.cat(answers(filled(build('resnet18-small')).float(), x.float(), train)).numpy(), tensors[name].numpy(), 2e-5)
    golden_util.SCRIPTS = ['golden_teachers.py', 'golden_util.py', 'golden_models.py']
    save('teachers', {k: v.numpy() for k, v in tensors.items()}, {'batches': BATCHES, 'size': SIZE, 'mean': MEAN, 'std': STD})


if __name__ == '__main__':
    torch.set_num_threads(1)
    check_philox()
    check_pillow()
    make()
