# Golden trajectories: student steps (soft KL + AdamW, hard labels + SGD with CutMix, mixup), the synthesis loop of
# lpld-sre2l-cda 0.5 with class groups, and the class-statistics pass of 3.2. All draws are recorded in the file, all
# inputs and weights come from the Philox fill. The values are float64; `close` proves that float32 follows them.
import math

import numpy as np
import torch
import torch.nn.functional as F

from golden_models import MODELS, build, entries, filled
from golden_ops import bn_term, crop_flip_roll, pil_resize, prior
from golden_util import close, image_bytes, positive, save, symmetric

CLASSES = 5
SIZES = [(18, 20)] * 7 + [(16, 16)] * 5  # the store of every trajectory: grey images of two sizes
MEAN, STD = 0.45, 0.25


def store():
    images = [image_bytes((h, w, 1), 300 + i) for i, (h, w) in enumerate(SIZES)]
    return images, np.arange(len(SIZES)) % CLASSES


def draw_recipes(rng, batches, kinds, size):
    """Recorded randomness in the form of src/native.ts Recipes; kinds[s] is the mix kind of batch s."""
    rows = {k: [] for k in ('index', 'crop', 'flip', 'mixKind', 'mixIndex', 'mixBox', 'lambda')}
    offset = [0]
    for count, kind in zip(batches, kinds):
        partners = rng.permutation(count)
        for row in range(count):
            index = int(rng.integers(len(SIZES)))
            height, width = SIZES[index]
            h, w = int(rng.integers(6, height + 1)), int(rng.integers(6, width + 1))
            box = [0, 0, 0, 0]
            share = 1.0
            if kind == 1:
                t, l = int(rng.integers(size)), int(rng.integers(size))
                box = [t, l, int(rng.integers(1, size - t + 1)), int(rng.integers(1, size - l + 1))]
                share = 1 - box[2] * box[3] / size**2
            elif kind == 2:
                share = float(rng.uniform())
            rows['index'].append(index)
            rows['crop'].append([int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w])
            rows['flip'].append(int(rng.integers(2)))
            rows['mixKind'].append(kind)
            rows['mixIndex'].append(int(partners[row]) if kind else row)
            rows['mixBox'].append(box)
            rows['lambda'].append(share)
        offset.append(offset[-1] + count)
    types = {'flip': np.uint8, 'mixKind': np.uint8, 'lambda': np.float32}
    return {k: np.array(v, types.get(k, np.int32)) for k, v in rows.items()} | {'offset': np.array(offset, np.int32)}


def render(images, r, begin, end, size):
    """uint8 [n, C, P, P] before mixup: crop, Pillow resize, flip, then the partner's box."""
    plain = []
    for row in range(begin, end):
        image = pil_resize(images[r['index'][row]], r['crop'][row], size, size).transpose(2, 0, 1)
        plain.append(image[:, :, ::-1] if r['flip'][row] else image)
    out = [p.copy() for p in plain]
    for i, row in enumerate(range(begin, end)):
        if r['mixKind'][row] == 1:
            t, l, h, w = r['mixBox'][row]
            out[i][:, t : t + h, l : l + w] = plain[r['mixIndex'][row]][:, t : t + h, l : l + w]
    return np.stack(out)


def batch_input(images, r, begin, end, size):
    """Normalised float64 input [n, C, P, P]; the table is float32 as torchvision computes it."""
    table = (torch.arange(256, dtype=torch.float32).div(255) - MEAN).div(STD)
    x = table.double()[torch.tensor(render(images, r, begin, end, size)).long()]
    share = torch.tensor(r['lambda'][begin:end]).double().view(-1, 1, 1, 1)
    mixed = share * x + (1 - share) * x[torch.tensor(r['mixIndex'][begin:end]).long()]
    return torch.where(torch.tensor(r['mixKind'][begin:end] == 2).view(-1, 1, 1, 1), mixed, x)


def student(r, kind, lrs, dtype, teacher=None):
    """Losses and agreements of every step, and the weights afterwards. ConvNet `convnet-avg` of the models file."""
    images, labels = store()
    model = filled(build('convnet-avg')).to(dtype).train().requires_grad_(True)
    if kind == 'soft':
        matrices = [p for n, p in model.named_parameters() if n.endswith('weight') and p.ndim >= 2]
        rest = [p for n, p in model.named_parameters() if not (n.endswith('weight') and p.ndim >= 2)]
        groups = [{'params': matrices, 'weight_decay': 0.01}, {'params': rest, 'weight_decay': 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999), eps=1e-8)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3)
    losses, agreements = [], []
    for s, lr in enumerate(lrs):
        b, e = r['offset'][s], r['offset'][s + 1]
        logits = model(batch_input(images, r, b, e, 16).to(dtype))
        if kind == 'soft':
            t = torch.tensor(teacher[b:e]).to(dtype)
            loss = F.kl_div(F.log_softmax(logits / 20, 1), F.softmax(t / 20, 1), reduction='batchmean')
            target = t
        else:
            own = torch.tensor(labels[r['index'][b:e]])
            share = torch.tensor(r['lambda'][b:e]).to(dtype).view(-1, 1)
            target = share * F.one_hot(own, CLASSES) + (1 - share) * F.one_hot(own[torch.tensor(r['mixIndex'][b:e]).long()], CLASSES)
            loss = F.cross_entropy(logits, target, label_smoothing=0.1)
        for group in optimizer.param_groups:
            group['lr'] = lr
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        agreements.append((logits.argmax(1) == target.argmax(1)).double().mean().item())
    weights = {k: v.detach().double().numpy() for k, v in entries(model)}
    return losses, agreements, weights


