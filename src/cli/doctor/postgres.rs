//! PostgreSQL: reach, version, schema, rights, sessions, durability, connections, clock.

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::{Area, Check, Finding};
use super::clocks;
use super::targets::Target;
use crate::clock::now;
use crate::store::adapters::postgres::PostgresSettings;
use crate::store::adapters::postgres::connection::tls::Verify;
use crate::store::adapters::postgres::connection::{Connection, Purpose};
use crate::store::adapters::postgres::inspect::{
    Found, Inspection, Rights, Schema, Server, Tried, inspect,
};
use crate::store::error::{StoreError, StoreErrorKind};

const AREA: Area = Area::Postgres;

/// Two connections, some statements, a transaction that is rolled back.
const DEADLINE: Duration = Duration::from_secs(20);

/// What is not checked when the database is not reached.
const AFTER_REACH: [&str; 9] = [
    "transport",
    "version",
    "schema",
    "rights",
    "sessions",
    "writable",
    "durability",
    "connections",
    "clock",
];

/// Of a statement, from where the outbox and the read model fall behind.
const SLOW: Duration = Duration::from_millis(50);

/// What was found, and by how many seconds the server's clock is ahead.
pub async fn checks(target: &Target<PostgresSettings>) -> (Vec<Check>, Option<f64>) {
    let (settings, write) = match target {
        Target::Own(settings) => (settings, true),
        Target::Embedded(settings) => (settings, false),
        Target::Absent(why) => {
            let names = [&["reach"][..], &AFTER_REACH].concat();
            return (AREA.skip(&names, why), None);
        }
    };
    let mut found = None;
    let reach = AREA.within("reach", DEADLINE, async {
        match inspect(settings, now, write).await {
            Err(error) => unreached(&error),
            Ok(Found::NoDatabase(name)) => no_database(&name),
            Ok(Found::Database(inspection)) => {
                let finding = reached(&inspection);
                found = Some(inspection);
                finding
            }
        }
    });
    let mut checks = vec![reach.await];
    let Some(found) = found else {
        checks.extend(AREA.skip(&AFTER_REACH, "the database is not reached"));
        return (checks, None);
    };
    checks.extend(judge(&found, settings));
    (checks, Some(found.clock_ahead))
}

fn judge(found: &Inspection, settings: &PostgresSettings) -> Vec<Check> {
    let server = &found.server;
    let findings = [
        ("transport", transport(server, settings)),
        ("version", version(found)),
        ("schema", schema(&found.schema, &settings.schema, server)),
        ("rights", rights(found, &settings.schema)),
        ("sessions", sessions(found, &settings.schema)),
        ("writable", writable(server, found.rights.is_some())),
        ("durability", durability(server)),
        ("connections", connections(server, settings.max_connections)),
        ("clock", clocks::server(found.clock_ahead)),
    ];
    findings
        .into_iter()
        .map(|(name, finding)| AREA.check(name, finding))
        .collect()
}

fn unreached(error: &StoreError) -> Finding {
    let message = &error.message;
    // Poolers that keep no sessions take none of the settings that ours begin with.
    let pooler = message.contains("startup parameter") || message.contains("(08P01)");
    let advice = match error.kind {
        _ if pooler => {
            "a pooler stands between that does not take the settings of a session: connect to \
             PostgreSQL itself, or give this service a pool in session mode; it has a pool of its \
             own"
        }
        _ if [
            "our certificate",
            "client certificate",
            "certificate authentication failed",
        ]
        .iter()
        .any(|said| message.contains(said)) =>
        {
            "postgres.client_cert and postgres.client_key (or sslcert and sslkey in postgres.url) \
             name what the service shows; the server's ssl_ca_file has to have its authority, and \
             its name (CN) is the account's unless pg_ident.conf says otherwise"
        }
        StoreErrorKind::Unavailable if message.contains("certificate") => {
            "the service waits for it: have the certificate renewed at the server, and look at the \
             clocks here and there"
        }
        _ if message.contains("certificate") => {
            "the service does not start on it: postgres.ca (or sslrootcert in postgres.url) names the \
             authority, sslmode what is verified; docs/OPERATIONS.md has the table"
        }
        StoreErrorKind::Denied => {
            "postgres.url names the account and postgres.password its password: compare them with \
             the server's, and its pg_hba.conf with this machine's address"
        }
        StoreErrorKind::Invalid => {
            "correct postgres.url: docs/OPERATIONS.md says how it is written"
        }
        _ => {
            "is postgres.url right, does the server run, does a firewall stand between? With \
             PostgreSQL away queries are refused and delivery waits; where it leads, writes too"
        }
    };
    Finding::failed(message, advice)
}

