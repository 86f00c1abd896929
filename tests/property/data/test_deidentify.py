"""Properties of de-identification: the same in, the same out; intervals stay; walking changes nothing that stays."""

from __future__ import annotations

import string
from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from deidentify_cases import plain_ct, read, written
from isocenter.data.deidentify import Policy, Pseudonyms, clean_text, deidentify_bytes
from isocenter.data.images.patient import identifies

KEYS = st.binary(min_size=1, max_size=40)
DATES = st.dates(date(1900, 1, 1), date(2099, 12, 31))
NAMES = Pseudonyms(b"a key for tests")


@given(KEYS, st.text(max_size=20), st.text(max_size=20))
def test_pseudonyms_depend_on_key_and_patient_alone(key, issuer, identifier):
    assert Pseudonyms(key).patient(issuer, identifier) == Pseudonyms(bytes(key)).patient(issuer, identifier)


@given(DATES, DATES, st.integers(1, 3652))
def test_intervals_between_dates_stay(one, other, days):
    first, second = (NAMES.shift_date(f"{d:%Y%m%d}", days) for d in (one, other))
    moved = [date(int(t[:4]), int(t[4:6]), int(t[6:])) for t in (first, second)]
    assert moved[1] - moved[0] == other - one
    assert (one - moved[0]).days == days


@given(DATES, st.integers(1, 3652), st.sampled_from(["%Y-%m-%d", "%d-%b-%Y", "%d.%m.%Y", "%Y%m%d", "%Y/%m/%d"]))
def test_dates_in_text_move_as_those_in_headers(day, days, form):
    moved = NAMES.shift_date(f"{day:%Y%m%d}", days)
    again = date(int(moved[:4]), int(moved[4:6]), int(moved[6:]))
    assert clean_text(f"CT dated {day.strftime(form)}.", shift_days=days).text == f"CT dated {again.strftime(form)}."


@given(st.text(max_size=300))
def test_cleaning_text_is_sound(text):
    done = clean_text(text, shift_days=100)
    at = 0
    for span in done.spans:
        assert at <= span.start < span.end <= len(text)
        at = span.end
    if not done.spans:
        assert done.text == text


@settings(max_examples=40, deadline=None)
@given(
    st.text(string.ascii_uppercase, min_size=4, max_size=12),
    st.text(string.digits, min_size=5, max_size=10).filter(identifies),
    st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]),
)
def test_one_patient_has_one_name_in_every_transfer_syntax(family, number, syntax):
    ds = plain_ct(name=f"{family}^ZQ", identifier=number)
    ds.SeriesDescription = f"Head of {family} ({number})"
    done = deidentify_bytes(written(ds, syntax), NAMES, Policy())
    after = read(done.data)
    assert after.PatientID == NAMES.patient("", number) == done.patient_key
    assert family not in after.SeriesDescription
    assert number not in after.SeriesDescription
    assert after.StudyDate == NAMES.shift_date("20240229", NAMES.shift_days(done.patient_key))
    # De-identified once more, under its new name, nothing else is removed and the pixels are still the same.
    twice = read(deidentify_bytes(done.data, NAMES, Policy()).data)
    assert twice.PixelData == after.PixelData
    assert {e.tag for e in twice} == {e.tag for e in after}
