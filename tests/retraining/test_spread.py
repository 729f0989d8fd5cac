"""Two processes train one model."""

import subprocess
import sys

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from pytest_robust import Linf, retrain
from pytest_robust.conformance.networks import blobs, trained

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, seen = dist.get_rank(), []
found = retrain(
    trained(), blobs(400, seed=2), Linf("0.12"), epochs=6, batch_size=20, checkpoint=sys.argv[1],
    progress=lambda progress: seen.append(progress.step),
)
torch.save(found.model.state_dict(), f"{sys.argv[1]}/rank{rank}.pt")
assert seen == (list(range(1, 6 * 9 + 1)) if rank == 0 else []), seen
assert found.looks[-1].robust > found.looks[0].robust
dist.destroy_process_group()
"""


def test_under_torchrun_all_processes_end_with_the_same_weights(tmp_path):
    import torch

    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(tmp_path / "train.py"), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    one, other = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)
