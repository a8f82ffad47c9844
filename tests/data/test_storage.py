"""Remote files: fetched whole or not at all, patiently, and never from this machine's own disk."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from http_server import Site, serving

from tilth.data import storage
from tilth.data.images import content_hash
from tilth.data.storage import FetchSettings, fetch, is_url, local_copy, shown_url, url_suffix
from tilth.errors import MediaError, MissingExtraError

CONTENT = bytes(range(256)) * 4096  # a megabyte: several chunks
QUICK = FetchSettings(timeout_s=5.0, retries=2)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"/a.jpg": CONTENT, "/labels.json": b"{}"}) as site:
        yield site


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_FIRST_WAIT_S", 0.01)


def fetched(url: str, settings: FetchSettings = QUICK) -> bytes:
    target = io.BytesIO()
    digest = fetch(url, target, settings)
    assert digest == content_hash(target.getvalue())
    return target.getvalue()


def test_a_file_behind_http_comes_whole(site: Site) -> None:
    assert fetched(f"{site.url}/a.jpg") == CONTENT
    assert site.requests == ["/a.jpg"], "one request, no questions before"


def test_a_server_that_fails_twice_is_asked_again(site: Site) -> None:
    site.failures["/a.jpg"] = 2
    assert fetched(f"{site.url}/a.jpg") == CONTENT
    assert len(site.requests) == 3


def test_a_connection_that_breaks_is_no_file(site: Site) -> None:
    site.cut.add("/a.jpg")
    with pytest.raises(MediaError, match="cannot be fetched") as caught:
        fetched(f"{site.url}/a.jpg")
    assert "attempt 3 of 3" in (caught.value.got or "")
    assert len(site.requests) == 3


@pytest.mark.parametrize(("status", "reason"), [(404, "not there"), (403, "403"), (410, "410")])
def test_a_refusal_is_final(status: int, reason: str, site: Site) -> None:
    site.statuses["/a.jpg"] = status
    with pytest.raises(MediaError) as caught:
        fetched(f"{site.url}/a.jpg")
    assert reason in (caught.value.got or "")
    assert len(site.requests) == 1


def test_a_server_that_hangs_is_left_in_time(site: Site) -> None:
    site.hangs.add("/a.jpg")
    started = time.monotonic()
    with pytest.raises(MediaError) as caught:
        fetched(f"{site.url}/a.jpg", FetchSettings(timeout_s=0.5, retries=5))
    assert time.monotonic() - started < 4
    assert "timeout_s = 0.5" in (caught.value.got or "")


def test_a_server_that_drips_is_left_in_time(site: Site) -> None:
    site.drips["/a.jpg"] = (1, 0.05)
    started = time.monotonic()
    with pytest.raises(MediaError, match="cannot be fetched"):
        fetched(f"{site.url}/a.jpg", FetchSettings(timeout_s=0.5, retries=5))
    assert time.monotonic() - started < 4


def test_a_large_file_has_the_longer_the_more_has_come(site: Site) -> None:
    site.files["/long.mp4"] = bytes(8_000_000)
    site.drips["/long.mp4"] = (500_000, 0.05)  # the whole takes longer than the time limit
    assert (
        len(fetched(f"{site.url}/long.mp4", FetchSettings(timeout_s=0.4, retries=0))) == 8_000_000
    )


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "/circle"])
def test_a_redirect_leads_to_no_other_scheme(target: str, site: Site) -> None:
    site.redirects["/circle"] = target
    with pytest.raises(MediaError, match="cannot be fetched") as caught:
        fetched(f"{site.url}/circle")
    assert "attempt 1 of" in (caught.value.got or "")


def test_a_redirect_to_a_file_is_followed(site: Site) -> None:
    site.redirects["/old.jpg"] = "/a.jpg"
    assert fetched(f"{site.url}/old.jpg") == CONTENT


def test_a_file_above_the_bound_is_left(site: Site) -> None:
    with pytest.raises(MediaError, match="too large"):
        fetched(f"{site.url}/a.jpg", FetchSettings(max_gb=100_000 / 2**30))


def test_a_second_attempt_begins_where_the_first_began(site: Site) -> None:
    site.failures["/a.jpg"] = 1
    target = io.BytesIO(b"head")
    target.seek(4)
    fetch(f"{site.url}/a.jpg", target, QUICK)
    assert target.getvalue() == b"head" + CONTENT


def test_s3_through_an_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    moto_server = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="fields")
        client.put_object(Bucket="fields", Key="2026/a b.jpg", Body=CONTENT)
        assert fetched("s3://fields/2026/a b.jpg") == CONTENT
        monkeypatch.setattr(storage, "_BLOCK", 300_000)
        assert fetched("s3://fields/2026/a b.jpg") == CONTENT, "in several blocks"
        with pytest.raises(MediaError, match="too large"):
            fetched("s3://fields/2026/a b.jpg", FetchSettings(max_gb=100_000 / 2**30))
        with pytest.raises(MediaError) as caught:
            fetched("s3://fields/2026/none.jpg")
        assert "not there" in (caught.value.got or "")
        assert "AWS_ENDPOINT_URL" in (caught.value.fix or "")
    finally:
        server.stop()


def test_any_file_system_of_fsspec_serves() -> None:
    with fsspec.open("memory://bucket/a.jpg", "wb") as stream:
        stream.write(CONTENT)
    assert fetched("memory://bucket/a.jpg") == CONTENT


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "local:///etc/passwd", "ftp://h/a", "simplecache::file:///etc/x"]
)
def test_other_schemes_are_not_followed(url: str) -> None:
    with pytest.raises(MediaError, match="not followed"):
        fetch(url, io.BytesIO(), QUICK)


@pytest.mark.parametrize("scheme", ["memory://bucket/a", "http://127.0.0.1:9/a"])
def test_a_chain_reads_no_file_of_this_machine(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(MediaError, match="cannot be fetched"):
        fetched(f"{scheme}::file://{tmp_path}/secret", FetchSettings(retries=0))


@pytest.mark.parametrize(
    "url",
    ["http://[broken/a.jpg", "http://host:99999999/a", "http://", "http:///a", "http://h\0/a"],
)
def test_an_address_that_cannot_be_read_is_an_error_of_ours(url: str) -> None:
    with pytest.raises(MediaError, match="cannot be fetched"):
        fetched(url, FetchSettings(retries=0))


def test_keys_never_show() -> None:
    url = "https://ann:secret@host/a.jpg?X-Amz-Signature=abc&part=2"
    assert shown_url(url) == "https://host/a.jpg?X-Amz-Signature=...&part=..."
    with pytest.raises(MediaError) as caught:
        fetch("http://ann:secret@127.0.0.1:9/a.jpg?key=abc", io.BytesIO(), FetchSettings(retries=0))
    assert "secret" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "aiohttp", None)
    with pytest.raises(MissingExtraError) as caught:
        fetch("https://host/a.jpg", io.BytesIO(), QUICK)
    assert "tilth[remote]" in (caught.value.fix or "")


def test_a_label_file_may_be_a_url(site: Site, tmp_path: Path) -> None:
    path = local_copy(f"{site.url}/labels.json?version=1")
    assert (path.name, path.read_bytes()) == ("labels.json", b"{}")
    assert local_copy(str(tmp_path / "a.json")) == tmp_path / "a.json"


@pytest.mark.parametrize("name", ["..", ".", "a\\..\\b", ".bashrc", "x" * 500])
def test_a_copy_stays_in_its_folder_whatever_its_name(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "fetch", lambda url, target, settings: target.write(b"{}"))
        path = local_copy(f"memory://labels/{name}")
    assert path.read_bytes() == b"{}"
    assert not path.name.startswith(".")
    assert path.resolve().parent.parent == storage._temporary_folder().resolve()


def test_copies_go_when_the_process_ends() -> None:
    code = (
        "import fsspec; from tilth.data.storage import local_copy;"
        "fsspec.open('memory://b/a.json', 'wb').open().close();"
        "print(local_copy('memory://b/a.json'))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("a.json")
    assert not Path(run.stdout.strip()).exists()


def test_urls_are_told_from_paths() -> None:
    assert is_url("s3://bucket/a.jpg")
    assert not is_url("/a/b.jpg")
    assert not is_url("C:/b.jpg")
    assert url_suffix("https://h/a/B.JPG?x=1#frame=3") == ".jpg"
    assert url_suffix("https://h/a.d/b") == ""
