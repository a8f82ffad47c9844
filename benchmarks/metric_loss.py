"""A learned metric as a loss: three slow metrics, after equal steps of four losses.

The metrics: the Hausdorff distance of masks (`metric_loss_masks`), the edit distance of recognised
strings (`metric_loss_strings`) and PESQ of speech (`metric_loss_speech`). The losses (arms), all
from the same weights, on the same batches, with the same optimiser and number of steps:

    proxy               the ordinary loss, as before: the control
    frozen              a surrogate of the metric, fitted beforehand, alone
    refreshed           the surrogate alone, which goes on learning from outputs of the moment
    refreshed_anchored  the same beside the ordinary loss
    exploited           of masks alone: as frozen, fitted to outputs of the starting network only

The number of an arm is the true metric on fixed test examples after the last step; no step is
chosen by it. The tasks (noise, pretraining, learning rate) and the weight of the metric were set by
looking at seed 0, its test examples included, before the other seeds were run.

    python benchmarks/metric_loss.py --speech DIR                some 35 minutes; goes on if ended
    python benchmarks/metric_loss.py --speech DIR --only hd95/proxy pesq
    python benchmarks/metric_loss.py --quick --only hd95         one seed, no evidence

Each run is a JSON line under --work, taken up again as long as the code it follows from is the
same. The prompts of --speech and the Python of --peers: see `metric_loss_speech` and
`metric_loss_peers`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from evidence import ROOT, claim, write_result
from label_noise_data import mnist
from metric_loss_arms import ARMS, EXPLOITED, bank_of, surrogate_of_bank
from metric_loss_masks import masks_task
from metric_loss_speech import speech_digest, speech_task
from metric_loss_strings import strings_task
from metric_loss_tasks import SHARED_SOURCES, Finished, Places, ResultFile, Task, digest_of, trained
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from tilth.errors import StorageError

FOLDER = Path(__file__).resolve().parent
TASKS: dict[str, Callable[[Places], Task]] = {
    "hd95": masks_task,
    "edit_distance": strings_task,
    "pesq": speech_task,
}
"""Name in claims -> the task."""
OF_TASK = {"hd95": "masks", "edit_distance": "strings", "pesq": "speech"}
BETTER_THAN_PROXY = ("refreshed", "refreshed_anchored")

Run = tuple[str, str, int]  # task, arm, seed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/metric-loss"))
    parser.add_argument("--speech", type=Path, default=Path("/tmp/metric-loss/speech"))
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-peers/metrics/bin/python")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--only", nargs="*", default=[], metavar="TASK[/ARM]")
    parser.add_argument("--quick", action="store_true", help="one seed, no evidence")
    parser.add_argument("--fresh", action="store_true", help="forget the runs under --work")
    chosen = parser.parse_args()
    places = Places(
        data=chosen.data.absolute(), work=chosen.work, speech=chosen.speech, peers=chosen.peers
    )
    runs = chosen_runs(chosen.only, range(1 if chosen.quick else chosen.seeds))
    if not runs:
        parser.error(f"nothing is called {chosen.only}; tasks: {', '.join(TASKS)}")
    try:
        for name in {run[0] for run in runs}:
            TASKS[name](places)
    except StorageError as error:
        sys.exit(str(error))
    kept = ResultFile(chosen.work / "runs.jsonl")
    if chosen.fresh:
        kept.path.unlink(missing_ok=True)
    results = finished(runs, kept, places, processes=chosen.processes)
    show(results)
    if not (chosen.quick or chosen.only):
        record(results, {name: made(places) for name, made in TASKS.items()}, data_of(places))


def chosen_runs(only: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Task, arm and seed of each run."""
    return [
        (task, arm, seed)
        for seed in seeds
        for task in TASKS
        for arm in ARMS
        if arm != EXPLOITED or task == "hd95"
        if not only or task in only or f"{task}/{arm}" in only
    ]


def finished(
    runs: Sequence[Run], kept: ResultFile, places: Places, *, processes: int
) -> dict[Run, Finished]:
    """What each run gave; those that an earlier call has finished are not done again."""
    before = kept.read(sources_digest)
    results = {run: before[_key(run)] for run in runs if _key(run) in before}
    rest = [run for run in runs if run not in results]
    starts = sorted({(task, seed) for task, _, seed in rest}, key=lambda start: start[1])
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar, pool:
        line = bar.add_task("starting weights", total=len(starts))
        # All of them first: two arms at once would make the same ones twice.
        with_surrogate = {(task, seed) for task, arm, seed in rest if arm != "proxy"}
        making = [pool.submit(start_of, *at, places, at in with_surrogate) for at in starts]
        for made in as_completed(making):
            made.result()
            bar.advance(line)
        line = bar.add_task("training", total=len(runs), completed=len(results))
        started = {pool.submit(run_one, run, places): run for run in rest}
        for done in as_completed(started):
            run = started[done]
            results[run] = done.result()
            kept.add(_key(run), results[run], digest=sources_digest(_key(run)))
            bar.advance(line)
    return {run: results[run] for run in runs}


