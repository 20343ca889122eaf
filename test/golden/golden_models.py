# Golden tensor names, shapes and logits of the architectures. ResNets are torchvision's; the small stem replaces conv1
# by a 3x3 stride-1 convolution and drops the max pooling (lpld-sre2l-cda 0.3). ConvNet is defined here: block i =
# conv 3x3 with bias, BatchNorm, ReLU, 2x2 pooling (floor); Linear on the flattened [C*h*w].
import numpy as np
import torch
from torch import nn

from golden_util import close, fill_tensor, save, symmetric  # before torchvision: it defines two names for it
from torchvision import models


class Block(nn.Module):
    def __init__(self, width_in, width_out, pooling):
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(width_out)
        self.pool = nn.AvgPool2d(2) if pooling == 'avg' else nn.MaxPool2d(2)

    def forward(self, x):
        return self.pool(torch.relu(self.norm(self.conv(x))))


class ConvNet(nn.Module):
    def __init__(self, widths, channels, size, classes, pooling):
        super().__init__()
        blocks = []
        for width in widths:
            blocks.append(Block(channels, width, pooling))
            channels, size = width, size // 2
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels * size * size, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def resnet(arch, stem, classes):
    model = getattr(models, arch)(num_classes=classes)
    if stem == 'small':
        model.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model


def entries(model):
    return [(k, v) for k, v in model.state_dict().items() if not k.endswith('num_batches_tracked')]


def filled(model):
    """Golden weights, float64 model (the values are float32), eval mode, frozen."""
    tensors = {k: torch.from_numpy(fill_tensor(k, tuple(v.shape), i)) for i, (k, v) in enumerate(entries(model))}
    model.load_state_dict(tensors, strict=False)
    return model.double().eval().requires_grad_(False)


# key: arch, stem, classes, channels, size, widths, pooling, whether logits are stored
MODELS = {
    'resnet18-small': ('resnet18', 'small', 10, 3, 32, [], 'avg', True),
    'resnet18-imagenet': ('resnet18', 'imagenet', 7, 3, 64, [], 'avg', True),
    'resnet34-small': ('resnet34', 'small', 10, 3, 32, [], 'avg', False),
    'resnet34-imagenet': ('resnet34', 'imagenet', 10, 3, 64, [], 'avg', False),
    'resnet50-imagenet': ('resnet50', 'imagenet', 5, 3, 64, [], 'avg', True),
    'resnet50-small': ('resnet50', 'small', 10, 3, 32, [], 'avg', False),
    'resnet101-imagenet': ('resnet101', 'imagenet', 10, 3, 64, [], 'avg', False),
    'resnet101-small': ('resnet101', 'small', 10, 3, 32, [], 'avg', False),
    'convnet-avg': ('convnet', 'small', 5, 1, 16, [6, 8, 12], 'avg', True),
    'convnet-max': ('convnet', 'small', 4, 3, 15, [8, 6], 'max', True),
}


def build(key):
    arch, stem, classes, channels, size, widths, pooling, _ = MODELS[key]
    return ConvNet(widths, channels, size, classes, pooling) if arch == 'convnet' else resnet(arch, stem, classes)


def make():
    tensors, lists = {}, {}
    for key, (arch, stem, classes, channels, size, widths, pooling, logits) in MODELS.items():
        model = build(key)
        lists[key] = {
            'arch': arch, 'stem': stem, 'numClasses': classes, 'inChannels': channels, 'inputSize': size,
            'widths': widths, 'pooling': pooling, 'logits': logits,
            'tensors': [[k, list(v.shape)] for k, v in entries(model)],
            'norms': [[k, m.num_features] for k, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)],
        }
        if logits:
            model = filled(model)
            x = torch.tensor(symmetric((2, channels, size, size), 200))
            y = model(x)
            close(key, model.float()(x.float()).numpy(), y.numpy(), 2e-5)
            tensors[key] = y.numpy()
    names = {k: {f: v[f] for f in v if f != 'tensors'} for k, v in lists.items()}
    save('models', tensors, {'models': names})
    for group in ('imagenet', 'small'):
        save(f'names-{group}', {'count': np.array([len(lists)], np.int32)},
             {'tensors': {k: v['tensors'] for k, v in lists.items() if v['stem'] == group}})
