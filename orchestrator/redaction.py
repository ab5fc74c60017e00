"""Removal of passwords and other secrets from text that is stored or shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = "***"
_SECRET_WORD = "(?:TOKEN|SECRET|PASSWORD|KEY)"  # noqa: S105 - names, no password
_URL_PASSWORD = re.compile(r"(://[^/@\s:]*):[^/\s]*@")
_URL_PARAMETER = re.compile(rf"([?&][\w.-]*{_SECRET_WORD}=)[^&\s]*", re.IGNORECASE)
_ASSIGNMENT = re.compile(rf"((?:^|[=\s])-*[\w.-]*{_SECRET_WORD}=).*", re.IGNORECASE | re.DOTALL)
_SECRET_NAME = re.compile(rf".*{_SECRET_WORD}", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Return whether the value of the variable is a secret, which is never stored: the name ends in TOKEN, SECRET,
    PASSWORD or KEY.
    """
    return _SECRET_NAME.fullmatch(name) is not None


def redact(text: str) -> str:
    """Return a word of a command line, or an address, with passwords in URLs and the values of secrets
    (NAME=VALUE) replaced by `***`.
    """
    text = _URL_PARAMETER.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}@", text))
    return _ASSIGNMENT.sub(rf"\1{MASK}", text)


def redact_values(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with the values of secrets replaced by `***`."""
    return {name: MASK if is_secret_name(name) else value for name, value in variables.items()}
