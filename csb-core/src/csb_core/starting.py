"""How a service begins: with its settings, or with a line of its log that says why it ends."""

from __future__ import annotations

import logging
import os

from csb_core import log
from csb_core.config import S, load
from csb_core.errors import ConfigurationError

logger = logging.getLogger(__name__)


def settings_or_end(kind: type[S]) -> S:
    """Read the settings; with a faulty one the process ends, and its last line names all faults.

    gunicorn would print the error as text: it reads its configuration before it has a log.
    """
    try:
        return load(kind)
    except ConfigurationError as exc:
        log.configure(os.environ.get("CSB_SERVICE") or kind.model_fields["service"].default)
        logger.critical("process.not_configured", extra={"reason": str(exc)})
        raise SystemExit(1) from None
