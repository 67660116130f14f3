"""The door to AWS: our own identity, and sessions in other accounts that may do one thing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from botocore.config import Config
from botocore.session import Session

from csb_core.config import VERSION
from csb_core.models import Json, Ref, Target
from worker_service_aws import session_policy
from worker_service_aws.calls import AccountSession, call
from worker_service_aws.codes import ErrorClass
from worker_service_aws.faults import Fault, FinalError, OutOfTime
from worker_service_aws.session_policy import Statement
from worker_service_aws.settings import AwsSettings
from worker_service_aws.transport import Transport

logger = logging.getLogger(__name__)

#: The shortest session that STS gives.
SESSION_SECONDS: Final = 900
CONNECT_SECONDS: Final = 3
READ_SECONDS: Final = 15
#: AssumeRole is shared, knows no end of an attempt and takes milliseconds: it may hang less long.
STS_READ_SECONDS: Final = 5
#: No call is begun later than this after the attempt began; what is under way may end.
PATIENCE: Final = timedelta(seconds=30)
#: PATIENCE, one AssumeRole whose three tries all hang, and a margin: no attempt outlives it.
DEADLINE: Final = timedelta(seconds=70)


class Aws:
    """Our own identity; one per process, safe between threads.

    Models, loader and connections are shared. Credentials never are: every request enters its
    account by itself, under its own name, so that CloudTrail tells who did what.
    """

    def __init__(self, settings: AwsSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()  # botocore's Session is not safe to share while it creates
        self._session = Session()
        self._session.set_config_variable("sts_regional_endpoints", "regional")
        transport = Transport(
            connect=CONNECT_SECONDS,
            read=READ_SECONDS,
            read_by_service={"sts": STS_READ_SECONDS},
            connections=settings.connections,
            ca_bundle=self._session.get_config_variable("ca_bundle"),
        )
        self._session.register("before-send", transport.send)
        self._partition = self._session.get_partition_for_region(settings.region)
        self._sts = self._client("sts", {})
        self._client("iam", {})  # reads the model now, so that no request waits for it

    def probe(self) -> None:
        """Return if AWS knows us; raises ConfigurationError when it does not."""
        call(self._sts, "GetCallerIdentity", {}, [])

    def enter(
        self,
        target: Target,
        correlation_id: UUID,
        statements: list[Statement],
        *,
        refs: list[Ref],
        before_write: Callable[[], None],
        ends_at: float,
    ) -> AccountSession:
        """Assume the account's role for fifteen minutes, limited to the statements.

        The session begins no call after `ends_at`, a time of `time.monotonic`.
        Raises AwsError when the account does not let us in.
        """
        self._require_own_partition(target)
        answer = call(
            self._sts,
            "AssumeRole",
            {
                "RoleArn": target.role_arn,
                "RoleSessionName": f"csb-{correlation_id}",
                "ExternalId": target.external_id,
                "DurationSeconds": SESSION_SECONDS,
                "Policy": session_policy.document(statements),
            },
            refs,
        )
        role = answer["AssumedRoleUser"]
        refs.append(
            Ref(
                type="aws_assumed_role",
                value=role["AssumedRoleId"],
                service="sts",
                operation="AssumeRole",
            )
        )
        logger.info(
            "aws.account_entered",
            extra={
                "account_id": target.account_id,
                "assumed_role": role["Arn"],
                "packed_policy_percent": answer.get("PackedPolicySize"),
            },
        )
        return AccountSession(
            target=target,
            refs=refs,
            before_write=before_write,
            make_client=self._maker(answer["Credentials"], ends_at),
        )

    def _maker(self, credentials: Json, ends_at: float) -> Callable[[str], Any]:
        keys = {
            "aws_access_key_id": credentials["AccessKeyId"],
            "aws_secret_access_key": credentials["SecretAccessKey"],
            "aws_session_token": credentials["SessionToken"],
        }

        def require_time(**_: Any) -> None:
            if time.monotonic() > ends_at:
                raise OutOfTime

        def make(service: str) -> Any:
            client = self._client(service, keys)
            client.meta.events.register_first("before-send", require_time)
            return client

        return make

    def _client(self, service: str, keys: Json) -> Any:
        with self._lock:
            return self._session.create_client(
                service,
                region_name=self._settings.region,
                endpoint_url=self._settings.endpoint_url,
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": 3},
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    user_agent_extra=f"csb/{VERSION}",
                ),
                **keys,
            )

    def _require_own_partition(self, target: Target) -> None:
        partition = target.role_arn.split(":")[1]
        if partition != self._partition:
            raise FinalError(
                Fault(
                    error_class=ErrorClass.INVALID,
                    code="OtherPartition",
                    message=f"the account is in {partition}, this worker in {self._partition}",
                )
            )
