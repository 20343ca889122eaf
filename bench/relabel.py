"""Teacher logits as the papers' scripts make them: a Dataset of JPEG files, RandomResizedCrop and flip on PIL images, a
DataLoader with workers, CutMix on the batch, the frozen teacher, halves, one torch.save a batch.
A long-lived child of bench/relabel.mjs: reads one JSON request a line on stdin, answers one JSON line on stdout.

  {"load": FILE, "images": DIR, "folder": DIR}   a safetensors file: model.* (torchvision names) and the Recipes; images are
                                                 DIR/<index>.jpg, batches are written to the second folder
  {"run": NAME, "from": FILE, "replay": BOOL}    NAME: pytorch-fp32 (as published), pytorch-bf16 (autocast, channels-last);
                                                 replay takes crops, flips, partners and box from the Recipes and writes what
                                                 was saved once more, as float32, to answer.f32; otherwise they are drawn.
                                                 teacher-*: the model alone, on numbers that lie on the device

Written from docs and papers (FKD and LPLD relabel: RandomResizedCrop with its coordinates kept, flip, CutMix with Beta(1, 1);
methods 4.1, 5.2). Workers stay alive from run to run and are as many as threads; peakBytes is of this process alone.
"""

import json
import math
import os
import random
import sys
import time

import numpy as np
import torch
from eager import ConvNet, ResNet18, read_safetensors, serve, wait
from PIL import Image
from torch.utils.data import DataLoader, Dataset

try:
    from torchvision import transforms
except RuntimeError:  # a torchvision for another build of torch lacks two ops, which no transform needs
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    LIBRARY = torch.library.Library("torchvision", "DEF")
    LIBRARY.define("nms(Tensor a, Tensor b, float c) -> Tensor")
    LIBRARY.define("qnms(Tensor a, Tensor b, float c) -> Tensor")
    from torchvision import transforms


class Views(Dataset):
    """(row of the Recipes, whether to replay it) -> image, flip, crop."""

    def __init__(self, folder, tensors, info):
        self.folder, self.mode = folder, "L" if int(info["channels"]) == 1 else "RGB"
        self.index, self.crop, self.flip = (tensors[name].tolist() for name in ("index", "crop", "flip"))
        size = int(info["size"])
        scale = json.loads(info["scale"])
        self.crops = transforms.RandomResizedCrop(size, scale=scale)
        self.rest = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(json.loads(info["mean"]), json.loads(info["std"]))]
        )

    def __getitem__(self, key):
        row, replay = key
        with Image.open(os.path.join(self.folder, f"{self.index[row]}.jpg")) as file:
            image = file.convert(self.mode)
        if replay:
            crop, flip = self.crop[row], self.flip[row] == 1
        else:
            crop = self.crops.get_params(image, self.crops.scale, self.crops.ratio)
            flip = random.random() < 0.5
        image = transforms.functional.resized_crop(image, *crop, self.crops.size, self.crops.interpolation)
        if flip:
            image = transforms.functional.hflip(image)
        return self.rest(image), torch.tensor(flip), torch.tensor(crop)


class Pipeline:
    def __init__(self, request, threads, device):
        tensors, info = read_safetensors(request["load"])
        self.tensors, self.device, self.threads, self.folder = tensors, device, threads, request["folder"]
        classes, size = int(info["classes"]), int(info["size"])
        if info["arch"] == "convnet":
            self.model = ConvNet(json.loads(info["widths"]), int(info["channels"]), classes, size)
        else:
            self.model = ResNet18(classes, info["stem"] == "small")
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self.model.to(device).eval().requires_grad_(False)
        self.offset = tensors["offset"].tolist()
        self.shape, self.resident = (int(info["channels"]), size, size), {}
        self.batches = []  # the sampler of the loader: filled before each pass over it
        cuda = device.type == "cuda"
        self.loader = DataLoader(
            Views(request["images"], tensors, info),
            batch_sampler=self.batches,
            num_workers=threads,
            persistent_workers=True,
            pin_memory=cuda,
        )

    def cutmix(self, number, size, rows, replay):
        if replay:
            first = self.offset[number]
            top, left, height, width = self.tensors["mixBox"][first].tolist()
            partner = self.tensors["mixIndex"][first : first + rows].long()
            return partner, 1 - height * width / size**2, (top, left, top + height, left + width)
        share = np.random.beta(1, 1)
        side = int(size * math.sqrt(1 - share))
        row, column = np.random.randint(size), np.random.randint(size)
        low = lambda at: max(0, at - side // 2)  # noqa: E731
        high = lambda at: min(size, at + side // 2)  # noqa: E731
        return torch.randperm(rows), share, (low(row), low(column), high(row), high(column))

    @torch.no_grad()
    def run(self, bf16, replay):
        self.batches[:] = [[(row, replay) for row in range(a, b)] for a, b in zip(self.offset, self.offset[1:])]
        memory = torch.channels_last if bf16 else torch.contiguous_format
        model = self.model.to(memory_format=memory)
        began = time.perf_counter()
        for number, (images, flips, crops) in enumerate(self.loader):
            images = images.to(self.device, non_blocking=True)
            partner, share, (top, left, bottom, right) = self.cutmix(number, images.shape[-1], len(images), replay)
            images[:, :, top:bottom, left:right] = images[partner.to(self.device), :, top:bottom, left:right]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                logits = model(images.contiguous(memory_format=memory))
            batch = [crops, flips, partner, share, [top, left, bottom, right], logits.cpu().half()]
            torch.save(batch, os.path.join(self.folder, f"batch_{number}.tar"))
        return time.perf_counter() - began

    @torch.no_grad()
    def teacher(self, bf16):
        memory = torch.channels_last if bf16 else torch.contiguous_format
        model = self.model.to(memory_format=memory)
        if memory not in self.resident:
            make = lambda rows: torch.randn(rows, *self.shape, device=self.device).contiguous(memory_format=memory)  # noqa: E731
            self.resident[memory] = [make(b - a) for a, b in zip(self.offset, self.offset[1:])]
        wait(self.device)
        began = time.perf_counter()
        for images in self.resident[memory]:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                model(images)
        wait(self.device)
        return time.perf_counter() - began

    def write_answer(self):
        with open(os.path.join(self.folder, "answer.f32"), "wb") as file:
            for number in range(len(self.offset) - 1):
                saved = torch.load(os.path.join(self.folder, f"batch_{number}.tar"))
                file.write(saved[-1].float().numpy().tobytes())


def main():
    threads, device = int(sys.argv[1]), torch.device(sys.argv[2])
    torch.set_num_threads(threads)
    pipelines = {}

    def answer_of(request):
        if "load" in request:
            pipelines[request["load"]] = Pipeline(request, threads, device)
            return {}
        pipeline = pipelines[request["from"]]
        bf16 = request["run"].endswith("bf16")
        alone = request["run"].startswith("teacher")
        answer = {"seconds": pipeline.teacher(bf16) if alone else pipeline.run(bf16, request["replay"])}
        if request["replay"]:
            wait(device)
            pipeline.write_answer()
        return answer

    serve(answer_of, device)


if __name__ == "__main__":
    main()
