"""Users: told apart, recognised again, never named."""

from __future__ import annotations

import httpx

from captioner.api.users import COOKIE, Users
from tests.api.conftest import World, picture


def test_a_named_user_is_a_pseudonym_that_only_the_secret_makes() -> None:
    users = Users(b"secret")
    ada = users.of({"x-user-id": "ada"}, {})
    assert ada == users.of({"x-user-id": "ada"}, {})
    assert (ada.token, ada.new) == (None, False)
    assert "ada" not in ada.pseudonym
    assert ada.pseudonym != users.of({"x-user-id": "bob"}, {}).pseudonym
    assert ada.pseudonym != Users(b"other").of({"x-user-id": "ada"}, {}).pseudonym


def test_an_anonymous_user_comes_back_with_cookie_or_token_and_is_the_same() -> None:
    users = Users(b"secret")
    first = users.of({}, {})
    assert first.new
    assert first.token
    for headers, cookies in (({"x-user-token": first.token}, {}), ({}, {COOKIE: first.token})):
        again = users.of(headers, cookies)
        assert (again.pseudonym, again.token, again.new) == (first.pseudonym, first.token, False)
    assert users.of({}, {}).pseudonym != first.pseudonym


def test_a_token_that_is_not_ours_makes_a_new_user_and_no_error() -> None:
    users = Users(b"secret")
    token = users.of({}, {}).token or ""
    known = users.of({"x-user-token": token}, {}).pseudonym
    who, _, signature = token.rpartition(".")
    for forged in (
        f"{who}x.{signature}",
        f"{who}.{signature[:-2]}",
        who,
        "",
        "é.é",
        Users(b"x").of({}, {}).token or "",
    ):
        found = users.of({"x-user-token": forged}, {COOKIE: forged})
        assert found.new
        assert found.pseudonym != known


def test_a_named_user_cannot_be_an_anonymous_one() -> None:
    users = Users(b"secret")
    token = users.of({}, {}).token or ""
    anonymous = users.of({"x-user-token": token}, {}).pseudonym
    assert users.of({"x-user-id": token.rpartition(".")[0]}, {}).pseudonym != anonymous


def test_the_cookie_is_for_this_api_alone_and_set_once(world: World) -> None:
    first = world.ask(content=picture())
    cookie = first.headers["set-cookie"]
    assert cookie.startswith("captioner_user=")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= {one.strip() for one in cookie.split(";")}
    assert "Secure" not in cookie  # plain http here; below TLS it is
    token = first.headers["x-user-token"]
    assert httpx.Cookies(first.cookies)[COOKIE] == token
    again = world.ask(content=picture(), headers={"cookie": f"{COOKIE}={token}"})
    assert "set-cookie" not in again.headers
    assert again.headers["x-user-token"] == token
    named = world.ask(content=picture(), headers={"x-user-id": "ada"})
    assert not {"set-cookie", "x-user-token"} & set(named.headers)
    users = [one["user"] for one in world.exposures()]
    assert users[0] == users[1] != users[2]
    assert "Secure" in world.ask("https://api/v1/captions", content=picture()).headers["set-cookie"]
