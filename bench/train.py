"""A student's training step as the papers' validation scripts run it: eager PyTorch, KL divergence to stored soft labels at a
temperature, AdamW. A long-lived child of bench/train.mjs: reads one JSON request a line on stdin, answers one JSON line on stdout.

  {"run": NAME, "from": FILE}   the S steps of a safetensors file: weights (our names are PyTorch's), pixels U8 [S, B, C, P, P],
                                logits F32 [S, B, K]; NAME: eager-fp32, eager-bf16 (autocast, channels-last); on CUDA -tf32
                                for -fp32, which is what PyTorch's defaults make of its convolutions

Written from docs and papers (SRe2L sec. 3, FKD): softmax of the labels and log-softmax of the answer at T, batchmean, weight
decay on everything. Pixels lie in memory as they come out of the loader, bytes, and are normalised in the step. Every run
goes on with the weights of the one before; every answer waits for the device.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F

from eager import ConvNet, ResNet18, read_safetensors, serve, wait


class Student:
    def __init__(self, path, bf16, device):
        tensors, info = read_safetensors(path)
        self.bf16, self.device = bf16, device
        self.memory = torch.channels_last if bf16 else torch.contiguous_format
        self.pixels, self.logits = tensors["pixels"].to(device), tensors["logits"].to(device)
        channels, size = self.pixels.shape[2], self.pixels.shape[-1]
        black, white = (tensors[name].to(device).view(1, -1, 1, 1) for name in ("black", "white"))
        self.scale, self.shift = (white - black) / 255, black
        self.temperature, classes = float(info["temperature"]), int(info["classes"])
        if info["arch"] == "resnet18":
            self.model = ResNet18(classes, info["stem"] == "small")
        else:
            self.model = ConvNet(json.loads(info["widths"]), channels, classes, size)
        self.model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
        self.model = self.model.to(device, memory_format=self.memory).train()
        rule = {name: float(info[name]) for name in ("lr", "eps")}
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), betas=(0.9, 0.999), weight_decay=float(info["decay"]), **rule
        )

    def steps(self):
        losses = []
        for pixels, logits in zip(self.pixels, self.logits):
            x = (pixels.float() * self.scale + self.shift).contiguous(memory_format=self.memory)
            target = F.softmax(logits / self.temperature, 1)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                answer = self.model(x)
            loss = F.kl_div(F.log_softmax(answer.float() / self.temperature, 1), target, reduction="batchmean")
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()


def main():
    torch.set_num_threads(int(sys.argv[1]))
    device = torch.device(sys.argv[2])
    students = {}

    def answer_of(request):
        path, name = request["from"], request["run"]
        if (path, name) not in students:
            students[path, name] = Student(path, name.endswith("bf16"), device)
        began = time.perf_counter()
        losses = students[path, name].steps()
        wait(device)
        return {"losses": losses, "seconds": time.perf_counter() - began}

    serve(answer_of, device)


if __name__ == "__main__":
    main()
