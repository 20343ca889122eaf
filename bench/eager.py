"""The BN-matching iteration as the papers' scripts run it: eager PyTorch, forward hooks on BatchNorm, Adam on the pixels.
A long-lived child of bench/synthesize.mjs: reads one JSON request a line on stdin, answers one JSON line on stdout.

  {"load": FILE}                          a safetensors file: weights (torchvision names), x, targets, draws
  {"run": NAME, "from": FILE, "steps": S, "groups": G} of the first G groups; NAME: eager-fp32, eager-bf16 (autocast, channels-last), conv-fp32, conv-bf16; on
                                          CUDA -tf32 for -fp32, which is what PyTorch's defaults make of its convolutions
  {"rates": true}                         a large bf16 matrix product, FLOP/s, and a large copy, bytes read and written a s

conv-*: the same convolutions alone, forward and gradient to the input, channels-last: the floor nobody goes below with
these convolutions. Written from docs and papers (SRe2L sec. 3; one crop, flip and roll for the batch; Adam .5 .9). Class
groups are optimised one after the other, as the scripts do. Losses are read after the last iteration, and on CUDA every answer
waits for the device.
"""

import json
import resource
import struct
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

DTYPES = {"F32": torch.float32, "F64": torch.float64, "I32": torch.int32, "I64": torch.int64, "U8": torch.uint8}


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            flat = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[entry["dtype"]])
            out[name] = flat.reshape(entry["shape"])
    return out, header.get("__metadata__", {})


class Block(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    def __init__(self, classes, small_stem):
        super().__init__()
        kernel, stride = (3, 1) if small_stem else (7, 2)
        self.conv1 = nn.Conv2d(3, 64, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.Identity() if small_stem else nn.MaxPool2d(3, 2, 1)
        inside = 64
        for stage, outside in enumerate((64, 128, 256, 512), 1):
            blocks = [Block(inside, outside, 1 if stage == 1 else 2), Block(outside, outside, 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            inside = outside
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


class ConvBlock(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, padding=1)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x):
        return F.avg_pool2d(F.relu(self.norm(self.conv(x))), 2)


class ConvNet(nn.Module):
    def __init__(self, widths, channels, classes, size):
        super().__init__()
        self.features = nn.Sequential(*(ConvBlock(i, o) for i, o in zip([channels, *widths], widths)))
        self.classifier = nn.Linear(widths[-1] * (size >> len(widths)) ** 2, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Loop:
    def __init__(self, path, device):
        self.device = device
        self.tensors, info = read_safetensors(path)
        for name in ("x", "labels", "targetMean", "targetVar"):
            self.tensors[name] = self.tensors[name].to(device)
        self.groups = self.tensors["crop"].shape[1]
        self.model = ResNet18(int(info["classes"]), info["stem"] == "small").to(device)
        self.model.load_state_dict({k[6:]: v for k, v in self.tensors.items() if k.startswith("model.")})
        self.model.eval().requires_grad_(False)
        self.norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        self.r_bn, self.lr = float(info["rBn"]), float(info["lr"])

    def iterate(self, steps, bf16, groups):
        return [loss for group in range(groups) for loss in self.iterate_group(group, steps, bf16)]

    def iterate_group(self, group, steps, bf16):
        t = self.tensors
        images = t["x"].shape[0] // self.groups
        mine = slice(group * images, (group + 1) * images)
        memory = torch.channels_last if bf16 else torch.contiguous_format
        model = self.model.to(memory_format=memory)
        x = t["x"][mine].clone(memory_format=memory).requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=self.lr, betas=(0.5, 0.9), eps=1e-8)
        size, labels, losses = x.shape[-1], t["labels"][mine].long(), []
        distances = []
        first = 0
        hooks = []
        for norm in self.norms:
            last = first + norm.num_features
            mean, var = t["targetMean"][group, first:last], t["targetVar"][group, first:last]

            def hook(_module, args, _output, mean=mean, var=var):
                batch = args[0].float()
                distances.append(
                    torch.norm(batch.var((0, 2, 3), unbiased=False) - var) + torch.norm(batch.mean((0, 2, 3)) - mean)
                )

            hooks.append(norm.register_forward_hook(hook))
            first = last
        for step in range(steps):
            top, left, height, width = t["crop"][step, group].tolist()
            view = F.interpolate(
                x[:, :, top : top + height, left : left + width], (size, size), mode="bilinear", align_corners=False
            )
            if t["flip"][step, group].item():
                view = view.flip(3)
            view = torch.roll(view, t["roll"][step, group].tolist(), (2, 3))
            optimizer.zero_grad()
            distances.clear()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                logits = model(view)
            ce = F.cross_entropy(logits.float(), labels)
            matching = 10 * distances[0] + sum(distances[1:])
            (ce + self.r_bn * matching).backward()
            optimizer.step()
            with torch.no_grad():
                x.clamp_(-2, 2)
            losses.append(torch.stack([ce, matching]).detach())
        for handle in hooks:
            handle.remove()
        return torch.stack(losses).flatten().tolist()

    def convolutions(self, steps, bf16, _groups):
        dtype = torch.bfloat16 if bf16 else torch.float32
        if not hasattr(self, "shapes"):
            self.shapes = []
            hooks = [
                m.register_forward_hook(lambda m, args, out: self.shapes.append((m, args[0].shape, out.shape)))
                for m in self.model.modules()
                if isinstance(m, nn.Conv2d)
            ]
            with torch.no_grad():
                self.model(self.tensors["x"])
            for handle in hooks:
                handle.remove()
            self.inputs = {}
        if dtype not in self.inputs:
            make = lambda shape: torch.randn(shape, device=self.device).to(dtype).to(memory_format=torch.channels_last)  # noqa: E731
            self.inputs[dtype] = [
                (m.weight.to(dtype).to(memory_format=torch.channels_last), make(a), make(b), m.stride, m.padding)
                for m, a, b in self.shapes
            ]
        for _ in range(steps):
            for weight, x, grad, stride, padding in self.inputs[dtype]:
                F.conv2d(x, weight, None, stride, padding)
                torch.nn.grad.conv2d_input(x.shape, weight, grad, stride, padding)
        return []


def rates(device):
    size, repeats = (8192, 20) if device.type == "cuda" else (1024, 3)
    a, b = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    source = torch.empty(size * size * 4, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def seconds(work):
        for _ in range(3):
            work()
        wait(device)
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        wait(device)
        return (time.perf_counter() - began) / repeats

    matmul = seconds(lambda: torch.matmul(a, b))
    copy = seconds(lambda: target.copy_(source))
    return {"matmulFlops": 2 * size**3 / matmul, "copyBytes": 2 * source.numel() / copy}


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def serve(answer_of, device):
    """Answers each line of JSON on stdin by a line on stdout, with this process's peak memory, once the device is done."""
    torch.empty(1, device=device)  # says here why the device cannot be used
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        answer = answer_of(json.loads(line))
        wait(device)
        answer["peakBytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(answer), flush=True)


def main():
    torch.set_num_threads(int(sys.argv[1]))
    device = torch.device(sys.argv[2])
    loops = {}

    def answer_of(request):
        if "load" in request:
            loops[request["load"]] = Loop(request["load"], device)
            return {}
        if "rates" in request:
            return rates(device)
        loop, name = loops[request["from"]], request["run"]
        run = loop.convolutions if name.startswith("conv") else loop.iterate
        return {"losses": run(request["steps"], name.endswith("bf16"), request["groups"])}

    serve(answer_of, device)


if __name__ == "__main__":
    main()
