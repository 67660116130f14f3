"""The store of shares: who else may read, run or change a util. Only its owner says so.

As in `util_store`, the connection is in a transaction of the caller's tenant and key.
"""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
from psycopg.rows import class_row

from csb_core.db import Connection
from csb_core.errors import Conflict, NotFound, NotPermitted
from csb_core.util_models import Permission, Util, UtilShare
from csb_core.util_store import seen


def share(
    conn: Connection,
    util_id: UUID,
    grantee: UUID | str,
    *,
    permission: Permission,
    by: str,
) -> UtilShare:
    """Let a tenant (its id) or one key (its key id) use a util; sharing again changes for what.

    Raises NotFound for an unknown util or grantee, NotPermitted when the util is another tenant's,
    Conflict when it is to be shared with the tenant that owns it.
    """
    util = _own(conn, util_id)
    if grantee == util.tenant_id:
        raise Conflict("a util is not shared with the tenant that owns it")
    try:
        with conn.cursor(row_factory=class_row(UtilShare)) as cur:
            cur.execute(
                """
                INSERT INTO csb_app.csb_util_shares
                       (share_id, util_id, tenant_id, grantee_tenant_id, grantee_key_id, permission,
                        created_by)
                VALUES (%(share_id)s, %(util_id)s, %(tenant_id)s, %(grantee_tenant_id)s,
                        %(grantee_key_id)s, %(permission)s, %(by)s)
                ON CONFLICT ON CONSTRAINT csb_util_shares_grantee
                DO UPDATE SET permission = excluded.permission, created_by = excluded.created_by
                RETURNING share_id, util_id, tenant_id, grantee_tenant_id, grantee_key_id,
                          permission, created_at, created_by
                """,
                {
                    "share_id": uuid4(),
                    "util_id": util_id,
                    "tenant_id": util.tenant_id,
                    "grantee_tenant_id": grantee if isinstance(grantee, UUID) else None,
                    "grantee_key_id": grantee if isinstance(grantee, str) else None,
                    "permission": permission,
                    "by": by,
                },
            )
            return cur.fetchall()[0]
    except psycopg.errors.ForeignKeyViolation as exc:
        raise NotFound(f"there is no tenant or key {grantee}") from exc


def list_of(conn: Connection, util_id: UUID) -> list[UtilShare]:
    """The shares of a util, oldest first; of another tenant's util only the caller's own.

    Raises NotFound.
    """
    seen(conn, util_id)
    with conn.cursor(row_factory=class_row(UtilShare)) as cur:
        cur.execute(
            """
            SELECT share_id, util_id, tenant_id, grantee_tenant_id, grantee_key_id, permission,
                   created_at, created_by
              FROM csb_app.csb_util_shares
             WHERE util_id = %s
             ORDER BY created_at, share_id
            """,
            (util_id,),
        )
        return cur.fetchall()


def unshare(conn: Connection, util_id: UUID, share_id: UUID) -> None:
    """Take a share back; what was accepted under it still runs. Raises NotFound, NotPermitted."""
    _own(conn, util_id)
    done = conn.execute(
        """
        DELETE FROM csb_app.csb_util_shares
         WHERE share_id = %s
           AND util_id = %s
        """,
        (share_id, util_id),
    ).rowcount
    if done == 0:
        raise NotFound(f"the util has no share {share_id}")


def _own(conn: Connection, util_id: UUID) -> Util:
    util = seen(conn, util_id)
    if util.access != "owner":
        raise NotPermitted("only the tenant that owns a util shares it")
    return util
