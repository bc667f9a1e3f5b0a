import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.non_finite import StopOnNonFinite
from tests.toy import Module, loader, trainer


def weights(module: pl.LightningModule) -> list[Tensor]:
    return [value.detach().clone() for value in module.parameters()]


def test_nan_stops_before_the_weights_change(tmp_path: Path) -> None:
    module = Module()
    steps: list[list[Tensor]] = []

    class Record(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            steps.append(weights(module))

    with pytest.raises(UserError) as caught:
        trainer(tmp_path, StopOnNonFinite(), Record()).fit(module, loader(damaged=(5,)))
    assert len(steps) == 3  # the damaged image is in the third batch
    assert all(torch.equal(now, before) for now, before in zip(weights(module), steps[-1], strict=True))
    message = str(caught.value)
    for word in ("nan", "epoch 0", "step 2", "train/ce nan", "image_4, image_5", "optim.lr", "gradient_clip_val"):
        assert word in message


def test_nan_in_an_accumulated_batch_stops_at_that_batch(tmp_path: Path) -> None:
    module = Module()
    before = weights(module)
    with pytest.raises(UserError, match="image_0, image_1"):
        trainer(tmp_path, StopOnNonFinite(), accumulate_grad_batches=4).fit(module, loader(damaged=(0,)))
    assert all(torch.equal(now, then) for now, then in zip(weights(module), before, strict=True))


def test_no_checkpoint_of_non_finite_weights(tmp_path: Path) -> None:
    """Finite losses whose gradients are not: the last step of the epoch is followed by a checkpoint."""
    stop, last = StopOnNonFinite(), ModelCheckpoint(dirpath=tmp_path / "checkpoints", filename="last")
    poisoned = Module(poison_gradients=True)
    with pytest.raises(UserError, match="weights are no longer finite at epoch 0"):
        trainer(tmp_path, stop, last, limit_train_batches=1).fit(poisoned, loader(), loader())
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_finite_training_is_left_alone(tmp_path: Path) -> None:
    pl.seed_everything(0)
    plain, watched = Module(), Module()
    watched.load_state_dict(plain.state_dict())
    trainer(tmp_path).fit(plain, loader())
    trainer(tmp_path, StopOnNonFinite()).fit(watched, loader())
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(watched), strict=True))


@pytest.mark.slow
def test_all_processes_stop_where_one_has_a_nan(tmp_path: Path) -> None:
    """Under DDP the damaged image reaches the second process alone; the first must not wait for it for ever."""
    script = tmp_path / "ddp.py"
    script.write_text(
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from fastfcn.non_finite import StopOnNonFinite\n"
        "from tests.toy import Module, loader, trainer\n"
        "class Recording(StopOnNonFinite):\n"
        "    def on_before_optimizer_step(self, trainer, *arguments):\n"
        "        try:\n"
        "            super().on_before_optimizer_step(trainer, *arguments)\n"
        "        except ValueError as error:\n"
        "            Path(sys.argv[1], f'{trainer.global_rank}.txt').write_text(str(error))\n"
        "            trainer.strategy.barrier()\n"  # a process that has not stopped would never come here
        "            raise\n"
        "run = trainer(Path(sys.argv[1]), Recording(), strategy='ddp_fork', devices=2)\n"
        "run.fit(Module(), loader(damaged=(5,)))\n"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, str(script), str(tmp_path), str(root), str(root / "src")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode != 0
    messages = sorted((tmp_path / f"{rank}.txt").read_text().split(":")[0] for rank in range(2))
    assert messages[0].startswith("The training loss is nan at epoch 0")
    assert messages[1].startswith("The training loss of another process is not finite at epoch 0")
