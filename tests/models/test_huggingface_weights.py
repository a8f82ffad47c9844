"""Published weights are found on the disk or on the hub, and taken over for other classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from small_huggingface import pictures, small_architecture, small_detector

from tilth.errors import DataError, TrainingError
from tilth.models.huggingface_architecture import MODEL_TYPES, read_published
from tilth.models.huggingface_detector import HuggingFaceDetector
from tilth.models.huggingface_weights import (
    carry_over,
    num_classes_of,
    published_path,
    published_state,
    refuse_other_network,
    save_published,
)

VARIANTS = sorted(MODEL_TYPES)
NAMES = ("person", "cat", "dog")
SHARED_HEADS = small_architecture("deim-v2").config | {"share_bbox_head": True}


def with_heads_apart(variant: str) -> HuggingFaceDetector:
    """The heads of each layer have values of their own, as after training."""
    model = small_detector(variant)
    with torch.no_grad():
        for parameter in model.network.model.decoder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def answers(model: HuggingFaceDetector) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(model.decode(model.eval()(pictures())))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_folder_gives_the_same_answers_here_and_in_the_library(
    variant: str, tmp_path: Path
) -> None:
    model = with_heads_apart(variant)
    folder = tmp_path / "published"
    save_published(model, NAMES, folder)
    architecture, names = read_published(folder)
    assert tuple(names) == NAMES

    again = HuggingFaceDetector(architecture, 3)
    report = carry_over(again, published_state(folder), [0, 1, 2], class_names=NAMES)
    assert not report.skipped
    assert report.classes == NAMES
    assert not torch.equal(*(head.weight for head in again.network.model.decoder.class_embed))
    torch.testing.assert_close(answers(again), answers(model))

    theirs = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    with torch.no_grad():
        said, own = theirs(pictures()), model.network(pixel_values=pictures())
    torch.testing.assert_close(said.logits, own.logits)
    torch.testing.assert_close(said.pred_boxes, own.pred_boxes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_classes_of_the_same_name_keep_their_scores(variant: str) -> None:
    old = with_heads_apart(variant)
    new = small_detector(variant, num_classes=2, seed=5)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    report = carry_over(new, old.state_dict(), [None, 0], class_names=("tractor", "person"))
    assert not report.skipped
    assert report.classes == ("person",)
    # The places that are looked at are chosen by the scores of all classes; one layer is compared.
    for name in ("model.enc_score_head.weight", "model.decoder.class_embed.0.bias"):
        after, source = new.state_dict()[f"network.{name}"], old.state_dict()[f"network.{name}"]
        torch.testing.assert_close(after[1], source[0])
        torch.testing.assert_close(after[0], before[f"network.{name}"][0])
    nothing = "network.model.denoising_class_embed.weight"
    torch.testing.assert_close(new.state_dict()[nothing][-1], old.state_dict()[nothing][-1])
    refuse_other_network(new, report, where="here")


def test_without_a_common_class_the_scores_start_anew() -> None:
    old = with_heads_apart("d-fine")
    new = small_detector("d-fine", num_classes=2, seed=5)
    report = carry_over(new, old.state_dict(), [None, None], class_names=("a", "b"))
    assert report.classes == ()
    assert {skipped.name.rpartition(".")[0] for skipped in report.skipped} >= {
        "network.model.enc_score_head",
        "network.model.decoder.class_embed.0",
    }
    assert all(skipped.shape[0] == 3 for skipped in report.skipped)
    refuse_other_network(new, report, where="here")


def test_weights_of_another_network_are_refused() -> None:
    model = small_detector("d-fine")
    report = carry_over(model, small_detector("rt-detr").state_dict(), [0, 1, 2])
    with pytest.raises(TrainingError, match="another network") as caught:
        refuse_other_network(model, report, where="there")
    assert caught.value.where == "there"


def test_a_tensor_with_two_names_is_loaded_by_one() -> None:
    shared = replace(small_architecture("deim-v2"), config=SHARED_HEADS)
    torch.manual_seed(0)
    old, new = HuggingFaceDetector(shared, 2), HuggingFaceDetector(shared, 2)
    second = "network.model.decoder.bbox_embed.1"
    state = {k: v for k, v in old.state_dict().items() if not k.startswith(second)}
    assert len(state) < len(old.state_dict())
    refuse_other_network(new, carry_over(new, state, [0, 1]), where="here")
    torch.testing.assert_close(new.state_dict(), old.state_dict())


def test_the_weights_say_how_many_classes_they_score() -> None:
    assert num_classes_of(small_detector("rt-detr", num_classes=7).state_dict()) == 7
    assert num_classes_of({}) == 0


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="no weights in safetensors") as caught:
        published_state(tmp_path)
    assert "pytorch_model.bin" in str(caught.value.got)
    assert "config.json" in str(caught.value.fix)


def test_weights_that_are_broken_or_not_whole(tmp_path: Path) -> None:
    save_published(small_detector("d-fine"), NAMES, tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    save_file({name: whole[name] for name in list(whole)[:-5]}, file, metadata={"format": "pt"})
    with pytest.raises(TrainingError, match="another network than their config") as caught:
        published_state(tmp_path)
    assert "5 tensors are missing" in str(caught.value.got)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DataError, match="cannot be read"):
        published_state(tmp_path)


class Hub:
    """Stands in for the hub's client: what is cached, what can be fetched, and what was asked."""

    def __init__(self, *, cached: Path | None = None, online: Path | Exception) -> None:
        self.cached, self.online = cached, online
        self.asked: list[dict[str, Any]] = []

    def snapshot_download(self, name: str, **options: Any) -> str:
        self.asked.append({"name": name, **options})
        if options.get("local_files_only"):
            if self.cached is None:
                raise LocalEntryNotFoundError("not cached")
            return str(self.cached)
        if isinstance(self.online, Exception):
            raise self.online
        return str(self.online)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    def install(**options: Any) -> Hub:
        stand_in = Hub(**options)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in.snapshot_download)
        return stand_in

    return install


