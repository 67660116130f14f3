"""Serve the gate and moto over HTTP, in one process with a thread per connection."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from werkzeug.serving import BaseWSGIServer, make_server

log = logging.getLogger(__name__)


def local_aws(seed: Mapping[str, Any], *, port: int, host: str = "127.0.0.1") -> BaseWSGIServer:
    """Return a bound server with the seed's accounts in it; port 0 takes a free one.

    Moto reads at import whether AWS's own policies exist, so the choice is made here, before.
    """
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"

    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - see above
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )

    from worker_service_aws.local_aws.gate import Gate  # noqa: PLC0415
    from worker_service_aws.local_aws.seed import plant  # noqa: PLC0415

    class Handler(MotoRequestHandler):
        disable_nagle_algorithm = True  # head and body go out as two writes

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            log.debug("call.answered", extra={"path": self.path, "code": code, "size": size})

    plant(seed)
    gate = Gate(
        DomainDispatcherApplication(create_backend_app),
        {"iam": create_backend_app("iam"), "sts": create_backend_app("sts")},
    )
    return make_server(host, port, gate, threaded=True, request_handler=Handler)
