//! libpq's file of passwords: `~/.pgpass`, or the one that `passfile` or `PGPASSFILE` names.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::Refused;
use super::environment::Environment;

/// Group and others.
const OTHERS: u32 = 0o077;

/// The password for these hosts, this database and this account; the first host that has one decides.
/// `named`: the file that the connection string names, which has to be there. One that the
/// environment names may be meant for other programs: as libpq does, it is left out with a warning.
pub(super) fn find(
    config: &Config,
    named: Option<&str>,
    environment: &Environment,
) -> Result<Option<String>, Refused> {
    let explicit = named.is_some();
    let named = named.map(PathBuf::from);
    let named = named.or_else(|| environment.path("PGPASSFILE"));
    let by_default = named.is_none();
    let Some(path) = named.or_else(|| environment.at_home(".pgpass")) else {
        return Ok(None);
    };
    let text = match read(&path) {
        Ok(text) => text,
        Err(reason) if explicit => return Err(Refused::parameter("passfile", reason)),
        Err(Unreadable::Missing) if by_default => return Ok(None),
        Err(reason) => {
            tracing::warn!(file = %path.display(), "what is meant to be the file of passwords {reason}; it is not used");
            return Ok(None);
        }
    };
    let user = config.get_user().or_else(|| environment.get("USER"));
    let user = user.unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    let ports = config.get_ports();
    let mut hosts = config.get_hosts().iter().enumerate();
    Ok(hosts.find_map(|(i, host)| {
        let host = match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
        let wanted = [&host, &port.to_string(), database, user];
        text.lines().find_map(|line| password(line, wanted))
    }))
}

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("names a file that does not exist")]
    Missing,
    #[error("names a file that others can read: chmod 0600")]
    Open,
    #[error("names a file that cannot be read: {0}")]
    Failed(std::io::Error),
}

/// The text of the file, unless others may read it too.
fn read(path: &Path) -> Result<String, Unreadable> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Failed(e),
    };
    let about = std::fs::metadata(path).map_err(failed)?;
    if about.mode() & OTHERS != 0 {
        return Err(Unreadable::Open);
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// The password of a line `host:port:database:user:password`, if the line is about the `wanted`.
fn password(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line.chars().peekable();
    for wanted in wanted {
        let (mut field, mut escaped, mut ended) = (String::new(), false, false);
        while let Some(c) = rest.next() {
            match c {
                '\\' => {
                    escaped = true;
                    field.extend(rest.next());
                }
                ':' => {
                    ended = true;
                    break;
                }
                c => field.push(c),
            }
        }
        let any = field == "*" && !escaped;
        if !ended || !(any || field == wanted) {
            return None;
        }
    }
    let mut password = String::new();
    while let Some(c) = rest.next() {
        match c {
            '\\' => password.extend(rest.next()),
            c => password.push(c),
        }
    }
    Some(password).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_what_it_names_and_takes_escapes() {
        let wanted = ["db.example", "5432", "app", "me"];
        for (line, found) in [
            ("db.example:5432:app:me:secret", Some("secret")),
            ("*:*:*:me:p\\:w\\\\d", Some("p:w\\d")),
            ("*:5433:*:me:secret", None),
            ("db.example:*:app:you:secret", None),
            ("\\*:*:*:me:secret", None),
            ("# *:*:*:*:secret", None),
            ("db.example:5432:app:me", None),
        ] {
            assert_eq!(password(line, wanted).as_deref(), found, "{line}");
        }
        let six = ["::1", "5432", "app", "me"];
        assert_eq!(password("\\:\\:1:*:*:*:x", six).as_deref(), Some("x"));
    }
}