def test_what_lies_on_the_disk_comes_first(tmp_path: Path, hub) -> None:
    asked = hub(online=RuntimeError("no network in this test")).asked
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert published_path("owner/name", root=tmp_path) == tmp_path / "owner" / "name"
    assert published_path(str(tmp_path), root=Path("/")) == tmp_path
    assert asked == []


def test_the_hubs_cache_is_used_without_a_connection(tmp_path: Path, hub) -> None:
    (tmp_path / "model.safetensors").touch()
    asked = hub(cached=tmp_path, online=OSError("offline")).asked
    assert published_path("owner/name", root=tmp_path) == tmp_path
    assert [one["local_files_only"] for one in asked] == [True]


def test_a_cache_without_weights_is_filled(tmp_path: Path, hub) -> None:
    for folder in ("cached", "online"):
        (tmp_path / folder).mkdir()
    client = hub(cached=tmp_path / "cached", online=tmp_path / "online")
    assert published_path("owner/name@v1.0", root=tmp_path) == tmp_path / "online"
    assert [one["revision"] for one in client.asked] == ["v1.0", "v1.0"]
    # No pickles, no code.
    assert all(
        pattern.endswith((".json", ".safetensors")) for pattern in client.asked[1]["allow_patterns"]
    )


@pytest.mark.parametrize(
    "failure",
    [
        LocalEntryNotFoundError("Got: ConnectError: no route\nmore lines"),
        huggingface_hub.errors.OfflineModeIsEnabled("offline mode is enabled"),
        ConnectionError("refused"),
        ValueError("not a name"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_without_the_hub_the_error_says_what_to_do(failure, tmp_path: Path, hub) -> None:
    hub(online=failure)
    with pytest.raises(DataError, match="the hub does not give it") as caught:
        published_path("owner/name", root=tmp_path)
    assert caught.value.got == str(failure).splitlines()[0]
    assert "hf download owner/name --local-dir" in str(caught.value.fix)


def test_the_real_client_says_so_too_where_nothing_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="the hub does not give it"):
        published_path("owner/name-that-is-not-cached", root=tmp_path)


@pytest.mark.parametrize(
    "source", ["nowhere", "../no/such/folder", "/no/such/folder", "a/b/c", "a/b.json"]
)
def test_a_path_that_is_not_there_is_not_looked_up(source: str, tmp_path: Path, hub) -> None:
    asked = hub(online=RuntimeError("no network in this test")).asked
    with pytest.raises(DataError, match="no such detector"):
        published_path(source, root=tmp_path)
    assert asked == []


def test_the_hubs_errors_are_operating_system_errors() -> None:
    # What `published_path` relies on.
    assert issubclass(RepositoryNotFoundError, OSError)
