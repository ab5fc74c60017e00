"""Takes passwords and secrets out of text that is stored or shown."""

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
    """True for a variable whose value is never stored: its name ends in TOKEN, SECRET, PASSWORD or KEY."""
    return _SECRET_NAME.fullmatch(name) is not None


def redact(text: str) -> str:
    """`text` (a word of a command line, an address) with the password of a URL and the value of NAME=VALUE, where
    NAME is a secret's, replaced by `***`.
    """
    text = _URL_PARAMETER.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}@", text))
    return _ASSIGNMENT.sub(rf"\1{MASK}", text)


def redact_values(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, with the values of secrets replaced by `***`."""
    return {name: MASK if is_secret_name(name) else value for name, value in variables.items()}
