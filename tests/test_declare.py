"""Options: a value out of its range is refused when they are put together, by its name on the command line."""

import pickle
from pathlib import Path

import pytest

from rscd.core.errors import UsageError
from rscd.options.batch import BatchConfig
from rscd.options.declare import declared, names
from rscd.options.detect import DetectConfig, PolygonsConfig
from rscd.options.pair import InspectConfig
from rscd.options.training import EvaluateConfig, TrainConfig

PAIR = {"before": Path("b.tif"), "after": Path("a.tif"), "output": Path("c.gpkg")}

GROUPS = (DetectConfig, InspectConfig, PolygonsConfig, BatchConfig, TrainConfig, EvaluateConfig)


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        (DetectConfig, {"threshold": 0.0}, "--threshold 0.0 - use a probability above 0, at most 1"),
        (DetectConfig, {"threshold": float("nan")}, "--threshold nan"),
        (DetectConfig, {"window": 100}, "--window 100 - use a multiple of 32 px, e.g. 96"),
        (DetectConfig, {"window": 64, "overlap": 64}, "--overlap 64 - use 0 to 63 px"),
        (DetectConfig, {"overlap": -1}, "--overlap -1"),
        (DetectConfig, {"batch_size": 0}, "--batch-size 0 - use auto, or 1 to 4096"),
        (DetectConfig, {"device": "cuda:x"}, "--device 'cuda:x' - use auto, cpu or cuda:N"),
        (DetectConfig, {"precision": "fp8"}, "--precision fp8 - use auto, fp32 or bf16"),
        (DetectConfig, {"simplify_m": float("inf")}, "--simplify inf - use 0 or more"),
        (DetectConfig, {"align": "on"}, "--align on - use auto or off"),
        (DetectConfig, {"match": "auto"}, "--match auto - use on or off"),
        (DetectConfig, {"bad_blocks": "skip"}, "--bad-blocks skip - use stop or mask"),
    ],
)
def test_detect_refuses(config, options, words):
    with pytest.raises(UsageError) as caught:
        config(**PAIR | options)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PolygonsConfig(Path("p.tif"), Path("c.gpkg"), min_area_m2=-1.0), "--min-area -1.0"),
        (lambda: EvaluateConfig((), split="some"), "--split some - use train, val or test"),
        (lambda: EvaluateConfig((), gsd_m=-1.0), "--gsd -1.0"),
        (lambda: TrainConfig((), output=Path("m"), encoder="resnet"), "--encoder resnet"),
        (lambda: TrainConfig((), output=Path("m"), crop=100), "--crop 100 - use a multiple of 32, at least 64"),
        (lambda: TrainConfig((), output=Path("m"), tau=2.0), "--tau 2.0 - use 0 to 1"),
        (lambda: BatchConfig(Path("o"), DetectConfig(**PAIR)), "no pairs given, or given twice"),
        (lambda: BatchConfig(Path("o"), DetectConfig(**PAIR), Path("m.csv"), Path("a"), Path("b")), "no pairs"),
        (lambda: BatchConfig(Path("o"), DetectConfig(**PAIR), Path("m.csv"), retries=-1), "--retries -1"),
    ],
)
def test_other_commands_refuse(make, words):
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value).startswith(words)


def test_errors_speak_python_in_python_and_the_command_line_on_it():
    error = UsageError("exists already", path="c.gpkg", remedy="add --overwrite to replace it")
    assert str(error) == "c.gpkg: exists already - add overwrite=True to replace it"
    assert error.line == "c.gpkg: exists already - add --overwrite to replace it"
    assert pickle.loads(pickle.dumps(error)).line == error.line


def test_what_is_no_option_is_refused():
    with pytest.raises(UsageError, match="DetectConfig has no option 'thresold'"):
        DetectConfig(**PAIR, thresold=0.5)


def test_a_value_of_another_type_is_refused_and_texts_become_paths():
    with pytest.raises(UsageError, match="--window big - give a valid integer"):
        DetectConfig(**PAIR, window="big")
    with pytest.raises(UsageError, match="no AFTER - give it"):
        DetectConfig("b.tif")
    config = DetectConfig("b.tif", "a.tif", output="c.gpkg", bands=[3, 2, 1])
    assert (config.before, config.output, config.bands) == (Path("b.tif"), Path("c.gpkg"), (3, 2, 1))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_option_says_what_it_does(group):
    assert all(option.words for option in declared(group))
    assert len({option.flag for option in declared(group) if option.option.typed}) == sum(
        option.option.typed for option in declared(group)
    )


def test_declarations_say_what_results_depend_on():
    key = set(names(DetectConfig, changes=("strips", "rounding"), resolved=False))
    assert {"bands", "align", "match", "tta", "mask_values", "sidecars"} <= key
    assert not key & {"threshold", "min_area_m2", "title", "output", "overwrite", "before", "device", "model"}
    weights = set(names(TrainConfig, changes=("weights",), resolved=False))
    assert {"rate", "loss", "crops", "seed", "encoder", "presence"} <= weights
    assert not weights & {"output", "threads", "save_every", "name", "init", "micro_batch", "limit_minutes"}
