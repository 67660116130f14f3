"""Who calls: long-term keys, the temporary ones that were issued, and the root of an account."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from worker_service_aws.local_aws import directory
from worker_service_aws.local_aws.call import Call
from worker_service_aws.local_aws.policy import Document
from worker_service_aws.local_aws.refusal import Refusal

_ACCOUNT_NUMBER = re.compile(r"\d{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The identity behind an access key."""

    account_id: str
    kind: Literal["root", "user", "role"]
    name: str
    session_name: str | None = None
    session_policy: Document | None = None
    session_token: str | None = None
    expires_at: datetime | None = None

    @property
    def arn(self) -> str:
        """As AWS names it in its refusals."""
        if self.kind == "root":
            return f"arn:{directory.PARTITION}:iam::{self.account_id}:root"
        if self.kind == "role":
            role = f"assumed-role/{self.name}/{self.session_name}"
            return f"arn:{directory.PARTITION}:sts::{self.account_id}:{role}"
        return directory.principal_arn(self.account_id, "user", self.name)

    @property
    def principal_arn(self) -> str:
        """As policies name it: a session counts as its role."""
        if self.kind == "role":
            return directory.principal_arn(self.account_id, "role", self.name)
        return self.arn

    def policies(self) -> list[Document]:
        """What its identity carries, the session policy left out."""
        if self.kind == "role":
            return directory.policies_of_role(self.account_id, self.name)
        return directory.policies_of_user(self.account_id, self.name)


class Keyring:
    """Finds the caller of a call; a twelve-digit key id stands for the root of that account."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, Caller] = {}

    def issue(self, access_key_id: str, caller: Caller) -> None:
        """Remember temporary credentials, and forget those that are over."""
        now = datetime.now(UTC)
        with self._lock:
            self._sessions[access_key_id] = caller
            if len(self._sessions) % 1024 == 0:
                self._sessions = {
                    key: one
                    for key, one in self._sessions.items()
                    if one.expires_at is None or one.expires_at > now
                }

    def find(self, call: Call) -> Caller:
        """Return who calls; raise Refusal when the key is unknown or its time is over."""
        if _ACCOUNT_NUMBER.fullmatch(call.access_key_id):
            return Caller(account_id=call.access_key_id, kind="root", name="root")

        session = self._sessions.get(call.access_key_id)
        if session is not None:
            return _still_valid(session, call)

        holder = directory.user_of_key(call.access_key_id)
        if holder is None:
            raise _unknown_key()
        account_id, name = holder
        return Caller(account_id=account_id, kind="user", name=name)


def _still_valid(session: Caller, call: Call) -> Caller:
    if call.session_token != session.session_token:
        raise _unknown_key()
    if session.expires_at is not None and session.expires_at <= datetime.now(UTC):
        raise Refusal(
            "ExpiredToken", "The security token included in the request is expired", status=403
        )
    return session


def _unknown_key() -> Refusal:
    return Refusal(
        "InvalidClientTokenId",
        "The security token included in the request is invalid.",
        status=403,
    )
