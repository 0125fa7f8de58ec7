"""Runs the training benchmark as a whole on the null GPU, for what it says; its numbers mean nothing here."""

from inside import answer, arguments, illegal

from benchmarks.training import measure
from benchmarks.training_report import lines
from benchmarks.training_setting import TrainingBenchmark

if __name__ == "__main__":
    (contestants,) = arguments()
    result = measure(
        TrainingBenchmark(
            *("wrn-10-1", 2, 8, "cuda"), repetitions=1, seconds=0.01, end_to_end=False, contestants=contestants
        )
    )
    answer({"result": result, "lines": lines(result), "illegal": illegal()})
