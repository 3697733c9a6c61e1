"""Which of the driver's errors are the world's faults, and what each means for the operator."""

from __future__ import annotations

import ssl

import asyncpg  # type: ignore[import-untyped]

from poller.ports import StoreUnavailableError

_ADVICE: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (
        asyncpg.InvalidAuthorizationSpecificationError,  # a wrong password is one of these
        "does not let this daemon in ({why}): check the user, [store] password_file and pg_hba.conf",
    ),
    (asyncpg.InvalidCatalogNameError, "has no such database ({why}): create it, or correct [store] url"),
    (
        asyncpg.TooManyConnectionsError,
        "has no connection left ({why}): raise max_connections, or end what else uses it",
    ),
    (asyncpg.DiskFullError, "has a full disk ({why}): free space on its volume"),
    (asyncpg.InsufficientResourcesError, "is out of resources ({why}): look at its memory, disk and settings"),
    (
        asyncpg.ReadOnlySQLTransactionError,
        "takes no writes ({why}): it is a standby, or set read-only; name the primary in [store] url, or all "
        "servers and target_session_attrs=read-write",
    ),
    (
        asyncpg.InsufficientPrivilegeError,
        "does not allow it ({why}): make the daemon's user the owner of the store's schema",
    ),
    (
        (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError),
        "reports damage ({why}): look at its log and disks, and restore a backup",
    ),
    (
        (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError),
        "has other tables than this program knows ({why}): install the newer program again, or restore a backup",
    ),
    (asyncpg.QueryCanceledError, "is too slow ({why}): look at its load, its disks and its locks"),
    (asyncpg.LockNotAvailableError, "is held up by a lock ({why}): look for a stuck session in pg_stat_activity"),
    (
        (asyncpg.OperatorInterventionError, asyncpg.IdleInTransactionSessionTimeoutError),
        "ended the connection ({why}): the daemon goes on when it is back",
    ),
    (
        (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError),
        "broke the connection off ({why}): look at its log and at the network; the daemon tries again",
    ),
    (asyncpg.PostgresSystemError, "reports a fault of its machine ({why}): look at its log"),
    (asyncpg.InternalServerError, "reports a fault of its own ({why}): look at its log"),
    (asyncpg.TransactionRollbackError, "could not finish it beside the others' work ({why}): try again"),
    (
        ssl.SSLCertVerificationError,
        "shows a certificate that is not believed ({why}): name the file of its CA as sslrootcert in [store] url, "
        "and the host there as the certificate has it",
    ),
    (ssl.SSLError, "does not speak TLS as it should ({why}): look at its ssl settings and at its log"),
    (TimeoutError, "does not answer in time: look at its load and at the network"),
    (OSError, "cannot be reached ({why}): start it, or correct [store] url"),
)
# What the same transaction may not meet again: it is the others' doing, or the connection had been idle too long.
_PASSING = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.AdminShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's last word came in just as the next statement was to go out
    ConnectionResetError,
    BrokenPipeError,
)


def fault_of(error: BaseException, place: str) -> StoreUnavailableError | None:
    """The store's error for one of the driver's or the system's; None where `error` is a defect.

    `place` says which server, without a password; nothing else of the connection's settings is told.
    """
    if isinstance(error, StoreUnavailableError):
        return error
    if isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):  # what was sent is wrong
        return None
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return StoreUnavailableError(f"PostgreSQL at {place} {advice.format(why=_in_a_line(error))}")
    return None


def is_passing(fault: StoreUnavailableError) -> bool:
    """Whether to try once more at once, what was begun being undone."""
    return isinstance(fault.__cause__, _PASSING)


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
