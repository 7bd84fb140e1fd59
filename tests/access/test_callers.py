"""Whose account a request is on."""

from __future__ import annotations

import pytest

from penstock.access.callers import caller_at, caller_with
from penstock.access.keys import Key
from penstock.requests import Caller, Limit


def test_a_key_is_its_holders_account_and_what_is_made_with_it_stays_with_it() -> None:
    key = Key(name="ann", digest="0" * 64)
    assert caller_with(key) == Caller("ann", scope="ann")


def test_a_key_brings_what_it_allows() -> None:
    key = Key(
        name="ann",
        digest="0" * 64,
        admin=True,
        weight=2.5,
        models=("a",),
        streams=3,
        requests_per_minute=5,
        tokens_per_day=7,
    )
    limits = (Limit("requests_per_minute", 5), Limit("tokens_per_day", 7))
    assert caller_with(key) == Caller("ann", "ann", 2.5, 3, ("a",), limits, admin=True)


@pytest.mark.parametrize(
    ("host", "account"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::1", "::/64"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_without_keys_an_account_is_an_address_or_the_network_of_one_client(
    host: str, account: str
) -> None:
    assert caller_at(host) == Caller(account, admin=True)
