//! What each parameter of libpq means.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, TargetSessionAttrs};

use super::environment::Environment;
use super::foreign;
use super::tls::Asked;
use super::tls_parameters;
use super::written::Given;
use super::{CertificateFiles, Purpose, Refused};

/// Adds what the configuration says beside the connection string; said twice it is refused.
pub(super) fn add_files(
    given: &mut BTreeMap<String, Given>,
    files: &CertificateFiles,
) -> Result<(), Refused> {
    foreign::translate(given)?;
    for (name, key, path) in [
        ("sslrootcert", "postgres.ca", &files.ca),
        ("sslcert", "postgres.client_cert", &files.client_cert),
        ("sslkey", "postgres.client_key", &files.client_key),
    ] {
        let Some(path) = path else { continue };
        if given.contains_key(name) {
            let reason = format!("is given twice, as `{key}` too: once is enough");
            return Err(Refused::parameter(name, reason));
        }
        given.insert(name.to_owned(), said(&path.display().to_string(), true));
    }
    Ok(())
}

/// Adds what the environment says, where nothing stronger is said.
pub(super) fn add_environment(given: &mut BTreeMap<String, Given>, environment: &Environment) {
    // One of a pair that is given completely is not mixed with the other.
    let own_certificate = given.contains_key("sslcert") || given.contains_key("sslkey");
    for (name, variable) in [
        ("sslmode", "PGSSLMODE"),
        ("sslrootcert", "PGSSLROOTCERT"),
        ("sslcert", "PGSSLCERT"),
        ("sslkey", "PGSSLKEY"),
    ] {
        let taken = own_certificate && matches!(name, "sslcert" | "sslkey");
        if let Some(value) = environment.get(variable).filter(|_| !taken) {
            let entry = given.entry(name.to_owned());
            entry.or_insert_with(|| said(value, false));
        }
    }
}

fn said(value: &str, explicit: bool) -> Given {
    Given {
        value: value.to_owned(),
        tellable: true,
        explicit,
        jdbc: false,
    }
}

/// Applies everything that is given. What is wrong is told all at once.
pub(super) fn read(
    given: &BTreeMap<String, Given>,
    purpose: Purpose,
) -> Result<(Config, Asked), Refused> {
    let (mut config, mut asked) = (Config::new(), Asked::default());
    let mut wrong = Vec::new();
    for (name, given) in given.iter().filter(|(_, given)| !given.value.is_empty()) {
        if let Err(reason) = apply(name, given, purpose, &mut config, &mut asked) {
            wrong.push(match given.tellable {
                true => format!("`{name}` {reason}"),
                false => "has a parameter that is not known, and that is not told here because it \
                          may be a piece of a password: in a URL / ? # @ & of a password are \
                          written %2F %3F %23 %40 %26, among key=value pairs a password with blanks \
                          stands in quotes"
                    .to_owned(),
            });
        }
    }
    if wrong.is_empty()
        && let Err(reason) = places(&mut config)
    {
        wrong.push(reason);
    }
    match wrong.is_empty() {
        true => Ok((config, asked)),
        false => Err(Refused(wrong.join("; "))),
    }
}

/// Holds hosts, addresses and ports to each other.
fn places(config: &mut Config) -> Result<(), String> {
    let addresses = config.get_hostaddrs().to_vec();
    if config.get_hosts().is_empty() {
        // What the certificate has to stand for then.
        for address in &addresses {
            config.host(address.to_string());
        }
    }
    let hosts = config.get_hosts().len();
    if !addresses.is_empty() && addresses.len() != hosts {
        return Err(format!(
            "`hostaddr` has {} addresses, and `host` {hosts} names: give as many, or one of the two",
            addresses.len()
        ));
    }
    let ports = config.get_ports().len();
    if ports > 1 && ports != hosts {
        return Err(format!(
            "`port` has {ports} numbers for {hosts} hosts: give one for all, or one for each"
        ));
    }
    Ok(())
}

