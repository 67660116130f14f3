"""A Flask route that does nothing but answer, with as many bytes as a cached GET of ours."""

from __future__ import annotations

import os

from flask import Flask, Response

_DOCUMENT = b'{"x":"' + b"x" * (int(os.environ["BENCH_BYTES"]) - 8) + b'"}'

app = Flask(__name__, static_folder=None)


def bare() -> Response:
    """Answer."""
    return Response(_DOCUMENT, mimetype="application/json")


app.add_url_rule("/bare", view_func=bare)
