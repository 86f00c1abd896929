"""Pseudonyms, the policy and the leak report."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from deidentify_cases import plain_ct, written
from isocenter.core.errors import ConfigError, DataError, IdentityLeak
from isocenter.data.deidentify import LeakReport, Policy, Pseudonyms, clean_text, deidentify_bytes, k_anonymity

NAMES = Pseudonyms(b"a key for tests")


def test_names_are_fixed_by_the_key():
    assert NAMES.patient("issuer", "12345") == Pseudonyms(b"a key for tests").patient("issuer", "12345")
    assert NAMES.patient("issuer", "12345") != Pseudonyms(b"another").patient("issuer", "12345")
    assert len(NAMES.patient("", "1")) == 32
    assert len(NAMES.accession("", "1")) == 16
    assert NAMES.uid("") == ""
    assert NAMES.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    assert NAMES.uid("1.2.3").startswith("2.25.")
    assert len(NAMES.uid("1.2.3")) <= 64
    assert "a key" not in repr(NAMES)
    with pytest.raises(ConfigError):
        Pseudonyms(b"")


def test_shifts():
    days = NAMES.shift_days("p")
    assert 1 <= days <= 3652
    assert days == NAMES.shift_days("p")
    assert len({NAMES.shift_days(str(n)) for n in range(200)}) > 150
    assert NAMES.shift_date("20240301", 1) == "20240229"
    assert NAMES.shift_date("2024.03.01", 1) == "20240229"
    assert NAMES.shift_date("20240230", 1) == NAMES.shift_date("today", 1) == NAMES.shift_date("00010101", 5) == ""
    assert NAMES.shift(datetime(2024, 3, 1, 10, 11), 1) == datetime(2024, 2, 29, 10, 11)


def test_policy():
    assert Policy.from_dict(Policy(deface=True).to_dict()) == Policy(deface=True)
    for wrong in ({"retain": True}, {"deface": 1}, {"retain_dates": "some"}):
        with pytest.raises(ConfigError):
            Policy.from_dict(wrong)
    assert [code for code, _ in Policy().codes()] == ["113100", "113104", "113105", "113107", "113108"]
    assert Policy(off=True).codes() == ()
    assert all(len(meaning) <= 64 for _, meaning in Policy(*["full"], *[True] * 10).codes())


def test_the_leak_report_holds_counts_and_no_value():
    report, other = LeakReport(Policy()), LeakReport(Policy())
    report.add(deidentify_bytes(written(plain_ct()), NAMES, Policy()))
    other.add(deidentify_bytes(written(plain_ct(identifier="OTHER-99")), NAMES, Policy()))
    other.add_text(clean_text("Dr Tolmerson, 555-123-4567"))
    other.add_refused("is cut off")
    report.merge(other)
    report.anonymity.append(k_anonymity([{"sex": "F"}] * 4 + [{"sex": "M"}] * 6, ["sex"]))
    text = report.to_json()
    told = json.loads(text)
    assert told["objects"] == 2
    assert {"tag": "0020000D", "keyword": "StudyInstanceUID", "action": "new uid", "count": 2} in told["changed"]
    assert told["replaced_in_texts"] == {"name": 1, "phone": 1}
    assert told["anonymity"][0] == {
        "columns": ["sex"],
        "rows": 10,
        "classes": 2,
        "k": 4,
        "share_of_rows_with_k_below_5": 0.4,
        "share_of_unique_rows": 0.0,
    }
    for word in ("Zebrowski", "7731904", "Tolmerson", "OTHER-99", "20240229"):
        assert word not in text
    report.require_safe(least_k=4)
    with pytest.raises(IdentityLeak, match="coarsen"):
        report.require_safe(least_k=5)


def test_what_stops_an_export():
    with pytest.raises(IdentityLeak, match="off"):
        LeakReport(Policy(off=True)).require_safe()
    report = LeakReport(Policy())
    report.suspicious["7FE00010", "the object says that text is burnt in, and none was found"] += 1
    with pytest.raises(IdentityLeak, match="burnt in"):
        report.require_safe()
    with pytest.raises(DataError):
        LeakReport(Policy()).merge(LeakReport(Policy(deface=True)))


def test_k_anonymity_refuses():
    assert k_anonymity([], ["a"]).smallest == 0
    for rows, columns in (([{"a": 1}], []), ([{"a": 1}], ["b"])):
        with pytest.raises(DataError):
            k_anonymity(rows, columns)
