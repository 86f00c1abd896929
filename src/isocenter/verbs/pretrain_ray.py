"""The same training in the processes of Ray Train.

Ray starts the processes and joins them; what runs in each is `verbs.pretrain.run` itself, with the same configuration,
the same checkpoints and the same folder, which all of them must see. It is imported only when it is asked for.
"""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import Any

from isocenter.core.errors import CapabilityError, ConfigError, IsocenterError, TrainingError
from isocenter.verbs.pretrain import PretrainConfig, PretrainResult, run

__all__ = ["train_under_ray"]

_STORAGE = "ray"


def train_under_ray(config: PretrainConfig, *, parallel: bool) -> PretrainResult:
    """Train in the processes that Ray Train starts.

    Args:
        config: What to train; `ray` is the number of processes.
        parallel: Whether the method can train in several processes.

    Raises:
        CapabilityError: Ray is not installed.
        ConfigError: The method trains in one process only, or whatever the training itself finds wrong.
        TrainingError: A process died, or Ray reported nothing.
    """
    if find_spec("ray") is None:
        raise CapabilityError("--ray needs Ray: pip install 'isocenter[ray]'")
    if config.ray is not None and config.ray > 1 and not parallel:
        raise ConfigError(f"{config.config.name}: its method trains in one process; leave --ray out")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    import ray
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, logging_level="error")
    # Processes of Ray work in folders of their own: every path must say where it is.
    whole = config.model_copy(
        update={
            "config": config.config.absolute(),
            "out": config.out.absolute(),
            "data": config.data.absolute() if config.data is not None else None,
            "ray": None,
        }
    )
    storage = whole.out.parent / f".{whole.out.name}-{_STORAGE}"
    try:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"settings": whole.model_dump(mode="json")},
            scaling_config=ScalingConfig(
                num_workers=config.ray or 1, use_gpu=ray.cluster_resources().get("GPU", 0) >= (config.ray or 1)
            ),
            run_config=RunConfig(name=_STORAGE, storage_path=str(storage)),
        )
        try:
            metrics = trainer.fit().metrics
        except TrainingFailedError as error:
            raise _reason(error) from error
    finally:
        shutil.rmtree(storage, ignore_errors=True)  # a second copy of the weights
        if ours:
            ray.shutdown()
    if not metrics or "result" not in metrics:
        raise TrainingError("Ray Train reported nothing; the run's folder holds what there is: go on with --resume")
    done = PretrainResult.model_validate(metrics["result"])
    return done.model_copy(
        update={"weights": config.out / "weights" / done.weights.name, "curves": config.out / done.curves.name}
    )


def _work(settings: dict[str, Any]) -> None:
    """Train in one of the processes; Ray has joined them already."""
    from ray import train

    done = run(PretrainConfig.model_validate(settings["settings"]))
    # Without a checkpoint Ray keeps no metrics; the weights are what the run is for.
    mine = train.get_context().get_world_rank() == 0
    checkpoint = train.Checkpoint.from_directory(str(done.weights.parent)) if mine else None
    train.report({"result": done.model_dump(mode="json")}, checkpoint=checkpoint)


def _reason(error: Exception) -> IsocenterError:
    """Return what one of the processes said, from wherever Ray has put it."""
    failures = getattr(error, "worker_failures", {})
    for one in (*failures.values(), error):
        inner: BaseException | None = one
        while inner is not None:
            if isinstance(inner, IsocenterError):
                return inner
            inner = getattr(inner, "cause", None) or inner.__cause__
    line = (str(error).strip().splitlines() or [""])[0][:200]
    return TrainingError(f"Ray Train stopped ({type(error).__name__}: {line}); go on with --resume")
