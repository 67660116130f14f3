"""The AWS worker's process; gunicorn loads `app` from here, in each worker after the fork."""

from __future__ import annotations

from csb_core.worker import main as worker
from worker_service_aws.actions.catalogue import build_actions
from worker_service_aws.clients import Aws
from worker_service_aws.settings import load_aws_settings


def create() -> worker.WorkerProcess:
    """Build the worker; nothing runs before its `start`. Raises ConfigurationError."""
    settings = load_aws_settings()
    aws = Aws(settings)
    return worker.create("aws", build_actions(aws, settings), probe=aws.probe)


app = create()
