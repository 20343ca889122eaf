# Golden values of single ops: Pillow for resizing and rendering, PyTorch autograd in float64 for everything with a
# gradient, torchvision for the normalisation table. Formulas: lpld-sre2l-cda 0.4 (BN term, priors), 0.5 (crop, flip,
# roll), 6.2 (KL), torch.optim (SGD, AdamW). Inputs come from the Philox fill and are not stored.
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from golden_util import image_bytes, positive, save, symmetric  # before torchvision: it defines two names for it
from torchvision.transforms import Normalize, ToTensor


def pil(array):
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def pil_resize(array, crop, height, width):
    """uint8 [H, W, C], crop (top, left, height, width) -> uint8 [height, width, C]."""
    t, l, h, w = crop
    out = pil(array).crop((l, t, l + w, t + h)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(out).reshape(height, width, array.shape[2])


RESIZE = [
    # H, W, C, crop (top, left, height, width), output height, width
    (17, 23, 3, (0, 0, 17, 23), 31, 29), (17, 23, 1, (0, 0, 17, 23), 8, 9), (64, 64, 3, (5, 9, 43, 51), 64, 64),
    (64, 64, 3, (0, 0, 64, 64), 33, 64), (64, 64, 3, (0, 0, 64, 64), 64, 31), (50, 30, 1, (3, 2, 1, 28), 16, 16),
    (50, 30, 3, (3, 2, 28, 1), 16, 16), (200, 170, 1, (11, 7, 180, 160), 64, 64), (200, 170, 3, (0, 0, 200, 170), 5, 7),
    (9, 9, 3, (4, 4, 1, 1), 12, 10), (16, 16, 1, (0, 0, 16, 16), 1, 1), (20, 18, 3, (2, 1, 16, 16), 16, 16),
    (31, 47, 1, (1, 5, 29, 37), 64, 48), (8, 8, 1, (0, 0, 8, 8), 16, 16), (8, 8, 1, (1, 2, 5, 6), 16, 16),
    (37, 41, 3, (0, 0, 37, 41), 36, 42), (100, 10, 3, (0, 0, 100, 10), 10, 100), (33, 33, 3, (16, 0, 17, 33), 32, 32),
]


def resize():
    tensors = {}
    for i, (h, w, c, crop, oh, ow) in enumerate(RESIZE):
        tensors[f'{i}'] = pil_resize(image_bytes((h, w, c), i), crop, oh, ow)
    save('resize', tensors, {'cases': [dict(zip(('height', 'width', 'channels', 'crop', 'outHeight', 'outWidth'), c)) for c in RESIZE]})


CROPS = [[[0, 0, 9, 9], [2, 1, 5, 7]], [[3, 0, 1, 9], [4, 5, 4, 3]], [[8, 8, 1, 1], [1, 2, 7, 6]]]
FLIPS = [[0, 1], [1, 0], [0, 1]]
ROLLS = [[[0, 0], [-3, 2]], [[8, -8], [1, 0]], [[0, 4], [-20, 31]]]


def crop_flip_roll(x, crop, flip, roll):
    """[n, C, P, P] with one rectangle, coin and offset for all images: crop, resize to P, flip, circular shift."""
    size = x.shape[-1]
    t, l, h, w = (int(v) for v in crop)
    y = F.interpolate(x[:, :, t : t + h, l : l + w], size=(size, size), mode='bilinear', align_corners=False, antialias=False)
    if flip:
        y = y.flip(3)
    return torch.roll(y, (int(roll[0]), int(roll[1])), (2, 3))


def prior(x):
    """TV of one group (sum of four Frobenius norms) and mean image norm."""
    h, v = x[..., :, :-1] - x[..., :, 1:], x[..., :-1, :] - x[..., 1:, :]
    a, b = x[..., 1:, :-1] - x[..., :-1, 1:], x[..., :-1, :-1] - x[..., 1:, 1:]
    return sum(torch.linalg.vector_norm(d) for d in (h, v, a, b)), torch.linalg.vector_norm(x.flatten(1), dim=1).mean()


def bn_term(x, mean, var):
    mu, v = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    return torch.linalg.vector_norm(var - v) + torch.linalg.vector_norm(mean - mu)


def gradients():
    tensors = {}
    for i in range(len(CROPS)):
        x = torch.tensor(symmetric((4, 2, 9, 9), 100 + i), requires_grad=True)
        g = torch.tensor(symmetric((4, 2, 9, 9), 110 + i))
        y = torch.cat([crop_flip_roll(x[2 * k : 2 * k + 2], CROPS[i][k], FLIPS[i][k], ROLLS[i][k]) for k in range(2)])
        y.backward(g)
        tensors |= {f'crop.{i}.y': y.detach().numpy(), f'crop.{i}.dx': x.grad.numpy()}
    x = torch.tensor(symmetric((6, 5, 3, 4), 120), requires_grad=True)
    mean, var = torch.tensor(symmetric((3, 5), 121)), torch.tensor(positive((3, 5), 122))
    loss = torch.stack([bn_term(x[2 * k : 2 * k + 2], mean[k], var[k]) for k in range(3)])
    loss.sum().backward()
    tensors |= {'bn.loss': loss.detach().numpy(), 'bn.dx': x.grad.numpy()}
    for i, (temperature, scale, log_target) in enumerate([(20, 1, False), (20, 400, True), (1, 1, False), (4, 16, True)]):
        s = torch.tensor(symmetric((7, 11), 130, 6.0), requires_grad=True)
        t = torch.tensor(symmetric((7, 11), 131, 9.0))
        p = F.log_softmax(s / temperature, 1)
        q = F.log_softmax(t / temperature, 1)
        loss = F.kl_div(p, q if log_target else q.exp(), reduction='batchmean', log_target=log_target) * scale
        loss.backward()
        tensors |= {f'kl.{i}.loss': np.array([loss.item()]), f'kl.{i}.ds': s.grad.numpy()}
    for part in range(2):
        x = torch.tensor(symmetric((6, 3, 5, 7), 140), requires_grad=True)
        values = torch.stack([prior(x[3 * k : 3 * k + 3])[part] for k in range(2)])
        values.sum().backward()
        name = ('tv', 'l2')[part]
        tensors |= {f'prior.{name}': values.detach().numpy(), f'prior.d{name}': x.grad.numpy()}
    save('gradients', tensors, {'crop': {'crop': CROPS, 'flip': FLIPS, 'roll': ROLLS}})


def optimizers():
    """Six steps of torch.optim on one [5, 7] parameter; lr changes every step."""
    tensors = {}
    lrs = [0.2, 0.05, 0.3, 0.01, 0.1, 0.0]
    cases = {
        'sgd': dict(momentum=0.9, weight_decay=0.01), 'sgd-plain': dict(momentum=0.0, weight_decay=0.0),
        'adamw': dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05), 'adamw-plain': dict(betas=(0.5, 0.9), eps=1e-3, weight_decay=0.0),
    }
    for name, options in cases.items():
        p = torch.tensor(symmetric((5, 7), 150), requires_grad=True)
        make = torch.optim.SGD if name.startswith('sgd') else torch.optim.AdamW
        optimizer = make([p], lr=1.0, **options)
        for step, lr in enumerate(lrs):
            optimizer.param_groups[0]['lr'] = lr
            p.grad = torch.tensor(symmetric((5, 7), 151 + step, 0.1))
            optimizer.step()
            tensors[f'{name}.{step}'] = p.detach().numpy().copy()
    save('optimizers', tensors, {'lr': lrs})


