"""What a run folder holds, read with plain Python: settings, learning curve, scores, weights.

python examples/read_a_run.py runs/quickstart
"""

import sys

import mixmo_fast as mf

run = mf.open_run(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart")

network = run.config.network
settings = "-".join(str(value) for key, value in network if key not in ("pretrained", "members"))
print(f"{run.folder.name}: {settings}, {network.members} subnetworks")

print("epoch  learning rate  train loss  test top-1")
for epoch in run.history:
    tested = "" if epoch.top1 is None else f"{100 * epoch.top1:8.2f} %"
    print(f"{epoch.epoch:5}  {epoch.learning_rate:13.5f}  {epoch.train_loss:10.3f}  {tested}")

if run.summary is None:
    sys.exit("the run has not ended yet")
last, best = run.summary.last, run.summary.best_on_test
print(f"last epoch {100 * last.top1:.2f} %, best on test {100 * best.top1:.2f} % after epoch {best.epoch}")
print(f"each subnetwork alone: {', '.join(f'{100 * top1:.2f} %' for top1 in last.member_top1)}")
print(f"trained in {run.summary.train_seconds:.0f} s at {run.summary.rows_per_second:,.0f} rows/s")

weights = run.network("best").state_dict()
print(
    f"{sum(tensor.numel() for tensor in weights.values()):,} numbers in {len(weights)} tensors of the best checkpoint"
)
