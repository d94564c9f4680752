"""Trains the demo model in three phases: `tower`, `pictures`, `clips`. Each resumes from its own checkpoint.

    python -m demo_model.train --phase tower --work ~/demo-work --minutes 10
"""

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from .export import export
from .optimiser import MasterOptimiser
from .tokenizer import build_tokenizer
from .workers import Job, Learner, Workers

PREVIOUS = {"tower": None, "pictures": "tower", "clips": "pictures"}
WARM_UP_STEPS = {"tower": 100, "pictures": 100, "clips": 50}
LOG_EVERY_STEPS = 20


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phase", choices=PREVIOUS, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints, outside the repository")
    parser.add_argument("--log", type=Path, default=None, help="JSON lines are appended here")
    parser.add_argument("--steps", type=int, default=None, help="end after this many steps: reproducible")
    parser.add_argument("--minutes", type=float, default=None, help="end after this much training time instead")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--decay-from", type=float, default=1.0, help="share of the phase after which the rate falls")
    parser.add_argument("--decay-to", type=float, default=0.0, help="share of the rate left at the end")
    parser.add_argument("--clip-share", type=float, default=0.6, help="share of clip batches in the phase clips")
    parser.add_argument("--checkpoint-minutes", type=float, default=5)
    parser.add_argument("--export-to", type=Path, nargs="*", default=[], help="exported at every checkpoint")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--compile", action="store_true", help="compile the layers; needs a C++ compiler")
    arguments = parser.parse_args()
    if (arguments.steps is None) == (arguments.minutes is None):
        parser.error("give one of --steps and --minutes")
    return arguments


class Trainer:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.tokenizer = build_tokenizer()
        self.learner = Learner.build(arguments.phase)
        self.model, self.head = self.learner.model, self.learner.head
        self.step, self.elapsed_s, self.seen = 0, 0.0, {"patches": 0, "pictures": 0, "clips": 0, "questions": 0}
        self._load()
        self.job = Job(arguments.phase, arguments.batch // arguments.micro_batch, arguments.micro_batch,
                       arguments.clip_share, arguments.compile)
        self.workers = Workers(self.job, self.learner, arguments.workers)

    @property
    def checkpoint(self) -> Path:
        return self.arguments.work / f"{self.arguments.phase}.pt"

    def _load(self) -> None:
        """This phase's checkpoint, or else the weights (and between the last two the optimiser) of the one before."""
        modules, previous = self.learner.trained(self.arguments.phase), PREVIOUS[self.arguments.phase]
        source = self.checkpoint if self.checkpoint.exists() or previous is None \
            else self.arguments.work / f"{previous}.pt"
        state = torch.load(source, weights_only=True) if source.exists() else None
        if state is not None:
            self._take(state["model"], whole=source.stem != "tower")
            self.head.load_state_dict(state["head"])
        self.optimiser = MasterOptimiser(modules, self.arguments.workers, self.arguments.phase == "tower")
        if state is not None and (source == self.checkpoint or previous == "pictures"):
            self.optimiser.load_state_dict(state["optimiser"])
        if state is not None and source == self.checkpoint:
            self.step, self.elapsed_s, self.seen = state["step"], state["elapsed_s"], state["seen"]
            print(f"resumed {self.arguments.phase} at step {self.step}", flush=True)

    def _take(self, weights: dict, whole: bool) -> None:
        """All weights, or the tower's alone: the first phase trains nothing else."""
        prefix = "" if whole else "model.vision_tower."
        wanted = {name: value for name, value in weights.items() if name.startswith(prefix)}
        self.model.load_state_dict(wanted, strict=whole)

    def save(self) -> None:
        self.arguments.work.mkdir(parents=True, exist_ok=True)
        state = {"model": self.model.state_dict(), "head": self.head.state_dict(), "seen": self.seen,
                 "optimiser": self.optimiser.state_dict(), "step": self.step, "elapsed_s": self.elapsed_s}
        unfinished = self.checkpoint.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.rename(self.checkpoint)
        if self.arguments.phase != "tower":
            for folder in self.arguments.export_to:
                export(self.model, self.tokenizer, folder)

    def progress(self) -> float:
        if self.arguments.steps is not None:
            return self.step / self.arguments.steps
        return self.elapsed_s / 60 / self.arguments.minutes

    def learning_rate(self) -> float:
        """Linear warm-up, constant, linear decay."""
        arguments, progress = self.arguments, min(self.progress(), 1.0)
        scale = min(1.0, (self.step + 1) / WARM_UP_STEPS[arguments.phase])
        if progress > arguments.decay_from:
            done = (progress - arguments.decay_from) / (1 - arguments.decay_from)
            scale *= 1 - (1 - arguments.decay_to) * done
        return arguments.learning_rate * scale

    def one_step(self) -> list[dict]:
        gradient, stats = self.workers.gradient(self.step)
        for entry in stats:
            if not math.isfinite(entry["loss"]):
                raise SystemExit(f"the loss is {entry['loss']} at step {self.step}")
            self.seen[entry["kind"]] += self.job.micro_size
            self.seen["questions"] += entry["questions"]
        self.optimiser.step(gradient, self.learning_rate())
        return stats

    def run(self) -> None:
        window: list[dict] = []
        saved_s = self.elapsed_s
        while self.progress() < 1:
            started = time.monotonic()
            window += self.one_step()
            self.elapsed_s += time.monotonic() - started
            self.step += 1
            if self.step % LOG_EVERY_STEPS == 0:
                self.log(window)
                window = []
            if self.elapsed_s - saved_s > self.arguments.checkpoint_minutes * 60:
                saved_s = self.elapsed_s
                self.save()
        self.workers.stop()
        self.save()

    def log(self, window: list[dict]) -> None:
        by_kind = defaultdict(list)
        for entry in window:
            by_kind[entry["kind"]].append((entry["loss"], entry["accuracy"]))
        means = {kind: [round(float(v), 4) for v in np.mean(rows, 0)] for kind, rows in by_kind.items()}
        entry = {"phase": self.arguments.phase, "step": self.step, "elapsed_s": round(self.elapsed_s, 1),
                 "learning_rate": round(self.learning_rate(), 7), "seen": {k: v for k, v in self.seen.items() if v},
                 "loss": {k: v[0] for k, v in means.items()}, "accuracy": {k: v[1] for k, v in means.items()}}
        line = json.dumps(entry)
        print(line, flush=True)
        if self.arguments.log is not None:
            with self.arguments.log.open("a") as file:
                file.write(line + "\n")


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    Trainer(arguments).run()


if __name__ == "__main__":
    main()
