"""The store of a tenant's own rules for the validator, in the tenant's transaction."""

from __future__ import annotations

from psycopg.rows import class_row, dict_row

from csb_core.db import Connection
from csb_core.errors import NotFound
from csb_core.util_models import UtilRule


def list_all(conn: Connection) -> list[UtilRule]:
    """The rules of the transaction's tenant, by their ids."""
    with conn.cursor(row_factory=class_row(UtilRule)) as cur:
        cur.execute(
            """
            SELECT tenant_id, rule_id, severity, kind, pattern, message, created_at, created_by
              FROM csb_app.csb_util_rules
             WHERE tenant_id = (SELECT csb_app.current_tenant())
             ORDER BY rule_id
            """
        )
        return cur.fetchall()


def put(
    conn: Connection,
    rule_id: str,
    *,
    severity: str,
    kind: str,
    pattern: str,
    message: str,
    by: str,
) -> tuple[UtilRule, bool]:
    """Add a rule, or replace the one with this id; returns it, and whether it is new."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            INSERT INTO csb_app.csb_util_rules
                   (tenant_id, rule_id, severity, kind, pattern, message, created_by)
            VALUES ((SELECT csb_app.current_tenant()), %(rule_id)s, %(severity)s, %(kind)s,
                    %(pattern)s, %(message)s, %(by)s)
            ON CONFLICT (tenant_id, rule_id)
            DO UPDATE SET severity   = excluded.severity,
                          kind       = excluded.kind,
                          pattern    = excluded.pattern,
                          message    = excluded.message,
                          created_by = excluded.created_by
            RETURNING tenant_id, rule_id, severity, kind, pattern, message, created_at, created_by,
                      xmax = 0 AS added -- what was replaced bears the mark of its lock
            """,
            {
                "rule_id": rule_id,
                "severity": severity,
                "kind": kind,
                "pattern": pattern,
                "message": message,
                "by": by,
            },
        )
        row = cur.fetchall()[0]
    added = row.pop("added")
    return UtilRule(**row), added


def delete(conn: Connection, rule_id: str) -> None:
    """Drop a rule; raises NotFound."""
    done = conn.execute(
        """
        DELETE FROM csb_app.csb_util_rules
         WHERE tenant_id = (SELECT csb_app.current_tenant())
           AND rule_id = %s
        """,
        (rule_id,),
    ).rowcount
    if done == 0:
        raise NotFound(f"this tenant has no rule {rule_id}")
