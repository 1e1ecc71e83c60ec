import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ssl_transfer import files
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder, folder, load_encoder, save_encoder
from ssl_transfer.encoders.card import card

FILES = {"model.safetensors", "config.json", "README.md", "golden.safetensors"}
KEY = "network.stem.0.weight"


def trained(spec: EncoderSpec | None = None) -> Encoder:
    """An encoder whose weights and statistics are not those of its birth."""
    torch.manual_seed(1)
    encoder = build_encoder(
        spec or EncoderSpec("small_resnet", {"widths": [8, 16]}), (3, 16, 16), [0.1, 0.3, 0.7], [0.2] * 3
    )
    encoder.train()(torch.rand(8, 3, 16, 16))
    return encoder


def save(path: Path, encoder: Encoder | None = None) -> Path:
    metrics = {"val/knn_accuracy": 0.875, "val/loss": float("nan")}
    data = {"source": "photos", "counts": {"train": 90, "val": 10}, "classes": None}
    return save_encoder(encoder or trained(), path, objective="SimCLR", data=data, metrics=metrics)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "encoder")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "encoder"))


@pytest.mark.parametrize(
    "spec",
    [
        EncoderSpec(),
        EncoderSpec(pool=2),
        EncoderSpec(bottleneck=6),
        EncoderSpec("shufflenet_v2_x0_5"),
    ],
)
def test_round_trip_to_the_bit(spec: EncoderSpec, tmp_path: Path) -> None:
    encoder = trained(spec)
    again = load_encoder(save(tmp_path / "encoder", encoder))
    assert encoder.training and not again.training
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
    assert torch.equal(again.mean, encoder.mean) and torch.equal(again.std, encoder.std)
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(again(images), encoder.eval()(images))
    assert (again.spec, again.shape, again.feature_dim) == (encoder.spec, encoder.shape, encoder.feature_dim)


def test_contents(saved: Path) -> None:
    assert {file.name for file in saved.iterdir()} == FILES
    assert [file.name for file in saved.parent.iterdir()] == ["encoder"]
    config = json.loads((saved / "config.json").read_text())
    assert config["pretrained_cfg"]["input_size"] == [3, 16, 16]
    assert config["pretrained_cfg"]["mean"] == pytest.approx([0.1, 0.3, 0.7])
    assert (config["objective"], config["num_features"], config["data"]["source"]) == ("SimCLR", 16, "photos")
    assert config["metrics"] == {"val/knn_accuracy": 0.875, "val/loss": None}
    text = (saved / "README.md").read_text()
    assert 'ssl_transfer.load_encoder("encoder")' in text
    assert "| val/knn_accuracy | 0.875 |" in text and "train: 90, val: 10" in text
    assert card(config, "encoder") == text
    golden = load_file(saved / "golden.safetensors")
    assert golden["images"].dtype == torch.uint8 and golden["features"].shape == (4, 16)


def test_golden_images_are_the_same_everywhere_and_not_blank() -> None:
    images = folder.golden_images((3, 8, 8))
    assert torch.equal(images, folder.golden_images((3, 8, 8)))
    assert images.float().std() > 20


def test_saving_and_loading_leave_the_random_state(tmp_path: Path) -> None:
    encoder = trained()
    state = torch.get_rng_state()
    load_encoder(save(tmp_path / "encoder", encoder))
    assert torch.equal(torch.get_rng_state(), state)


def test_loading_never_unpickles(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("unpickled")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)
    assert load_encoder(saved).feature_dim == 16


def refused(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_encoder(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "golden.safetensors"])
@pytest.mark.parametrize("position", [0, 3, 40, -1, -101])
def test_a_flipped_bit_is_found(copy: Path, name: str, position: int) -> None:
    content = bytearray((copy / name).read_bytes())
    content[position] ^= 1
    (copy / name).write_bytes(content)
    refused(copy, "changed since it was written|damaged|key|must hold")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "golden.safetensors"])
def test_a_missing_or_truncated_file_is_found(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    refused(copy, "damaged|no JSON|changed since it was written")
    (copy / name).unlink()
    refused(copy, f"lacks {name}")


def _drop(state: dict[str, torch.Tensor]) -> None:
    del state[KEY]


def _add(state: dict[str, torch.Tensor]) -> None:
    state["stray"] = torch.zeros(1)


def _reshape(state: dict[str, torch.Tensor]) -> None:
    state[KEY] = state[KEY][:4].clone()


def _halve(state: dict[str, torch.Tensor]) -> None:
    state[KEY] = state[KEY].half()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, f"key '{KEY}' is missing"),
        (_add, "key 'stray' is unexpected"),
        (_reshape, rf"key '{KEY}' has shape \(4, 3, 3, 3\) instead of \(8, 3, 3, 3\)"),
        (_halve, f"key '{KEY}' has type torch.float16"),
    ],
)
def test_wrong_keys_are_named(copy: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str) -> None:
    state = load_file(copy / "model.safetensors")
    change(state)
    save_file(state, copy / "model.safetensors")
    refused(copy, message)