def _key(run: Run) -> tuple[str, ...]:
    return (run[0], run[1], str(run[2]))


def start_of(name: str, seed: int, places: Places, with_surrogate: bool) -> None:
    """Make what the arms of a seed start from: the weights, and the surrogate."""
    task = TASKS[name](places)
    task.checkpoints(seed)
    if with_surrogate:
        bank = bank_of(task, seed, work=places.work)
        surrogate_of_bank(task, seed, bank, work=places.work)


def run_one(run: Run, places: Places) -> Finished:
    """One task, arm and seed, in whichever process."""
    name, arm_name, seed = run
    task = TASKS[name](places)
    arm = ARMS[arm_name](task, seed, places.work)
    _, done = trained(task, arm, seed=seed)
    told = arm.told()
    return Finished(**(vars(done) | {"metric_calls": told["metric_calls"], "more": told}))


@cache
def sources_digest(key: tuple[str, ...]) -> str:
    """Of the files that a run follows from; the control does not follow from learned metrics."""
    task, arm, _ = key
    files = list(SHARED_SOURCES)
    files += [FOLDER / f"metric_loss_{OF_TASK[task]}.py"] if task in OF_TASK else []
    if arm != "proxy":
        losses = ROOT / "src" / "tilth" / "losses"
        files += [FOLDER / "metric_loss_arms.py"]
        files += sorted([*losses.glob("metric_*.py"), *losses.glob("surrogate_*.py")])
    return digest_of(files)


def data_of(places: Places) -> dict[str, str]:
    """What the evidence says of the data."""
    digits = mnist(places.data)
    assert places.speech is not None
    return {
        "name": f"{digits.name}; prompts of asterisk-core-sounds-en-wav (CC BY-SA 3.0)",
        "digest": f"{digits.digest} {speech_digest(places.speech)}",
    }


def by_arm(results: dict[Run, Finished], task: str) -> dict[str, list[Finished]]:
    """The seeds of each arm of a task, in their order."""
    found: dict[str, list[Finished]] = {}
    for (of_task, arm, _), result in results.items():
        if of_task == task:
            found.setdefault(arm, []).append(result)
    return found


def show(results: dict[Run, Finished]) -> None:
    """A table on standard output."""
    for task in TASKS:
        for arm, runs in by_arm(results, task).items():
            values = [run.after[task] for run in runs]
            others = [name for name in runs[0].after if name != task]
            print(
                f"{task:<14} {arm:<19} {_mean(runs, 'before', task):.3f} -> "
                f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})  "
                + "  ".join(f"{name} {_mean(runs, 'after', name):.3f}" for name in others)
                + f"  {1000 * statistics.mean(run.step_seconds for run in runs):.0f} ms a step"
                + f"  {statistics.mean(run.metric_calls for run in runs):.0f} calls"
            )


def record(results: dict[Run, Finished], tasks: dict[str, Task], data: dict[str, str]) -> None:
    """The claims: each arm's true metric, the mean over seeds."""
    claims = [
        _claim(tasks[name], arm, by_arm(results, name))
        for name in TASKS
        for arm in by_arm(results, name)
    ]
    learned = [run for (_, arm, _), run in results.items() if arm != "proxy"]
    if learned:
        claims += [step_claim(results), alarm_claim(results), exact_claim()]
    detail = {
        name: {
            "definition": tasks[name].definition,
            "steps": tasks[name].steps,
            "arms": {
                arm: {
                    "before": [run.before for run in runs],
                    "after": [run.after for run in runs],
                    "step_seconds": [round(run.step_seconds, 4) for run in runs],
                    "more": [run.more for run in runs],
                }
                for arm, runs in by_arm(results, name).items()
            },
        }
        for name in TASKS
    }
    write_result("metric_loss", claims, data=data, detail=detail)


def _claim(task: Task, arm: str, arms: dict[str, list[Finished]]) -> dict[str, Any]:
    """An arm; those that go on learning are to beat the control by more than its seeds differ."""
    runs, control = arms[arm], arms["proxy"]
    values = [run.after[task.name] for run in runs]
    gains = [gain(task, run, other) for run, other in zip(runs, control, strict=True)]
    others = ", ".join(
        f"{name} {_mean(runs, 'after', name):.3f}" for name in runs[0].after if name != task.name
    )
    note = (
        f"{task.definition}; {task.steps} steps from {_mean(runs, 'before', task.name):.3f}; "
        f"beside it {others}; {statistics.mean(run.metric_calls for run in runs):.0f} calls of "
        "the metric while training; "
    )
    for other in ("proxy", "frozen"):
        if arm not in ("proxy", other):
            pairs = zip(runs, arms[other], strict=True)
            over = [gain(task, *pair) for pair in pairs]
            note += f"better than {other} by {statistics.mean(over):.3f}, seed by seed "
            note += f"{min(over):.3f} to {max(over):.3f}; "
    return claim(
        f"{task.name}_{arm}",
        statistics.mean(values),
        unit=task.unit,
        goal=goal_of(task, control, gains) if arm in BETTER_THAN_PROXY else None,
        better=task.goal,
        spread=(min(values), max(values)),
        runs=len(runs),
        note=note + "spread: over seeds",
    )