fn apply(
    name: &str,
    given: &Given,
    purpose: Purpose,
    config: &mut Config,
    asked: &mut Asked,
) -> Result<(), String> {
    let value = given.value.as_str();
    match name {
        "user" => drop(config.user(value)),
        "password" => drop(config.password(value)),
        "dbname" => drop(config.dbname(value)),
        "options" => drop(config.options(value)),
        "application_name" => drop(config.application_name(value)),
        // Weaker than the one above, which comes first in the order of names.
        "fallback_application_name" => {
            if config.get_application_name().is_none() {
                config.application_name(value);
            }
        }
        "host" => {
            for host in value.split(',') {
                if host.is_empty() {
                    return Err("has an empty name".into());
                }
                config.host(host);
            }
        }
        "hostaddr" => {
            for address in value.split(',') {
                let parsed = address.parse::<IpAddr>();
                config.hostaddr(parsed.map_err(|_| "must be IP addresses")?);
            }
        }
        "port" => {
            for port in value.split(',') {
                config.port(match port {
                    "" => 5432,
                    port => match port.parse() {
                        Ok(port) if port > 0 => port,
                        _ => return Err("must be a number from 1 to 65535".into()),
                    },
                });
            }
        }
        "connect_timeout" => {
            if let Some(seconds) = number(value)?.filter(|seconds| *seconds > 0) {
                config.connect_timeout(Duration::from_secs(seconds));
            }
        }
        "tcp_user_timeout" => {
            if let Some(ms) = number(value)?.filter(|ms| *ms > 0) {
                config.tcp_user_timeout(Duration::from_millis(ms));
            }
        }
        "keepalives" => drop(config.keepalives(number(value)? != Some(0))),
        "keepalives_idle" => {
            if let Some(seconds) = number(value)?.filter(|seconds| *seconds > 0) {
                config.keepalives_idle(Duration::from_secs(seconds));
            }
        }
        "keepalives_interval" => {
            if let Some(seconds) = number(value)?.filter(|seconds| *seconds > 0) {
                config.keepalives_interval(Duration::from_secs(seconds));
            }
        }
        "keepalives_count" => {
            if let Some(count) = number(value)?.filter(|count| *count > 0) {
                config.keepalives_retries(u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        "target_session_attrs" => {
            config.target_session_attrs(session(value, purpose)?);
        }
        "load_balance_hosts" => {
            config.load_balance_hosts(match value {
                "disable" => LoadBalanceHosts::Disable,
                "random" => LoadBalanceHosts::Random,
                _ => return Err("must be disable or random".into()),
            });
        }
        "channel_binding" => {
            config.channel_binding(match value {
                "disable" => ChannelBinding::Disable,
                "prefer" => ChannelBinding::Prefer,
                "require" => ChannelBinding::Require,
                _ => return Err("must be disable, prefer or require".into()),
            });
        }
        "client_encoding" => {
            let plain = value.replace(['-', '_'], "").to_lowercase();
            if !matches!(plain.as_str(), "utf8" | "unicode" | "auto") {
                return Err("must be UTF8: leave it out".into());
            }
        }
        // Nothing is encrypted by GSSAPI here.
        "gssencmode" => match value {
            "disable" | "prefer" => {}
            "require" => return Err("cannot be require: GSSAPI is not spoken, TLS is".into()),
            _ => return Err("must be disable or prefer".into()),
        },
        // Looked at already.
        "service" | "servicefile" | "passfile" => {}
        name if name.starts_with("ssl") && tls_parameters::apply(name, given, asked)? => {}
        name if foreign::is_ignored(name) => {}
        name => {
            return Err(foreign::refusal(name, purpose)
                .unwrap_or("is not known: leave it out")
                .to_owned());
        }
    }
    Ok(())
}

fn number(value: &str) -> Result<Option<u64>, String> {
    match value.parse::<i64>() {
        Ok(number) => Ok(u64::try_from(number).ok()),
        Err(_) => Err("must be a whole number".into()),
    }
}

fn session(value: &str, purpose: Purpose) -> Result<TargetSessionAttrs, String> {
    Ok(match (value, purpose) {
        ("any", _) => TargetSessionAttrs::Any,
        ("read-write" | "primary", _) => TargetSessionAttrs::ReadWrite,
        // A standby is preferred, and whatever answers is good enough.
        ("prefer-standby", Purpose::Source) => TargetSessionAttrs::Any,
        ("read-only" | "standby", Purpose::Source) => TargetSessionAttrs::ReadOnly,
        ("read-only" | "standby" | "prefer-standby", Purpose::Own) => {
            return Err(
                "must be read-write, primary or any: the service writes to this database".into(),
            );
        }
        _ => {
            return Err("must be any, read-write, primary, read-only, standby or \
                        prefer-standby"
                .into());
        }
    })
}