def edit(path: Path, **changes: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


def test_the_golden_pair_stands_behind_the_checksums(copy: Path) -> None:
    state = load_file(copy / "model.safetensors")
    state[KEY] = state[KEY] * 1.1
    save_file(state, copy / "model.safetensors")
    sums = {name: folder.sha256(copy / name) for name in ("model.safetensors", "golden.safetensors")}
    edit(copy, sha256=sums)
    refused(copy, "has changed since it was written: it no longer gives its golden features")


def test_an_altered_normalisation_is_found(copy: Path) -> None:
    settings = json.loads((copy / "config.json").read_text())["pretrained_cfg"]
    edit(copy, pretrained_cfg=settings | {"mean": [0.2, 0.3, 0.7]})
    refused(copy, "differ in mean")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "no encoder folder"),
        ({"format_version": 9}, "has format 9, this ssl_transfer reads 1"),
        ({"encoder": None}, "tells no encoder"),
        ({"encoder": {"nmae": "small_resnet"}}, "tells no encoder"),
        ({"encoder": {"name": "resnt"}}, "cannot be rebuilt"),
        ({"pretrained_cfg": {}}, "cannot be rebuilt: config.json lacks 'input_size'"),
        ({"encoder": {"name": "os.system", "arguments": {"command": "false"}}}, r'allow it by trust=\["os"\]'),
        ({"encoder": {"name": "torchvision.datasets.utils.download_url"}}, "only network classes of torchvision"),
        ({"encoder": {"name": "torchvision.models.resnet.nn.Linear"}}, "only network classes of torchvision"),
        ({"encoder": {"name": "timm.create_model", "arguments": {"checkpoint_path": "x"}}}, "to fetch weights"),
        ({"encoder": {"name": "timm.create_model", "arguments": {"model_name": "hf-hub:a/b"}}}, "to fetch weights"),
    ],
)
def test_a_wrong_config_is_refused(copy: Path, changes: dict[str, Any], message: str) -> None:
    edit(copy, **changes)
    refused(copy, message)


def test_nothing_is_imported_before_trust(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sly_package.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    edit(copy, encoder={"name": "sly_package.Net"})
    refused(copy, "sly_package")


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none", "does not exist")
    refused(tmp_path, "lacks config.json")


def test_only_an_encoder_folder_is_replaced(tmp_path: Path) -> None:
    path = save(tmp_path / "encoder")
    other = build_encoder(EncoderSpec("small_resnet", {"widths": [4, 8]}), (3, 16, 16), [0.5] * 3, [0.5] * 3)
    assert load_encoder(save(path, other)).feature_dim == 8
    assert [file.name for file in tmp_path.iterdir()] == ["encoder"]
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.jpg").write_text("mine")
    with pytest.raises(ValueError, match="is no encoder folder: remove it or choose another path"):
        save(photos)
    assert (photos / "one.jpg").read_text() == "mine"


@pytest.mark.parametrize("step", ["save_file", "card", "_swap"])
def test_a_failed_write_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = save(tmp_path / "encoder")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files if step == "_swap" else folder, step, fail)
    with pytest.raises(OSError, match="no space left"):
        save(path)
    monkeypatch.undo()
    assert load_encoder(path).feature_dim == 16
    assert [file.name for file in tmp_path.iterdir()] == ["encoder"]


def test_a_folder_is_an_encoder_for_building(saved: Path) -> None:
    encoder = build_encoder(str(saved), (3, 32, 32), [0.5] * 3, [0.5] * 3)
    assert encoder.mean.tolist() == pytest.approx([0.1, 0.3, 0.7])
    assert encoder.shape == (3, 32, 32)
    with pytest.raises(ValueError, match="reads 3 channels, the images have 1"):
        build_encoder(str(saved), (1, 16, 16), [0.5], [0.5])


def test_a_spec_that_no_longer_tells_the_network_is_not_saved(tmp_path: Path) -> None:
    encoder = trained()
    encoder.network.stem[1].eps = 10.0  # type: ignore[index]
    with pytest.raises(ValueError, match="rebuilt from its spec it gives other features"):
        save(tmp_path / "encoder", encoder)
