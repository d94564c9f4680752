"""Gradients from several single-threaded processes that share the weights and take micro-batches off a counter.

Two threads inside one process wait for each other at every operation, so one busy core halves the speed of both. Here a
process on a busy core just takes fewer micro-batches. What a micro-batch holds depends on the step and its number
alone, never on who computes it.
"""

import queue
from dataclasses import dataclass

import numpy as np
import torch
import torch.multiprocessing as multiprocessing

from . import losses
from .batches import Packer, clip_batch, patch_batch, picture_batch
from .losses import PatchHead, answer_loss, patch_loss
from .model import build_config, build_model
from .tokenizer import build_tokenizer

# Training draws from these seeds; the held-out set and the bundled demo use others (see heldout.py).
SEEDS = {"tower": 1_000, "pictures": 2_000, "clips": 3_000}
MODEL_SEED = 7
ALIVE_CHECK_SECONDS = 30


@dataclass(frozen=True)
class Job:
    """What every step computes: `micro_count` micro-batches of `micro_size` pictures or clips."""

    phase: str
    micro_count: int
    micro_size: int
    clip_share: float
    compiled: bool


@dataclass
class Learner:
    """The model with what else is trained in a phase."""

    model: torch.nn.Module
    head: PatchHead
    packer: Packer

    @staticmethod
    def build(phase: str) -> "Learner":
        tokenizer = build_tokenizer()
        model = build_model(build_config(tokenizer), MODEL_SEED).to(torch.bfloat16).train()
        head = PatchHead(model.config.vision_config.hidden_size).to(torch.bfloat16)
        tower = model.model.vision_tower
        # While the decoder still guesses, its gradients are noise, and a tower that follows them forgets the shapes.
        tower.requires_grad_(phase == "tower")
        # Kept for the layout of the released architecture, never reached by `vision_feature_layer` -1.
        tower.post_layernorm.requires_grad_(False)
        return Learner(model, head, Packer(tokenizer))

    def trained(self, phase: str) -> list[torch.nn.Module]:
        return [self.model.model.vision_tower, self.head] if phase == "tower" else [self.model]

    def weights(self, phase: str) -> list[torch.nn.Parameter]:
        """Those that the phase trains, in the optimiser's order."""
        return [p for module in self.trained(phase) for p in module.parameters() if p.requires_grad]

    def all_weights(self) -> list[torch.nn.Parameter]:
        return [*self.model.parameters(), *self.head.parameters()]

    def compile(self, phase: str) -> None:
        if phase == "tower":
            for layer in self.model.model.vision_tower.encoder.layers:
                layer.forward = torch.compile(layer.forward)
            return
        # Two fixed lengths: pictures and clips.
        for layer in self.model.model.language_model.layers[:-1]:
            layer.forward = torch.compile(layer.forward, dynamic=False)
        losses.last_layer = torch.compile(losses.last_layer, dynamic=False)

    def loss(self, job: Job, step: int, micro: int) -> tuple[torch.Tensor, dict]:
        rng = np.random.default_rng([SEEDS[job.phase], step, micro])
        if job.phase == "tower":
            loss, accuracy = patch_loss(self.model, self.head, patch_batch(rng, job.micro_size))
            return loss, {"kind": "patches", "loss": loss.item(), "accuracy": accuracy, "questions": 0}
        kind = "clips" if job.phase == "clips" and rng.random() < job.clip_share else "pictures"
        batch = (clip_batch if kind == "clips" else picture_batch)(rng, self.packer, job.micro_size)
        loss, accuracy = answer_loss(self.model, self.packer.visual_offset, batch)
        return loss, {"kind": kind, "loss": loss.item(), "accuracy": accuracy, "questions": batch.question_count}


def _next_step(steps) -> int | None:
    """The next step to compute; None at the end, or when the process that asks has gone."""
    while True:
        try:
            return steps.get(timeout=ALIVE_CHECK_SECONDS)
        except queue.Empty:
            if not multiprocessing.parent_process().is_alive():
                return None


def _work(job: Job, shared_weights, gradient, next_micro, steps, results) -> None:
    torch.set_num_threads(1)
    learner = Learner.build(job.phase)
    for weight, shared in zip(learner.all_weights(), shared_weights, strict=True):
        weight.data = shared
    weights = learner.weights(job.phase)
    if job.compiled:
        learner.compile(job.phase)
    views = torch.split(gradient, [weight.numel() for weight in weights])
    while (step := _next_step(steps)) is not None:
        gradient.zero_()
        stats = []
        while True:
            with next_micro.get_lock():
                micro = next_micro.value
                next_micro.value += 1
            if micro >= job.micro_count:
                break
            loss, entry = learner.loss(job, step, micro)
            (loss / job.micro_count).backward()
            for weight, view in zip(weights, views):
                if weight.grad is not None:
                    view.add_(weight.grad.flatten())
                    weight.grad = None
            stats.append(entry)
        results.put(stats)


class Workers:
    """Owns the processes. The learner's weights are moved to shared memory and read by all of them."""

    def __init__(self, job: Job, learner: Learner, count: int):
        context = multiprocessing.get_context("spawn")
        for weight in learner.all_weights():
            weight.data.share_memory_()
        shared = [weight.data for weight in learner.all_weights()]
        total = sum(weight.numel() for weight in learner.weights(job.phase))
        self.gradients = [torch.zeros(total).share_memory_() for _ in range(count)]
        self.next_micro = context.Value("i", 0)
        self.steps = [context.Queue() for _ in range(count)]
        self.results = context.Queue()
        self.processes = [
            context.Process(target=_work, daemon=True,
                            args=(job, shared, gradient, self.next_micro, steps, self.results))
            for gradient, steps in zip(self.gradients, self.steps)]
        for process in self.processes:
            process.start()

    def gradient(self, step: int) -> tuple[torch.Tensor, list[dict]]:
        """The mean gradient of the step, flat in the order of the weights, and what each micro-batch measured."""
        self.next_micro.value = 0
        for steps in self.steps:
            steps.put(step)
        stats: list[dict] = []
        waiting = len(self.processes)
        while waiting:
            try:
                stats += self.results.get(timeout=ALIVE_CHECK_SECONDS)
                waiting -= 1
            except queue.Empty:
                if not all(process.is_alive() for process in self.processes):
                    raise SystemExit("a worker process has died") from None
        return sum(self.gradients[1:], self.gradients[0]), stats

    def stop(self) -> None:
        for steps in self.steps:
            steps.put(None)
        for process in self.processes:
            process.join(timeout=ALIVE_CHECK_SECONDS)
