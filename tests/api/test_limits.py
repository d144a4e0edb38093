"""Keys and how often they may be used."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from captioner.api.faults import ApiError
from captioner.api.limits import CALLERS, Buckets, Keys
from captioner.errors import BadParams
from captioner.settings import Settings
from tests.api.conftest import World, fault, picture

ADA, BOB = "ada's key", "bob's key"
KEYS = f"ada:{sha256(ADA.encode()).hexdigest()}, bob:{sha256(BOB.encode()).hexdigest()}"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_lets_twice_the_rate_through_at_once_then_one_at_a_time() -> None:
    clock = Clock()
    buckets = Buckets(2.0, clock)
    for _ in range(4):
        buckets.take("ada")
    with pytest.raises(ApiError) as refused:
        buckets.take("ada")
    assert (refused.value.status, refused.value.code) == (429, "rate_limited")
    assert refused.value.retry_s == pytest.approx(0.5)
    buckets.take("bob")  # has a bucket of his own
    clock.now += refused.value.retry_s or 0
    buckets.take("ada")
    with pytest.raises(ApiError):
        buckets.take("ada")
    clock.now += 3600  # no more than it holds
    for _ in range(4):
        buckets.take("ada")
    with pytest.raises(ApiError):
        buckets.take("ada")


def test_without_a_rate_there_is_no_limit_and_memory_is_bounded() -> None:
    for _ in range(1000):
        Buckets(None).take("ada")
    buckets = Buckets(1.0)
    for number in range(CALLERS + 50):
        buckets.take(str(number))
    assert len(buckets._left) == CALLERS


def test_keys_are_hashes_and_none_means_everybody() -> None:
    assert Keys({}).caller("", "here") == Keys({}).caller("whatever", "here")
    keys = Keys({"ada": sha256(ADA.encode()).hexdigest()}, testers=["ada"])
    assert keys.caller(ADA, "").tester
    for wrong, code in (("", "no_key"), ("ada", "unknown_key"), (ADA + " ", "unknown_key")):
        with pytest.raises(ApiError) as refused:
            keys.caller(wrong, "")
        assert (refused.value.status, refused.value.code) == (401, code)


def test_what_api_gateway_let_through_has_the_name_of_its_key() -> None:
    keys = Keys({}, testers=["key-2"])
    assert not keys.caller("secret", "", gateway_id="key-1").tester
    assert keys.caller("secret", "", gateway_id="key-2").tester


@pytest.mark.parametrize(
    "environ",
    [
        {"CAPTIONER_API_KEYS": "ada:the key itself"},
        {"CAPTIONER_API_KEYS": "a" * 64},
        {"CAPTIONER_API_RATE": "often"},
        {"CAPTIONER_API_RATE": "0"},
    ],
)
def test_settings_that_are_none_are_a_sentence(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(BadParams, match=next(iter(environ))):
        Settings.from_env(tmp_path, environ)


def test_where_there_are_keys_everything_but_health_and_docs_asks_for_one(tmp_path: Path) -> None:
    world = World(tmp_path, {"CAPTIONER_API_KEYS": KEYS, "CAPTIONER_API_TESTERS": "bob"})
    for path, method in (
        ("/v1/captions", "POST"),
        ("/", "POST"),
        ("/v1/captions/x/feedback", "POST"),
        ("/v1/experiment", "GET"),
        ("/v1/models", "GET"),
        ("/v1/ledger", "GET"),
    ):
        assert fault(world.ask(path, method)) == (401, "no_key"), path
        assert fault(world.ask(path, method, headers={"x-api-key": "nonsense"})) == (401, "unknown_key"), path
    for path in ("/v1/health", "/v1/health/live", "/docs", "/openapi.json"):
        assert world.ask(path, "GET").status_code == 200, path
    assert world.ask(content=picture(), headers={"x-api-key": ADA}).status_code == 200
    assert world.inference.asked[0].variant is None


def test_only_a_testers_key_chooses_a_variant(tmp_path: Path) -> None:
    world = World(tmp_path, {"CAPTIONER_API_KEYS": KEYS, "CAPTIONER_API_TESTERS": "bob"})
    chosen = {"x-variant": "challenger"}
    assert fault(world.ask(content=picture(), headers={**chosen, "x-api-key": ADA})) == (403, "not_a_tester")
    answer = world.ask(content=picture(), headers={**chosen, "x-api-key": BOB}).json()
    assert (answer["variant"], answer["override"]) == ("challenger", True)


def test_a_key_that_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    world = World(tmp_path, {"CAPTIONER_API_KEYS": KEYS, "CAPTIONER_API_RATE": "0.5"})
    assert world.ask(content=picture(), headers={"x-api-key": ADA}).status_code == 200
    refused = world.ask(content=picture(), headers={"x-api-key": ADA})
    assert fault(refused) == (429, "rate_limited")
    assert refused.headers["retry-after"] in ("1", "2")
    assert world.ask(content=picture(), headers={"x-api-key": BOB}).status_code == 200
    assert len(world.inference.asked) == 2
    assert len(world.exposures()) == 2
