"""Downloads from a hub: what is taken, what is refused, and that nothing half-written is ever a model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import Unavailable, ValidationFailed
from shared.settings import get_settings
from tests.egress.servers import redirect, reply, serving
from tests.models.conftest import Shelf
from tests.models.hub_server import (
    HUB_HOST,
    INSIDE,
    PICKLE,
    SIGNATURE,
    TOKEN,
    FakeHub,
    ranged,
    safetensors,
    stalling,
    transformer,
    truncated,
)
from workers.models.faults import (
    DiskFull,
    HashMismatch,
    HubRefused,
    HubUnavailable,
    ModelTooLarge,
    NameTaken,
    UnsafeModel,
)
from workers.runtime.runner import InputRejected, JobStopped, RunnerError

BIG = 400_000  # numbers of a tensor: 1.6 MB, several reads


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def refused(shelf: Shelf, kind: type[RunnerError], words: str, name: str = "acme/bert", **more: Any) -> None:
    """The download fails so, nothing is left, and a good one works afterwards."""
    before = shelf.models()
    with pytest.raises(kind, match=words):
        shelf.download(name, **more)
    assert shelf.models() == before
    if not kind.retryable:
        assert shelf.left_over() == []
    shelf.hub.trouble.clear()
    shelf.hub.add("acme/good", transformer(9))
    assert shelf.download("acme/good", "good", force=True)["status"] == "completed"


def test_a_repository_becomes_a_folder_that_says_where_it_is_from(shelf: Shelf, hub: FakeHub) -> None:
    files = transformer(vocab__txt=b"a b c", pytorch_model__bin=PICKLE, modeling__py=b"import os", README__md=b"#")
    commit = hub.add("acme/bert", files, task="fill-mask").branches["main"]
    output = shelf.download("acme/bert", task=None)
    assert (output["status"], output["download_info"]["revision"]) == ("completed", commit)
    there = shelf.files("predict/m")
    record = json.loads(there.pop("atelier-source.json"))
    assert there == {name: files[name] for name in ("config.json", "model.safetensors", "vocab.txt")}
    assert {key: record[key] for key in ("family", "task", "source", "repository", "revision", "licence")} == {
        **{"family": "predict", "task": "fill-mask", "source": "huggingface", "repository": "acme/bert"},
        **{"revision": commit, "licence": "apache-2.0"},
    }
    assert [entry["name"] for entry in record["files"]] == sorted(there)
    assert shelf.left_over() == []
    assert shelf.job.steps[-1][1] == sum(map(len, there.values()))
    assert not hub.requests("pytorch_model") + hub.requests("modeling")


def test_the_token_goes_to_the_hub_alone(shelf: Shelf, hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.add("acme/bert", transformer())
    hub.trouble["api/models"] = [reply(b"", 500)]
    with pytest.raises(HubUnavailable):
        shelf.download("acme/bert")
    shelf.download("acme/bert")
    assert {headers.get("Authorization") for headers in hub.requests("/", hub.hub)} == {f"Bearer {TOKEN}"}
    assert [headers.get("Authorization") for headers in hub.requests("/", hub.files)] == [None]
    assert TOKEN not in caplog.text
    assert TOKEN not in str(shelf.files())


def test_the_same_commit_is_not_fetched_twice_but_a_broken_one_is(shelf: Shelf, hub: FakeHub) -> None:
    repository = hub.add("acme/bert", transformer(1))
    shelf.download("acme/bert")
    fetched = len(hub.requests("safetensors"))
    assert shelf.download("acme/bert")["status"] == "already_exists"
    assert len(hub.requests("safetensors")) == fetched
    path = shelf.models_dir / "predict/m/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert shelf.download("acme/bert")["status"] == "completed"
    assert path.read_bytes() == safetensors(1)
    repository.commit(transformer(2))
    assert shelf.download("acme/bert")["status"] == "completed"
    assert path.read_bytes() == safetensors(2)
    assert shelf.download("acme/bert", force=True)["status"] == "completed"
    hub.add("acme/other", transformer(3))
    refused(shelf, NameTaken, "acme/bert already", "acme/other")
    assert path.read_bytes() == safetensors(2)
    assert shelf.download("acme/other", force=True)["status"] == "completed"
    assert path.read_bytes() == safetensors(3)


def test_what_was_put_there_by_hand_is_never_replaced(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer())
    (shelf.models_dir / "predict" / "m").mkdir(parents=True)
    (shelf.models_dir / "predict" / "m" / "mine").touch()
    refused(shelf, NameTaken, "by hand", force=True)
    assert "mine" in shelf.files("predict/m")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", {"auto_map": {"AutoModel": "x.Y"}}, "config.json has the key auto_map"),
        ("config.json", {"a": [{"b": {"trust_remote_code": False}}]}, "trust_remote_code"),
        ("tokenizer_config.json", {"_attn_implementation_internal": "evil/kernel"}, "_attn_implementation_internal"),
        ("generation_config.json", {"custom_pipeline": "x"}, "custom_pipeline"),
        ("scheduler_config.json", {"_class_name": "MyScheduler"}, "class MyScheduler"),
        ("scheduler_config.json", {"_class_name": ["pipeline", "Mine"]}, "class"),
        ("added.json", b"[" * 200 + b"{}" + b"]" * 200, "nested too deeply"),
        ("added.json", b"\xff\xfe{}", "is not JSON"),
    ],
)
@pytest.mark.hostile("W")
def test_a_configuration_that_leads_to_code_is_refused(
    shelf: Shelf, hub: FakeHub, name: str, content: Any, words: str
) -> None:
    hub.add("acme/bert", transformer(numbers=BIG) | {name: content if isinstance(content, bytes) else encoded(content)})
    refused(shelf, UnsafeModel, words)
    assert not hub.requests("acme/bert@"), "weights are fetched after the configuration was looked at"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": PICKLE}, "pickles .pytorch_model.bin. are never loaded"),
        ({"config.json": b"{}", "model.gguf": b"GGUF"}, "never loaded"),
        ({"model.safetensors": safetensors()}, "no config.json"),
        (transformer() | {"../../evil.json": b"{}"}, "outside of itself"),
        (transformer() | {"/etc/cron.txt": b"x"}, "outside of itself"),
        (transformer() | {"a\\..\\b.json": b"{}"}, "outside of itself"),
        ({"config.json": b"{}", "model.safetensors": b"\x00" * 100}, "not a whole safetensors"),
        ({"config.json": b"{}", "model.safetensors": safetensors()[:-4]}, "not a whole safetensors"),
        ({"config.json": b"{}", "model.safetensors": PICKLE * 40}, "not a whole safetensors"),
        ({"config.json": b"{}", "model.safetensors": b"\xff" * 8 + b"{}"}, "not a whole safetensors"),
    ],
)
def test_what_cannot_be_loaded_safely_is_refused(
    shelf: Shelf, hub: FakeHub, files: dict[str, bytes], words: str
) -> None:
    hub.add("acme/bert", files)
    refused(shelf, UnsafeModel, words)
    assert not list(shelf.models_dir.parent.rglob("evil*"))


def test_a_connection_that_breaks_goes_on_where_it_was(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer(numbers=BIG))
    weights = safetensors(0, BIG)
    busy = [reply(b"", 500), reply(b"", 503, Retry_After="0"), reply(b"", 429)]
    hub.trouble["@model.safetensors"] = [truncated(weights, 700_000), *busy]
    shelf.download("acme/bert")
    assert shelf.files("predict/m")["model.safetensors"] == weights
    starts = [headers.get("Range") for headers in hub.requests("safetensors", hub.files)]
    assert starts[0] is None
    assert starts[-1] == "bytes=700000-"


def test_a_server_that_falls_silent_and_has_no_ranges_starts_over(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer(numbers=BIG))
    weights = safetensors(0, BIG)
    hub.trouble["@model.safetensors"] = [stalling(weights, 700_000), reply(weights)]
    shelf.download("acme/bert")
    assert shelf.files("predict/m")["model.safetensors"] == weights
    assert shelf.job.steps[-1][0] <= len(weights) + 100


def test_a_hub_that_stays_broken_fails_for_now_and_the_next_attempt_goes_on(shelf: Shelf, hub: FakeHub) -> None:
    repository = hub.add("acme/bert", transformer(1, BIG))
    weights = safetensors(1, BIG)
    hub.trouble["@model.safetensors"] = [truncated(weights, 500_000), *[reply(b"", 500)] * 9]
    with pytest.raises(HubUnavailable, match=r"model.safetensors.*500"):
        shelf.download("acme/bert")
    assert shelf.models() == []
    hub.trouble.clear()
    repository.commit(transformer(2, BIG))  # main moves on; what was begun is finished as it was
    hub.hub.asked.clear(), hub.files.asked.clear()
    assert shelf.download("acme/bert")["download_info"]["revision"] != repository.branches["main"]
    assert shelf.files("predict/m")["model.safetensors"] == weights
    assert [headers["Range"] for headers in hub.requests("safetensors", hub.files)] == ["bytes=500000-"]
    assert not hub.requests("api/models")


@pytest.mark.parametrize("how", ["longer", "shorter", "flipped", "wrong config"])
def test_wrong_bytes_are_fetched_once_more_and_then_refused(shelf: Shelf, hub: FakeHub, how: str) -> None:
    hub.add("acme/bert", transformer())
    good = safetensors()
    bad = {"longer": good + b"x", "shorter": good[:-1], "flipped": good[:-1] + bytes([good[-1] ^ 1])}.get(how)
    part = "@model.safetensors" if bad else "resolve/"
    answer = ranged(bad) if bad else reply(b'{"model_type": "evil"}  ')
    hub.trouble[part] = [answer]
    if bad:
        shelf.download("acme/bert")
        assert shelf.files("predict/m")["model.safetensors"] == good
    hub.trouble[part] = [answer] * 9
    refused(shelf, HashMismatch, "twice", name="acme/bert", force=True)


def test_a_hub_that_lies_about_size_or_hash_is_refused(shelf: Shelf, hub: FakeHub) -> None:
    repository = hub.add("acme/bert", transformer())
    repository.hashes["model.safetensors"] = "0" * 64
    refused(shelf, HashMismatch, "model.safetensors")
    repository.hashes.clear()
    repository.sizes["model.safetensors"] = 10
    refused(shelf, HashMismatch, "model.safetensors")
    repository.sizes["model.safetensors"] = -1
    refused(shelf, HubUnavailable, "cannot be read")


def test_redirects_to_where_nobody_may_go_are_refused(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer())
    with serving({"/secret": reply(safetensors())}, INSIDE, hub.hub.port) as inside:
        places = [f"http://{INSIDE}:{inside.port}/secret", "http://169.254.169.254/", "file:///etc/passwd"]
        for place in places:
            for part in ("api/models", "resolve/"):
                hub.trouble[part] = [redirect(place)]
                refused(shelf, HubRefused, "could not be fetched|must begin with http")
        loop = f"http://{HUB_HOST}:{hub.hub.port}/acme/bert/resolve/round"
        for part in ("api/models", "resolve/"):
            hub.trouble[part] = [redirect(loop)]
            hub.trouble["resolve/round"] = [redirect(loop)] * 9
            refused(shelf, HubRefused, "one address to the next" if part == "api/models" else "could not be fetched")
        assert inside.asked == []


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (reply(b"<html>"), HubUnavailable, "cannot be read"),
        (reply(b"[1]"), HubUnavailable, "cannot be read"),
        (reply(b'{"id": "acme/bert", "sha": "main", "siblings": []}'), HubUnavailable, "cannot be read"),
        (reply(b'{"id": "acme/bert", "siblings": [{"rfilename": 1}]}'), HubUnavailable, "cannot be read"),
        (reply(b"", 502), HubUnavailable, "status 502"),
        (reply(b"{}", 401), HubRefused, "not on the hub"),
        (reply(b"{}", 404, X_Error_Code="RepoNotFound"), HubRefused, "not on the hub"),
        (reply(b"{}", 404, X_Error_Code="RevisionNotFound"), HubRefused, "no such revision"),
        (reply(b"{}", 403, X_Error_Code="GatedRepo"), HubRefused, r"gated.*licence.*acme/bert"),
    ],
)
def test_what_the_hub_says_is_told_in_words(
    shelf: Shelf, hub: FakeHub, answer: Any, kind: type[RunnerError], words: str
) -> None:
    hub.add("acme/bert", transformer())
    hub.trouble["api/models"] = [answer]
    refused(shelf, kind, words)


def test_a_gated_repository_names_the_page_of_its_licence(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer(), gated=True)
    refused(shelf, HubRefused, f"gated: accept its licence at {hub.endpoint}/acme/bert")


def test_a_cancelled_download_leaves_nothing_and_a_drained_one_goes_on(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer(numbers=BIG))
    weights = safetensors(0, BIG)

    def midway(step: int, total: int) -> bool:
        return step > 300_000

    hub.trouble["@model.safetensors"] = [stalling(weights, 600_000)]
    with pytest.raises(JobStopped):
        shelf.download("acme/bert", stop=midway, reason="drained")
    assert shelf.left_over()
    assert hub.requests("safetensors", hub.files)[-1].get("Range") is None
    hub.trouble["@model.safetensors"] = [stalling(weights, 0)]  # silent, and stopped all the same
    with pytest.raises(JobStopped):
        shelf.download("acme/bert", stop=lambda *_: len(hub.requests("safetensors", hub.files)) == 2)
    assert hub.requests("safetensors", hub.files)[-1]["Range"].startswith("bytes=")
    assert (shelf.left_over(), shelf.models()) == ([], [])
    shelf.download("acme/bert")


def test_a_disk_without_room_and_a_model_that_is_too_large_are_told_before_anything_is_fetched(
    shelf: Shelf, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/bert", transformer())
    settings = get_settings()
    monkeypatch.setattr(settings, "models_reserve_bytes", 1 << 60)
    with pytest.raises(DiskFull, match=r"bytes free; 41\d\d are needed"):
        shelf.download("acme/bert")
    monkeypatch.setattr(settings, "models_reserve_bytes", 0)
    monkeypatch.setattr(settings, "max_model_bytes", 1000)
    with pytest.raises(ModelTooLarge, match="enable_large_model"):
        shelf.download("acme/bert")
    assert (shelf.left_over(), hub.requests("resolve/")) == ([], [])
    assert shelf.download("acme/bert", enable_large_model=True)["status"] == "completed"


def test_owners_that_are_not_listed_need_the_operators_word(
    shelf: Shelf, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("other/bert", transformer())
    with pytest.raises(ValidationFailed, match="other is not among ATELIER_HUB_OWNERS"):
        shelf.download("other/bert")
    with pytest.raises(ValidationFailed, match="ATELIER_HUB_EXPERIMENTAL is off"):
        shelf.download("other/bert", experimental=True)
    monkeypatch.setattr(get_settings(), "hub_experimental", True)
    assert shelf.download("other/bert", experimental=True)["status"] == "completed"
    with pytest.raises(ValidationFailed):
        shelf.download("other/bert")
    monkeypatch.setattr(get_settings(), "hub_owners", ("*",))
    assert shelf.download("other/bert")["status"] == "already_exists"


def test_offline_nothing_is_asked(shelf: Shelf, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("acme/bert", transformer())
    monkeypatch.setattr(get_settings(), "hub_offline", True)
    with pytest.raises(Unavailable, match="ATELIER_HUB_OFFLINE"):
        shelf.download("acme/bert")
    assert hub.requests("/") == []


def test_a_branch_and_a_commit_can_be_named(shelf: Shelf, hub: FakeHub) -> None:
    repository = hub.add("acme/bert", transformer(1))
    first = repository.branches["main"]
    second = repository.commit(transformer(2), "refs/pr/1")
    assert shelf.download("acme/bert", revision="refs/pr/1")["download_info"]["revision"] == second
    assert shelf.download("acme/bert", revision=first)["download_info"]["revision"] == first
    assert shelf.files("predict/m")["model.safetensors"] == safetensors(1)
    refused(shelf, HubRefused, "no such revision", revision="v9")


def offer(**changed: Any) -> dict[str, Any]:
    made = {"title": "Adding `safetensors` variant of this model", "num": 1, "author": {"name": "SFconvertbot"}}
    return made | {
        **{"status": "open", "repo": {"name": "acme/bert", "type": "model"}, "isPullRequest": True},
        **{"createdAt": "2026-01-01T00:00:00.000Z"},
        **changed,
    }


def test_where_there_are_pickles_alone_the_hubs_own_conversion_is_taken(shelf: Shelf, hub: FakeHub) -> None:
    pickles = {"config.json": b"{}", "pytorch_model.bin": PICKLE}
    repository = hub.add("acme/bert", pickles)
    repository.branches["refs/pr/1"] = repository.branches["main"]
    converted = repository.commit(pickles | {"model.safetensors": safetensors()}, "refs/pr/1")
    repository.offers = [offer(author={"name": "somebody"})]
    refused(shelf, UnsafeModel, "never loaded")
    repository.offers += [offer()]
    assert shelf.download("acme/bert")["download_info"]["revision"] == converted
    assert sorted(shelf.files("predict/m")) == ["atelier-source.json", "config.json", "model.safetensors"]
    repository.commit(pickles | {"more.json": b"{}"})  # it was made of another state than main's
    refused(shelf, UnsafeModel, "never loaded", force=True)


def test_a_vocoder_comes_into_the_models_folder(shelf: Shelf, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("acme/speaker", transformer(1), tags=("speecht5",), task="text-to-speech")
    vocoder = hub.add("microsoft/speecht5_hifigan", transformer(2)).branches["main"]
    hub.add("acme/vocoder", transformer(3))
    with pytest.raises(ValidationFailed, match="vocoder_model"):
        shelf.download("acme/speaker", task="text-to-speech", vocoder_model="acme/vocoder")
    named = {"task": "text-to-speech", "include_vocoder": True, "vocoder_model": "acme/vocoder"}
    shelf.download("acme/speaker", **named)
    assert shelf.files("speech/m/vocoder")["model.safetensors"] == safetensors(3)
    again = shelf.download("acme/speaker", **named)
    assert again["status"] == "already_exists"
    assert "vocoder/config.json" in [file["name"] for file in again["download_info"]["files"]]
    assert not (shelf.models_dir / "speech/plain").exists()
    shelf.download("acme/speaker", "plain", task=None)
    assert shelf.files("speech/plain/vocoder") == {}
    with pytest.raises(InputRejected, match="microsoft is not among"):  # the default one's owner is asked for, too
        shelf.download("acme/speaker", "auto", task=None, source="tts_auto")
    monkeypatch.setattr(get_settings(), "hub_owners", ("acme", "microsoft"))
    shelf.download("acme/speaker", "auto", task=None, source="tts_auto")
    assert json.loads(shelf.files("speech/auto")["atelier-source.json"])["vocoder"]["revision"] == vocoder
    shelf.download("acme/speaker", "converted", task=None, auto_convert_tts=True)
    assert shelf.files("speech/converted/vocoder")["model.safetensors"] == safetensors(2)


def pipeline(variants: tuple[str, ...] = ("", ".fp16"), **index: Any) -> dict[str, bytes]:
    """A diffusers folder, with copies of its weights in one file and for other libraries."""
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "text_encoder": ["transformers", "CLIPTextModel"]}
    told = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None], **parts, **index}
    files = {"model_index.json": json.dumps(told).encode(), "all-in-one.safetensors": safetensors(7)}
    for variant in variants:
        files[f"unet/diffusion_pytorch_model{variant}.safetensors"] = safetensors(1)
        files[f"text_encoder/model{variant}.safetensors"] = safetensors(2)
        files[f"vae_of_others/model{variant}.safetensors"] = safetensors(3)
    return files | {"unet/config.json": b'{"_class_name": "UNet2DConditionModel"}', "unet/a.bin": PICKLE}


@pytest.mark.parametrize(("variants", "taken"), [(("", ".fp16"), ".fp16"), (("",), ""), ((".fp16",), ".fp16")])
def test_a_pipeline_comes_with_one_variant_of_its_own_parts(
    shelf: Shelf, hub: FakeHub, variants: tuple[str, ...], taken: str
) -> None:
    hub.add("acme/sd", pipeline(variants))
    shelf.download("acme/sd", task="text-to-image")
    assert sorted(shelf.files("image/m")) == sorted(
        [
            *("atelier-source.json", "model_index.json", "unet/config.json", f"text_encoder/model{taken}.safetensors"),
            f"unet/diffusion_pytorch_model{taken}.safetensors",
        ]
    )


def test_a_pipeline_with_parts_of_its_own_making_is_refused(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/sd", pipeline(unet=["my_unet", "Unet"]))
    refused(shelf, UnsafeModel, "code of its own", "acme/sd", task="text-to-image")
    hub.add("acme/sd", pipeline(unet=[["diffusers"], "Unet"]))
    refused(shelf, UnsafeModel, "code of its own", "acme/sd", task="text-to-image")
    hub.add("acme/sd", pipeline(_class_name="EvilPipeline"))
    refused(shelf, UnsafeModel, "EvilPipeline", "acme/sd", task="text-to-image")


def test_a_lora_of_a_repository_goes_to_the_loras(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/lora", {"style.safetensors": safetensors(4), "README.md": b"x"})
    info = shelf.download("acme/lora", "style", task="lora")["download_info"]
    assert (info["family"], info["kind"]) == ("image", "adapter")
    assert shelf.files("image/loras/style")["pytorch_lora_weights.safetensors"] == safetensors(4)
    hub.add("acme/loras", {"a.safetensors": safetensors(1), "b.safetensors": safetensors(2)})
    refused(shelf, UnsafeModel, "several LoRAs", "acme/loras", task="lora")


def test_no_signature_is_written_down(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer())
    shelf.download("acme/bert")
    assert SIGNATURE not in str(shelf.files())
