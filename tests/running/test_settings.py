from dataclasses import asdict

import pytest

from ssl_transfer import EncoderSpec
from ssl_transfer.running.settings import differing_settings, flat, settings_of


def model(**arguments):
    return {"model": {"class_path": "a.Model", "init_args": arguments}}


@pytest.mark.parametrize(
    ("first", "second", "differing"),
    [
        (model(lr=1), model(lr=1.0), ()),
        (model(views=None), model(views={"rotate": 6}), ("model.views",)),
        (model(arguments={}), model(arguments={"widths": [8]}), ("model.arguments.widths",)),
        (model(weights={"cat": 2}), model(weights={"dog": 2}), ("model.weights.cat", "model.weights.dog")),
        (model(views={"rotate": None}), model(views={}), ()),
        (model(encoder="vgg16"), model(encoder=asdict(EncoderSpec("vgg16"))), ()),  # a name, and what it stands for
        (model(encoder="vgg16"), model(encoder=asdict(EncoderSpec("vgg16", pool=2))), ("model.encoder.pool",)),
        (model(encoder="vgg16"), model(encoder="runs/a/encoder"), ("model.encoder",)),
        ({"model": {"class_path": "ssl_transfer.a.X"}}, {"model": {"class_path": "ssl_transfer.X"}}, ()),
        ({"model": {"class_path": "mine.X"}}, {"model": {"class_path": "ssl_transfer.X"}}, ("model",)),
        (
            model(method={"class_path": "x.DANN", "init_args": {"weight": 1.0, "ramp": 10}}),
            model(method={"class_path": "x.CDAN", "init_args": {"weight": 1.0, "width": 4096}}),
            ("model.method",),
        ),
        (
            model(method={"class_path": "x.DANN", "init_args": {"weight": 1.0}}),
            model(method={"class_path": "x.CDAN", "init_args": {"weight": 2.0}}),
            ("model.method", "model.method.weight"),
        ),
        ({"trainer": {"default_root_dir": "a", "enable_progress_bar": True}}, {"trainer": {}}, ()),
        (
            {"trainer": {"accelerator": "auto", "max_epochs": None}},
            {"trainer": {"max_epochs": 5}},
            ("trainer.max_epochs",),
        ),
        ({"trainer": {"accelerator": "auto"}}, {"trainer": {"gradient_clip_val": 0.1}}, ("trainer.gradient_clip_val",)),
        ({"monitor": {"queries": 20, "bank": 3000}}, {}, ("monitor.queries",)),
        ({"checkpoint": {"best_by": "last"}}, {"checkpoint": {"best_by": None}}, ("checkpoint.best_by",)),
    ],
)
def test_settings_that_differ(first, second, differing):
    told = [settings_of({"data": {"class_path": "Data"}, **each}) for each in (first, second)]
    assert differing_settings(told) == differing
    assert set(differing_settings(told[::-1])) == set(differing)


def test_a_class_has_one_name_in_a_terminal_and_in_python():
    for path in ("ssl_transfer.DANN", "ssl_transfer.downstream.adaptation.dann.DANN"):
        assert list(flat("method", {"class_path": path})) == [("method", "DANN")]
    assert list(flat("encoder", {"name": "vgg16", "pool": 2})) == [
        ("encoder", "vgg16"),
        ("encoder.name", "vgg16"),
        ("encoder.pool", 2),
    ]
