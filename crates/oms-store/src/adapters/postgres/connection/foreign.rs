//! Parameters of other drivers: what they are called here, which of them say nothing to us, and what
//! to write instead of those that do.

use std::collections::BTreeMap;

use super::written::Given;
use super::{Purpose, Refused};

/// Tune a driver and change nothing that is stored or read: taken, and not looked at.
const IGNORED: [&str; 50] = [
    // JDBC.
    "adaptiveFetch",
    "adaptiveFetchMaximum",
    "adaptiveFetchMinimum",
    "allowEncodingChanges",
    "assumeMinServerVersion",
    "autosave",
    "binaryTransfer",
    "binaryTransferDisable",
    "binaryTransferEnable",
    "cancelSignalTimeout",
    "cleanupSavepoints",
    "databaseMetadataCacheFields",
    "databaseMetadataCacheFieldsMiB",
    "defaultRowFetchSize",
    "disableColumnSanitiser",
    "escapeSyntaxCallMode",
    "groupStartupParameters",
    "hideUnprivilegedObjects",
    "hostRecheckSeconds",
    "logServerErrorDetail",
    "logUnclosedConnections",
    "loggerFile",
    "loggerLevel",
    "maxResultBuffer",
    "maxSendBufferSize",
    "preferQueryMode",
    "prepareThreshold",
    "preparedStatementCacheQueries",
    "preparedStatementCacheSizeMiB",
    "quoteReturningIdentifiers",
    "reWriteBatchedInserts",
    "readOnlyMode",
    "receiveBufferSize",
    "sendBufferSize",
    "socketTimeout",
    "stringtype",
    "tcpNoDelay",
    "unknownLength",
    "useSpnego",
    // Prisma, SQLAlchemy with asyncpg, node-postgres, Go.
    "command_timeout",
    "default_query_exec_mode",
    "max_cached_statement_lifetime",
    "pool_timeout",
    "prepared_statement_cache_size",
    "prepared_statements",
    "socket_timeout",
    "statement_cache_capacity",
    "statement_cache_size",
    "uselibpqcompat",
    // Kerberos, which is not spoken.
    "gssdelegation",
];

/// Whether a parameter says nothing to us.
pub(super) fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name)
}

/// Why a known parameter is not taken, and what to write instead.
pub(super) fn refusal(name: &str, purpose: Purpose) -> Option<&'static str> {
    let own = purpose == Purpose::Own;
    Some(match name {
        "schema" | "currentSchema" if own => "is the key `postgres.schema`",
        "schema" | "currentSchema" => "is not taken: name the table with its schema",
        "connection_limit" | "pool" | "pool_size" | "max_connections" | "pool_max_conns" if own => {
            "is the key `postgres.max_connections`"
        }
        "connection_limit" | "pool" | "pool_size" | "max_connections" | "pool_max_conns" => {
            "is not taken: leave it out, an import has one connection"
        }
        "statement_timeout" => "is the key `postgres.statement_timeout`",
        "pgbouncer" => {
            "is not taken: connect to PostgreSQL itself, or to a pool in session mode, and leave it \
             out"
        }
        "sslaccept" => {
            "is not known here: `sslmode=verify-full` verifies the server's certificate, \
             `sslmode=require` does not"
        }
        "sslfactory" | "sslhostnameverifier" | "sslfactoryarg" | "sslpasswordcallback" => {
            "names a class of Java: `sslmode` says what is verified, `sslrootcert` by which \
             authority (PEM)"
        }
        "sslidentity" => "is not known here: `sslcert` and `sslkey` name PEM files",
        "sslpassword" => {
            "is not taken: a key is read unencrypted (`openssl pkey -in KEY -out PLAIN`), from a \
             file that nobody else may read"
        }
        "sslcrl" | "sslcrldir" => {
            "is not taken: lists of revoked certificates are not looked at; take the authority's \
             certificate away instead"
        }
        "require_auth" | "requirepeer" => "is not taken: it cannot be checked here; leave it out",
        "krbsrvname" | "gsslib" | "jaasApplicationName" | "jaasLogin" | "kerberosServerName" => {
            "is not taken: Kerberos is not spoken"
        }
        "replication" => "is not taken: no replication is spoken",
        "Host" | "Server" | "Username" | "User Id" | "Database" | "Data Source" => {
            "is the form of .NET: write postgres://user:password@host:5432/db"
        }
        "instance" | "cloud_sql_instance" | "socketFactory" | "cloudSqlInstance" => {
            "is not taken: connect by an address, or by the folder of a socket (`host=/folder`)"
        }
        _ => return None,
    })
}

/// Gives parameters of JDBC and of others the names that libpq has for them.
pub(super) fn translate(given: &mut BTreeMap<String, Given>) -> Result<(), Refused> {
    for (theirs, ours) in [
        ("ApplicationName", "application_name"),
        ("connectTimeout", "connect_timeout"),
        ("loginTimeout", "connect_timeout"),
        ("tcpKeepAlive", "keepalives"),
        ("targetServerType", "target_session_attrs"),
        ("loadBalanceHosts", "load_balance_hosts"),
        ("keepalives_retries", "keepalives_count"),
        ("requiressl", "sslmode"),
        ("ssl", "sslmode"),
    ] {
        let Some(mut said) = given.remove(theirs) else {
            continue;
        };
        let value = said.value.as_str();
        said.value = match theirs {
            "tcpKeepAlive" | "requiressl" | "loadBalanceHosts" | "ssl" => {
                switched(theirs, value, said.jdbc)?
            }
            "targetServerType" => match value {
                "master" => "primary",
                "slave" | "secondary" => "standby",
                "preferSlave" | "preferSecondary" => "prefer-standby",
                // The service writes: a standby is of no use.
                "preferPrimary" => "primary",
                other => other,
            }
            .to_owned(),
            _ => value.to_owned(),
        };
        given.entry(ours.to_owned()).or_insert(said);
    }
    Ok(())
}

/// What a switch of another driver is called here.
fn switched(name: &str, value: &str, jdbc: bool) -> Result<String, Refused> {
    let on = match value {
        "true" | "1" => true,
        "false" | "0" => false,
        // asyncpg's `ssl` takes the words of `sslmode`.
        other if name == "ssl" => return Ok(other.to_owned()),
        _ => return Err(Refused::parameter(name, "must be true or false")),
    };
    let word = match (name, on) {
        ("tcpKeepAlive", true) => "1",
        ("tcpKeepAlive", false) => "0",
        ("loadBalanceHosts", true) => "random",
        ("loadBalanceHosts", false) => "disable",
        // JDBC verifies where libpq does not.
        (_, true) if jdbc => "verify-full",
        (_, true) => "require",
        (_, false) => "prefer",
    };
    Ok(word.to_owned())
}
