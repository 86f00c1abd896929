"""Passwords: argon2id, and which are taken.

Rules follow NIST SP 800-63B-4, 3.1.1.2: length and no known passwords; no rules of composition, no expiry.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

from isocenter.core.errors import CapabilityError, ConfigError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["LEAST_PASSWORD", "LONGEST_PASSWORD", "Passwords", "check_password"]

LEAST_PASSWORD: Final = 15
"""NIST SP 800-63B-4: where the password is all that is asked for."""
LONGEST_PASSWORD: Final = 256
_WORDS = [
    "password",
    "passwort",
    "passwd",
    "passphrase",
    "secret",
    "geheim",
    "letmein",
    "welcome",
    "willkommen",
    "admin",
    "administrator",
    "root",
    "master",
    "login",
    "user",
    "guest",
    "test",
    "default",
    "changeme",
    "hospital",
    "clinic",
    "radiology",
    "radiologist",
    "radiologie",
    "doctor",
    "isocenter",
    "dicom",
    "pacs",
    "orthanc",
    "qwerty",
    "qwertz",
    "azerty",
    "asdf",
    "yxcv",
    "zxcv",
    "monkey",
    "dragon",
    "football",
    "baseball",
    "sunshine",
    "princess",
    "iloveyou",
    "superman",
    "batman",
    "trustno",
    "summer",
    "sommer",
    "winter",
    "spring",
    "autumn",
    "monday",
    "january",
    "love",
    "hello",
    "hallo",
    "server",
    "system",
    "medical",
    "health",
]
_RUNS = (
    "abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm",
    "yxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
)  # fmt: skip
_LEET = str.maketrans("013457@$!", "oieastasi")
_LEAST_REST = 6
_LEAST_KINDS = 6


def check_password(password: str, name: str, least: int = LEAST_PASSWORD) -> str:
    """Return a new password as it is hashed (NFKC).

    Args:
        password: What was chosen.
        name: Of the account.
        least: Fewest characters.

    Raises:
        ConfigError: It is too short or too long, holds the account's name, or is one that would be tried first.
    """
    password = unicodedata.normalize("NFKC", password)
    if not least <= len(password) <= LONGEST_PASSWORD:
        raise ConfigError(f"a password has {least} to {LONGEST_PASSWORD} characters; several words are well remembered")
    plain = password.casefold()
    own = re.split(r"[@._-]", name)[0]
    if name in plain or (len(own) >= 3 and own in plain):
        raise ConfigError("a password does not hold the account's name")
    if _is_common(plain):
        raise ConfigError(
            "this password would be among the first that are tried: well-known words, rows of keys and what repeats "
            "count for nothing"
        )
    return password


def _is_common(plain: str) -> bool:
    """Tell whether nothing of weight is left once well-known words, rows of keys, digits and repeats are taken away."""
    if len(set(plain)) < _LEAST_KINDS or _repeats(plain):
        return True
    return any(_weight(text) < _LEAST_REST for text in (plain, plain.translate(_LEET)))


def _repeats(plain: str) -> bool:
    return any(plain == (plain[:n] * len(plain))[: len(plain)] for n in range(1, len(plain) // 2 + 1))


def _weight(text: str) -> int:
    for word in sorted(_WORDS, key=len, reverse=True):
        text = text.replace(word, " ")
    for row in _RUNS:
        for line in (row, row[::-1]):
            for length in range(len(line), 3, -1):
                for start in range(len(line) - length + 1):
                    text = text.replace(line[start : start + length], " ")
    return len(re.sub(r"[\W\d_]+", "", text))


class Passwords:
    """Hashes passwords, and checks them in a time that does not depend on whether there is an account.

    Args:
        passes: Of argon2id.
        memory_kib: Memory that each hash takes.
        lanes: Threads of each hash.

    Raises:
        CapabilityError: argon2-cffi is missing.

    Source:
        RFC 9106, 4: the second recommended option (3 passes, 64 MiB, 4 lanes).
    """

    def __init__(self, passes: int = 3, memory_kib: int = 1 << 16, lanes: int = 4) -> None:
        self._hasher = _argon2(passes, memory_kib, lanes)
        self._nobody = self._hasher.hash("nobody has this password")

    def hash(self, password: str) -> str:
        """Return the hash of a password, with its salt and parameters."""
        return self._hasher.hash(unicodedata.normalize("NFKC", password))

    def is_right(self, password: str, kept: str) -> bool:
        """Tell whether a password fits a hash; "" stands for nobody's, which takes as long and never fits."""
        from argon2.exceptions import InvalidHashError, VerificationError

        text = unicodedata.normalize("NFKC", password[:LONGEST_PASSWORD])
        try:
            return self._hasher.verify(kept or self._nobody, text) and bool(kept)
        except (VerificationError, InvalidHashError):
            return False

    def is_old(self, kept: str) -> bool:
        """Tell whether a hash was made with other parameters, so that it is made anew at the next login."""
        return self._hasher.check_needs_rehash(kept)


def _argon2(passes: int, memory_kib: int, lanes: int) -> PasswordHasher:
    try:
        from argon2 import PasswordHasher, Type
    except ImportError as error:
        raise CapabilityError('accounts need argon2-cffi: pip install "isocenter[clinic]"') from error
    return PasswordHasher(passes, memory_kib, lanes, hash_len=32, salt_len=16, type=Type.ID)
