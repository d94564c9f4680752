"""AdamW, or Muon with AdamW, on float32 master weights; the model itself computes in bfloat16, as it will in use."""

from concurrent.futures import ThreadPoolExecutor

import torch

WEIGHT_DECAY = 0.02
ADAM_BETAS = (0.9, 0.98)
MUON_MOMENTUM = 0.95
MUON_ITERATIONS = 4
MAX_GRADIENT_NORM = 1.0


class MasterOptimiser:
    """With `muon`: Muon for the matrices inside the layers, AdamW for embeddings, biases, norms and the patch filter.

    Muon's arithmetic per step grows with the weights, not the batch: worth it for the tower and its large batches.
    Muon is scaled to AdamW's update size, so that one learning rate serves both. Every matrix has its own Muon, so that
    threads (each on one core, for the reason given in workers.py) share the work.
    """

    def __init__(self, modules: list[torch.nn.Module], threads: int, muon: bool):
        named = [item for module in modules for item in module.named_parameters() if item[1].requires_grad]
        self.weights = [weight for _, weight in named]
        self.masters = [w.detach().float().clone().requires_grad_(True) for w in self.weights]
        hidden, tables, vectors = [], [], []
        for (name, _), master in zip(named, self.masters):
            outer = not muon or master.ndim != 2 or "embed" in name or name.startswith("out.")
            (vectors if master.ndim < 2 else tables if outer else hidden).append(master)
        hidden.sort(key=lambda master: -master.numel())
        muons = [torch.optim.Muon([master], momentum=MUON_MOMENTUM, weight_decay=WEIGHT_DECAY, ns_steps=MUON_ITERATIONS,
                                  adjust_lr_fn="match_rms_adamw") for master in hidden]
        adam = torch.optim.AdamW([{"params": tables, "weight_decay": WEIGHT_DECAY},
                                  {"params": vectors, "weight_decay": 0.0}], betas=ADAM_BETAS, fused=True)
        self.optimisers = [*muons, adam]
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    @torch.no_grad()
    def step(self, gradient: torch.Tensor, learning_rate: float) -> float:
        """Applies a flat float32 gradient to the weights; returns its norm before clipping."""
        parts = torch.split(gradient, [master.numel() for master in self.masters])
        for master, part in zip(self.masters, parts):
            master.grad = part.view_as(master)
        norm = torch.nn.utils.clip_grad_norm_(self.masters, MAX_GRADIENT_NORM)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
        list(self.pool.map(lambda optimiser: optimiser.step(), self.optimisers))
        for weight, master in zip(self.weights, self.masters):
            weight.copy_(master)
        return float(norm)

    def state_dict(self) -> dict:
        return {"masters": self.masters, "optimisers": [optimiser.state_dict() for optimiser in self.optimisers]}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        for master, saved in zip(self.masters, state["masters"], strict=True):
            master.copy_(saved)
        for weight, master in zip(self.weights, self.masters):
            weight.copy_(master)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
