"""The catalogue: every action by its name in schema.json."""

from __future__ import annotations

from collections.abc import Mapping

from csb_core.worker.action import Action
from worker_service_aws.actions.attachments import attachment
from worker_service_aws.actions.driver import ChangeAction, Prepare
from worker_service_aws.clients import Aws
from worker_service_aws.settings import AwsSettings


def build_actions(aws: Aws, settings: AwsSettings) -> Mapping[str, Action]:
    """Every action, ready to be called from any thread."""
    changes: dict[str, Prepare] = {
        "attach_policy": attachment(wanted=True),
        "detach_policy": attachment(wanted=False),
    }
    return {
        name: ChangeAction(aws=aws, prepare=prepare, verify_waits=settings.verify_waits)
        for name, prepare in changes.items()
    }