NORMS = {
    'imagenet': ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), 'tiny': ([0.4802, 0.4481, 0.3975], [0.2302, 0.2265, 0.2262]),
    'none': ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]), 'grey': ([0.1307], [0.3081]),
}


def normalize():
    """Every grey level through torchvision's ToTensor + Normalize, float32 [C, 256]."""
    tensors = {}
    for name, (mean, std) in NORMS.items():
        levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 256, 1), len(mean), 2)
        tensors[name] = Normalize(mean, std)(ToTensor()(levels)).numpy().reshape(len(mean), 256)
    save('normalize', tensors, {'norms': {k: {'mean': m, 'std': s} for k, (m, s) in NORMS.items()}})


def half():
    """Float32 bit patterns and what numpy's float16 makes of them, as bits: halves, ties, subnormals, overflow."""
    bits = np.arange(0, 0x7C00, 13, dtype=np.uint16)
    exact = bits.view(np.float16).astype(np.float32)
    up = np.nextafter(bits.view(np.float16), np.float16(np.inf)).astype(np.float32)
    tie = ((exact.astype(np.float64) + up) / 2)[:-1].astype(np.float32)
    values = np.concatenate([exact, tie, np.nextafter(tie, np.float32(0)), np.nextafter(tie, np.float32(1e9)),
                             np.array([65504, 65519.996, 2.0**-25, 2.0**-24, 1.5 * 2.0**-25, 1e-30, 0.0], np.float32)])
    values = np.concatenate([values, -values]).astype(np.float32)
    save('half', {'f32': values, 'f16': values.astype(np.float16).view(np.uint16).astype(np.int32)})


def make():
    resize()
    gradients()
    optimizers()
    normalize()
    half()