fn no_database(name: &str) -> Finding {
    Finding::warning(
        format!("the server answers, and has no database {name}"),
        format!(
            "the service makes it at its start if its account may (CREATEDB); otherwise: CREATE \
             DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"
        ),
    )
}

fn reached(found: &Inspection) -> Finding {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let seen = format!(
        "the database {} answers {}; connected in {:.0} ms, p50 of a statement {:.1} ms",
        found.server.database,
        found.server.user,
        ms(found.connected_in),
        ms(found.statement)
    );
    match found.statement > SLOW {
        false => Finding::ok(seen),
        true => Finding::warning(
            seen,
            "move service and database nearer to one another: every row of the outbox makes this \
             way twice",
        ),
    }
}

fn transport(server: &Server, settings: &PostgresSettings) -> Finding {
    let connection = settings.connection(Purpose::Own).ok();
    let here = connection.as_ref().is_some_and(Connection::is_here);
    let unverified = connection
        .and_then(|connection| connection.tls)
        .is_some_and(|tls| tls.verify == Verify::Nothing);
    match (server.tls, here) {
        (true, false) if unverified => Finding::warning(
            "TLS, and the server's certificate is not verified: whoever stands between can take its \
             place",
            "sslmode=verify-full in postgres.url; sslrootcert, or postgres.ca, names the authority \
             if it is none that the system knows",
        ),
        (true, _) => {
            Finding::ok("the server's connection is TLS (behind a pooler: the pooler's to it)")
        }
        (false, true) => Finding::ok("no TLS, on this machine"),
        (false, false) => Finding::warning(
            "no TLS: rows and password can be read on the way",
            "sslmode=verify-full in postgres.url, or make sure that the network between is yours \
             alone",
        ),
    }
}

fn version(found: &Inspection) -> Finding {
    match &found.unfit {
        None => Finding::ok(format!("PostgreSQL {}, UTF8", found.server.version)),
        Some(why) => Finding::failed(
            why,
            "the service refuses to start on it: use PostgreSQL 13 or newer, and a database in \
             UTF8",
        ),
    }
}

fn schema(schema: &Schema, name: &str, server: &Server) -> Finding {
    if let Some(why) = &schema.refused {
        return Finding::failed(
            why,
            "run the version of this program that made the schema, or a newer one; never an older \
             one",
        );
    }
    let (user, database) = (&server.user, &server.database);
    match (schema.exists, schema.may_create, schema.pending.as_slice()) {
        (false, true, _) => Finding::ok(format!(
            "there is no schema {name} yet; the service makes it"
        )),
        (false, false, _) => Finding::failed(
            format!("there is no schema {name} in {database}, and {user} may not make it"),
            format!("let an administrator run CREATE SCHEMA {name} AUTHORIZATION {user}"),
        ),
        (true, _, []) => Finding::ok(format!("{name} is at step {}, the newest", schema.applied)),
        (true, _, pending) => Finding::warning(
            format!("{name} lacks the steps {}", pending.join(", ")),
            "a service of this version makes them at its start; back up first, since older \
             versions do not work on it afterwards",
        ),
    }
}

fn rights(found: &Inspection, schema: &str) -> Finding {
    let Some(Rights {
        tried,
        closed,
        foreign,
    }) = &found.rights
    else {
        return Finding::skipped("the running service hands out an account that only reads");
    };
    let user = &found.server.user;
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}");
    match tried {
        // Said under `schema`.
        Tried::NoSchema => return Finding::skipped("there is no schema to try them in"),
        Tried::Denied(why) | Tried::Refused(why) => {
            let seen = format!("{user} cannot make a table and write to it: {why}");
            let advice = match (found.server.in_recovery || found.server.read_only, tried) {
                (true, _) => "connect to the primary, for writing".to_owned(),
                (false, Tried::Denied(_)) => format!("let an administrator run {grant}"),
                _ => "it is no missing right: see what PostgreSQL says, then try again".to_owned(),
            };
            return Finding::failed(seen, advice);
        }
        Tried::Worked => {}
    }
    if !closed.is_empty() {
        return Finding::failed(
            format!("{user} cannot read and write {}", closed.join(", ")),
            format!(
                "let their owner run GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \
                 {schema} TO {user}"
            ),
        );
    }
    if !foreign.is_empty() {
        return Finding::warning(
            format!("{} belong to somebody else", foreign.join(", ")),
            format!(
                "the next step of the schema will fail: let an administrator run REASSIGN OWNED, \
                 or ALTER TABLE … OWNER TO {user}"
            ),
        );
    }
    Finding::ok("makes tables and writes (tried, and rolled back)")
}

