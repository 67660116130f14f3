"""Making calls: nothing of botocore leaves here, and every call leaves its request id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from csb_core.models import Json, Ref, Target
from worker_service_aws.codes import repeatable
from worker_service_aws.faults import broken, refused


@dataclass(slots=True, kw_only=True)
class AccountSession:
    """Credentials for one account, for one request; every call leaves its request id in `refs`."""

    target: Target
    refs: list[Ref]
    before_write: Callable[[], None]
    make_client: Callable[[str], Any]
    _clients: dict[str, Any] = field(default_factory=dict)

    def call(self, service: str, operation: str, **parameters: Any) -> Json:
        """Make one call; raises AwsError or ConfigurationError, and LeaseLost before a write."""
        if service not in self._clients:
            self._clients[service] = self.make_client(service)
        if not repeatable(operation):
            self.before_write()
        return call(self._clients[service], operation, parameters, self.refs)

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        """Call until nothing is left, as IAM pages, and return what stands under `key`."""
        found: list[Any] = []
        marker: Json = {}
        while True:
            answer = self.call(service, operation, **parameters, **marker)
            found.extend(answer[key])
            if not answer.get("IsTruncated"):
                return found
            marker = {"Marker": answer["Marker"]}


def call(client: Any, operation: str, parameters: Json, refs: list[Ref]) -> Json:
    """Make one call and note its request id, whatever comes of it.

    Raises AwsError or ConfigurationError; nothing of botocore leaves this function.
    """
    service = client.meta.service_model.service_name
    try:
        answer: Json = getattr(client, xform_name(operation))(**parameters)
    except ClientError as exc:
        _note(exc.response, service, operation, refs)
        raise refused(exc.response, service=service, operation=operation) from exc
    except (BotoCoreError, ResponseParserError) as exc:
        raise broken(exc, service=service, operation=operation) from exc
    _note(answer, service, operation, refs)
    return answer


def _note(answer: Any, service: str, operation: str, refs: list[Ref]) -> None:
    request_id = answer.get("ResponseMetadata", {}).get("RequestId")
    if request_id:
        refs.append(
            Ref(type="aws_request_id", value=request_id, service=service, operation=operation)
        )