def students():
    tensors = {}
    batches = [6, 6, 6, 5, 6, 6, 6, 6, 6, 5]
    for name, kind, mixes, steps in (
        ('soft', 'soft', [0, 1, 1, 1, 0, 1, 1, 1, 1, 1], 10),
        ('hard', 'hard', [0, 1, 1, 1, 0, 1, 0, 1, 1, 0], 10),
        ('mixup', 'hard', [2, 2, 1], 3),
    ):
        r = draw_recipes(np.random.default_rng({'soft': 1, 'hard': 2, 'mixup': 3}[name]), batches[:steps], mixes, 16)
        lrs = [(2e-3 if kind == 'soft' else 0.05) * 0.5 * (1 + math.cos(math.pi * s / 12)) for s in range(steps)]
        teacher = symmetric((r['offset'][-1], CLASSES), 310, 8.0).astype(np.float16)
        losses, agreements, weights = student(r, kind, lrs, torch.float64, teacher)
        again, _, weights32 = student(r, kind, lrs, torch.float32, teacher)
        close(f'{name} losses', again, losses, 2e-5)
        tensors |= {f'{name}.{k}': v for k, v in r.items()}
        tensors |= {f'{name}.lr': np.array(lrs), f'{name}.loss': np.array(losses), f'{name}.agreement': np.array(agreements)}
        for key in ('features.0.conv.weight', 'features.2.norm.weight', 'features.1.norm.running_var', 'classifier.weight'):
            close(f'{name} {key}', weights32[key], weights[key], 1e-4)
            tensors[f'{name}.after.{key}'] = weights[key].reshape(-1)[:64]
    save('students', tensors, {'mean': MEAN, 'std': STD, 'smoothing': 0.1, 'sizes': SIZES})


# name: model, iterations, r_bn, tv, l2, lr
SYNTHESIS = {
    'convnet': ('convnet-avg', 20, 0.05, 0.0, 0.0, 0.1),
    'resnet18': ('resnet18-small', 20, 0.05, 0.0, 0.0, 0.02),
    'prior': ('convnet-avg', 10, 0.05, 1e-3, 1e-2, 0.1),
}
GROUPS, EACH, SIZE = 2, 3, 16


def synthesis(name, crop, flip, roll, lrs, dtype):
    """The loop of 0.5 for two class groups in one batch; returns lossCe, lossBn [S, G] and the last x."""
    key, steps, r_bn, tv_scale, l2_scale, _ = SYNTHESIS[name]
    model = filled(build(key)).to(dtype)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    seen = []
    for norm in norms:
        norm.register_forward_hook(lambda _m, args, _out: seen.append(args[0]))
    channels = sum(m.num_features for m in norms)
    target_mean = torch.tensor(symmetric((GROUPS, channels), 400, 0.5)).to(dtype)
    target_var = torch.tensor(positive((GROUPS, channels), 401)).to(dtype)
    colours = MODELS[key][3]
    x = torch.tensor(symmetric((GROUPS * EACH, colours, SIZE, SIZE), 402, 2.0)).to(dtype).requires_grad_(True)
    low = torch.tensor(np.array([-MEAN / STD] * colours, np.float32)).to(dtype).view(1, -1, 1, 1)
    high = torch.tensor(np.array([(1 - MEAN) / STD] * colours, np.float32)).to(dtype).view(1, -1, 1, 1)
    labels = torch.tensor([1] * EACH + [3] * EACH)
    optimizer = torch.optim.Adam([x], lr=1.0, betas=(0.5, 0.9), eps=1e-8)
    rows = [slice(g * EACH, (g + 1) * EACH) for g in range(GROUPS)]
    ce_all, bn_all = [], []
    for s in range(steps):
        seen.clear()
        views = [crop_flip_roll(x[rows[g]], crop[s][g], flip[s][g], roll[s][g]) for g in range(GROUPS)]
        logits = model(torch.cat(views))
        ce, bn = [], []
        for g in range(GROUPS):
            ce.append(F.cross_entropy(logits[rows[g]], labels[rows[g]]))
            begin, terms = 0, []
            for layer in seen:
                end = begin + layer.shape[1]
                terms.append(bn_term(layer[rows[g]], target_mean[g, begin:end], target_var[g, begin:end]))
                begin = end
            bn.append(10 * terms[0] + sum(terms[1:]))
        loss = sum(ce) + r_bn * sum(bn)
        for view in views:
            tv, l2 = prior(view)
            loss = loss + tv_scale * tv + l2_scale * l2
        optimizer.param_groups[0]['lr'] = lrs[s]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            x.copy_(torch.minimum(torch.maximum(x, low), high))
        ce_all.append([v.item() for v in ce])
        bn_all.append([v.item() for v in bn])
    return np.array(ce_all), np.array(bn_all), x.detach().double().numpy()


