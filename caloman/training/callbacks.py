"""What happens beside the optimization."""

import numpy as np
import pytorch_lightning as pl

from caloman.training.processes import listen_to_sigterm


class EpochSeeds(pl.Callback):
    """Makes an epoch a function of its weights, seed, number and rank, so that it can be repeated after a kill.

    Args:
        seed: of the stage.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        listen_to_sigterm()  # Lightning's own handler waits for the other devices, which may never answer

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
        pl.seed_everything(int(entropy.generate_state(1)[0]), verbose=False)