def step_claim(results: dict[Run, Finished]) -> dict[str, Any]:
    """What the surrogate's value and gradient of a batch take, of what the metric takes."""
    ratios = {
        name: statistics.mean(
            run.more["surrogate_ms_per_batch"] / run.more["metric_ms_per_batch"]
            for (task, arm, _), run in results.items()
            if task == name and arm != "proxy"
        )
        for name in TASKS
    }
    slowest = max(TASKS, key=lambda name: _metric_ms(results, name))
    listed = ", ".join(
        f"{name} {ratio:.3g} (metric {_metric_ms(results, name):.1f} ms a batch)"
        for name, ratio in ratios.items()
    )
    return claim(
        "surrogate_step_vs_metric_call",
        ratios[slowest],
        unit="ratio",
        goal=1.0,
        spread=(min(ratios.values()), max(ratios.values())),
        runs=len(ratios),
        note=f"value and gradient of a batch by the surrogate over the metric's values alone, of "
        f"the slowest metric, {slowest}; {listed}; spread: over metrics",
    )


def _metric_ms(results: dict[Run, Finished], name: str) -> float:
    return statistics.mean(
        run.more["metric_ms_per_batch"]
        for (task, arm, _), run in results.items()
        if task == name and arm != "proxy"
    )


def alarm_claim(results: dict[Run, Finished]) -> dict[str, Any]:
    """Of the frozen runs whose surrogate was exploited, the share that raised the alarm.

    Exploited: what is believed of the training outputs became better from the first look to the
    last, the true metric of the test examples worse.
    """
    frozen = [run for run in results.items() if run[0][1] in ("frozen", EXPLOITED)]
    exploited = [(run, done) for run, done in frozen if is_exploited(run[0], done)]
    caught = [run for run, done in exploited if done.more["alarms"] > 0]
    honest = [run for run in frozen if run not in exploited]
    false_alarms = sum(done.more["alarms"] > 0 for _, done in honest)
    named = ", ".join(
        f"{task} {arm} seed {seed} ({done.before[task]:.2f} to {done.after[task]:.2f})"
        for (task, arm, seed), done in exploited
    )
    return claim(
        "exploit_alarm_caught",
        len(caught) / len(exploited) if exploited else 0.0,
        unit="share",
        goal=1.0,
        better="higher",
        runs=len(exploited),
        note="frozen runs in which belief became better and the test metric worse: "
        f"{named or 'none'}; of the {len(honest)} other frozen runs {false_alarms} raised one too",
    )


def is_exploited(task: str, done: Finished) -> bool:
    """Belief better, truth worse."""
    sign = -1 if task == "pesq" else 1
    first, last = done.more["watched"][0], done.more["watched"][-1]
    return sign * (last[2] - first[2]) < 0 < sign * (done.after[task] - done.before[task])


def exact_claim() -> dict[str, Any]:
    """How far differentiable twins of estimators are off, over all exact families."""
    errors = exact_errors()
    worst = max(errors, key=lambda name: errors[name][0])
    return claim(
        "surrogate_exact_max_abs",
        errors[worst][0],
        unit="absolute difference",
        goal=1e-5,
        runs=len(errors),
        note=f"{len(errors)} estimators; farthest: {worst}; gradients from central differences of "
        f"predict: {max(error for _, error in errors.values()):.1g}",
    )


def exact_errors() -> dict[str, tuple[float, float]]:
    """Estimator -> largest difference of outputs, and of gradients."""
    from metric_loss_estimators import measure

    return measure()


def gain(task: Task, run: Finished, control: Finished) -> float:
    """By how much the run is better than the control of its seed."""
    sign = 1 if task.goal == "higher" else -1
    return sign * (run.after[task.name] - control.after[task.name])


def goal_of(task: Task, control: Sequence[Finished], gains: Sequence[float]) -> float:
    """Better than the control by more than the gains of the seeds differ (standard deviation).

    Seed by seed: each has its own starting weights, which differ more than the arms do.
    """
    least = statistics.stdev(gains) if len(gains) > 1 else 0.0
    return _mean(control, "after", task.name) + (least if task.goal == "higher" else -least)


def _mean(runs: Sequence[Finished], when: str, name: str) -> float:
    return statistics.mean(getattr(run, when)[name] for run in runs)


if __name__ == "__main__":
    main()