/// Whether a session keeps what is set in it, and keeps its process.
fn sessions(found: &Inspection, schema: &str) -> Finding {
    let advice = "connect to PostgreSQL itself, or give this service a pool in session mode: it \
                  prepares statements and sets its search_path once for each connection, and has a \
                  pool of its own";
    if found.server.search_path != schema {
        return Finding::failed(
            format!(
                "search_path is {}, although {schema} was asked for: something between takes the \
                 settings of a session away",
                found.server.search_path
            ),
            advice,
        );
    }
    match &found.served_by {
        None => Finding::warning(
            "a second connection was not to be had",
            "look at the limits of server, account and pooler: the service needs several",
        ),
        Some([one, other]) if is_shared(one, other) => Finding::failed(
            "two sessions were served by the same process, or one by several: a pooler in \
             transaction mode stands between",
            advice,
        ),
        Some(_) => Finding::ok("each has a process of its own, and keeps what is set"),
    }
}

fn is_shared(one: &[String], other: &[String]) -> bool {
    let [one, other] = [one, other].map(|pids| pids.iter().collect::<BTreeSet<_>>());
    one.len() > 1 || other.len() > 1 || !one.is_disjoint(&other)
}

/// `writes`: the account is the service's own; one that only reads is read-only on purpose.
fn writable(server: &Server, writes: bool) -> Finding {
    let advice = "connect to the primary: with several hosts, add target_session_attrs=read-write \
                  to postgres.url";
    if server.in_recovery {
        return Finding::failed("this is a standby, where nothing can be written", advice);
    }
    if server.read_only && writes {
        return Finding::failed(
            "transactions are read-only (default_transaction_read_only)",
            format!(
                "{advice}; on a primary, ALTER DATABASE {} RESET default_transaction_read_only",
                server.database
            ),
        );
    }
    Finding::ok("a primary, not a standby")
}

fn durability(server: &Server) -> Finding {
    let settings = [
        ("fsync", &server.fsync),
        ("synchronous_commit", &server.synchronous_commit),
        ("full_page_writes", &server.full_page_writes),
    ];
    let off = settings.iter().filter(|(_, value)| value.as_str() == "off");
    let off: Vec<&str> = off.map(|(name, _)| *name).collect();
    if off == ["full_page_writes"] {
        return Finding::warning(
            "full_page_writes is off",
            "right only where storage never tears a page (copy-on-write file systems, Aurora); \
             otherwise turn it on",
        );
    }
    if !off.is_empty() {
        return Finding::failed(
            format!("{} is off", off.join(", ")),
            "turn it on: where PostgreSQL leads, an acknowledged write would be lost with a crash",
        );
    }
    if server.autovacuum == "off" {
        return Finding::warning(
            "autovacuum is off",
            "turn it on: rows of the outbox come and go, and the table would only grow",
        );
    }
    Finding::ok(format!(
        "fsync and full_page_writes are on, synchronous_commit is {}",
        server.synchronous_commit
    ))
}

fn connections(server: &Server, pool: usize) -> Finding {
    let pool = i32::try_from(pool).unwrap_or(i32::MAX);
    let limits = [
        server.max_connections,
        server.role_limit,
        server.database_limit,
    ];
    let limit = limits
        .into_iter()
        .filter(|limit| *limit >= 0)
        .min()
        .unwrap_or(0);
    let advice = "raise max_connections (or the limit of the account), or lower \
                  postgres.max_connections, times the number of processes";
    if limit < pool {
        return Finding::failed(
            format!("at most {limit} connections, and one process of the service uses {pool}"),
            advice,
        );
    }
    // A running service's own are not in its way.
    let others = (server.connections - server.own_connections).max(0);
    let seen = format!("{limit} at most, {others} in use by others; the service uses {pool}");
    if others + pool > server.max_connections {
        return Finding::warning(seen, advice);
    }
    Finding::ok(seen)
}

#[cfg(test)]
mod tests;