def draw_views(rng, steps):
    """Recorded crop [S, G, 4], flip [S, G] and roll [S, G, 2]; a fifth of the crops is the whole image."""
    crop = np.zeros((steps, GROUPS, 4), np.int32)
    for at in np.ndindex(steps, GROUPS):
        h, w = int(rng.integers(7, SIZE + 1)), int(rng.integers(7, SIZE + 1))
        crop[at] = [0, 0, SIZE, SIZE] if rng.uniform() < 0.2 else [rng.integers(SIZE - h + 1), rng.integers(SIZE - w + 1), h, w]
    return crop, rng.integers(2, size=(steps, GROUPS)).astype(np.uint8), rng.integers(-4, 5, size=(steps, GROUPS, 2)).astype(np.int32)


def syntheses():
    """The first draw seed whose float32 run stays with the float64 one: past a ReLU kink hit by rounding both are right."""
    tensors = {}
    for name, (_, steps, *_rest, lr) in SYNTHESIS.items():
        lrs = [0.5 * (1 + math.cos(math.pi * t / 40)) * lr for t in range(steps)]
        for seed in range(40, 60):
            crop, flip, roll = draw_views(np.random.default_rng(seed), steps)
            ce, bn, x = synthesis(name, crop, flip, roll, lrs, torch.float64)
            ce32, bn32, x32 = synthesis(name, crop, flip, roll, lrs, torch.float32)
            if max(np.abs(ce32 / ce - 1).max(), np.abs(bn32 / bn - 1).max(), np.abs(x32 - x).max()) < 2.5e-5:
                break
            print(f'  {name}: draw seed {seed} meets a kink')
        close(f'{name} ce', ce32, ce, 2.5e-5)
        close(f'{name} bn', bn32, bn, 2.5e-5)
        close(f'{name} x', x32, x, 2.5e-5)
        tensors |= {f'{name}.crop': crop, f'{name}.flip': flip, f'{name}.roll': roll, f'{name}.lr': np.array(lrs),
                    f'{name}.ce': ce, f'{name}.bn': bn, f'{name}.x': x[::EACH]}
    save('syntheses', tensors, {'runs': {k: dict(zip(('model', 'steps', 'rBn', 'tvL2', 'l2Scale', 'lr'), v)) for k, v in SYNTHESIS.items()},
                                'mean': MEAN, 'std': STD, 'labels': [1, 3], 'groups': GROUPS, 'each': EACH, 'size': SIZE})


def class_stats():
    """Class-wise moments of BatchNorm inputs: the running average of 3.2 (momentum .1, from 0 and 1) and the pooled ones."""
    images, labels = store()
    r = draw_recipes(np.random.default_rng(5), [7, 6, 7, 4], [0, 0, 0, 0], 16)
    model = filled(build('convnet-avg'))
    norms = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    seen = {}
    for name, norm in norms:
        norm.register_forward_hook(lambda _m, args, _out, name=name: seen.__setitem__(name, args[0]))
    ema = {n: (np.zeros((CLASSES, m.num_features)), np.ones((CLASSES, m.num_features))) for n, m in norms}
    pool = {n: [[] for _ in range(CLASSES)] for n, _ in norms}
    count = np.zeros(CLASSES, np.int64)
    for s in range(len(r['offset']) - 1):
        b, e = r['offset'][s], r['offset'][s + 1]
        model(batch_input(images, r, b, e, 16))
        own = labels[r['index'][b:e]]
        count += np.bincount(own, minlength=CLASSES)
        for name, _ in norms:
            for k in np.unique(own):
                x = seen[name][torch.tensor(own == k)].transpose(0, 1).flatten(1).numpy()
                ema[name][0][k] = 0.9 * ema[name][0][k] + 0.1 * x.mean(1)
                ema[name][1][k] = 0.9 * ema[name][1][k] + 0.1 * x.var(1)
                pool[name][k].append(x)
    assert count.min() > 0, count
    tensors = dict(r) | {'count': count}
    for name, _ in norms:
        whole = [np.concatenate(p, 1) for p in pool[name]]
        tensors |= {f'ema.{name}.mean': ema[name][0], f'ema.{name}.var': ema[name][1]}
        tensors |= {f'exact.{name}.mean': np.stack([w.mean(1) for w in whole]), f'exact.{name}.var': np.stack([w.var(1) for w in whole])}
    save('class-stats', tensors, {'mean': MEAN, 'std': STD, 'layers': [n for n, _ in norms]})


def make():
    students()
    syntheses()
    class_stats()
