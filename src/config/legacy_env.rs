//! Environment variables of the service that this one replaces, and those that OpenTelemetry and the
//! SDKs of AWS have given the same names everywhere.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::setting::Setting;

/// Variables that correspond to exactly one key.
const SIMPLE: [(&str, &str); 11] = [
    ("MINIO_ENDPOINT_URL", "s3.endpoint"),
    ("MINIO_ACCESS_KEY", "s3.access_key"),
    ("MINIO_SECRET_KEY", "s3.secret_key"),
    ("EVENT_STORE_BUCKET", "s3.bucket"),
    ("AWS_CA_BUNDLE", "s3.ca"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka.bootstrap"),
    ("MESSAGE_RELAY_BATCH_SIZE", "relay.batch_size"),
    ("OMS_PORT", "http.port"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("OTEL_TRACES_SAMPLER_ARG", "telemetry.traces_ratio"),
    ("OTEL_SERVICE_NAME", "telemetry.service_name"),
];

/// Every variable that is read.
pub(super) const NAMES: [&str; 21] = [
    "MINIO_ENDPOINT_URL",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "EVENT_STORE_BUCKET",
    "AWS_CA_BUNDLE",
    "KAFKA_BOOTSTRAP_SERVERS",
    "MESSAGE_RELAY_BATCH_SIZE",
    "MESSAGE_RELAY_POLL_INTERVAL",
    "OMS_PORT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_SERVICE_NAME",
    "LOG_LEVEL",
    "POSTGRES_URL",
    "POSTGRES_HOST",
    "POSTGRES_PORT",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
    "ENABLE_S3_EVENT_STORE",
    "ENABLE_DUAL_WRITE",
];

/// Kubernetes sets a variable `NAME_PORT` with an address for every service of a namespace: what it
/// sets for a service called `oms` or `postgres` is not meant as a port of ours.
const PORTS: [&str; 2] = ["OMS_PORT", "POSTGRES_PORT"];

fn is_service_link(name: &str, value: &str) -> bool {
    let schemes = ["tcp://", "udp://", "sctp://"];
    PORTS.contains(&name) && schemes.iter().any(|scheme| value.starts_with(scheme))
}

/// The settings that those variables stand for, with our keys.
pub(super) fn settings(env: &[(String, String)]) -> Vec<Setting> {
    let get = |name: &str| {
        debug_assert!(NAMES.contains(&name), "{name} is not in the list");
        env.iter()
            .find(|(n, value)| n == name && !value.is_empty() && !is_service_link(n, value))
            .map(|(_, value)| value.as_str())
    };
    let mut settings: Vec<Setting> = SIMPLE
        .iter()
        .filter_map(|(name, key)| Some(Setting::variable(*key, name, get(name)?)))
        .collect();
    if let Some(level) = get("LOG_LEVEL") {
        // Python's names of log levels.
        let level = match level.to_lowercase().as_str() {
            "warning" => "warn".to_owned(),
            "critical" => "error".to_owned(),
            other => other.to_owned(),
        };
        settings.push(Setting::variable("telemetry.log_level", "LOG_LEVEL", level));
    }
    if let Some(interval) = get("MESSAGE_RELAY_POLL_INTERVAL") {
        // A bare number is in seconds.
        let bare = interval.parse::<u32>().is_ok();
        let value = format!("{interval}{}", if bare { "s" } else { "" });
        let name = "MESSAGE_RELAY_POLL_INTERVAL";
        settings.push(Setting::variable("relay.poll_interval", name, value));
    }
    if let Some(url) = get("POSTGRES_URL") {
        settings.push(Setting::variable("postgres.url", "POSTGRES_URL", url));
    } else if let Some(host) = get("POSTGRES_HOST") {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let mut url = String::from("postgres://");
        if let Some(user) = get("POSTGRES_USER") {
            url.push_str(&encode(user).to_string());
            if let Some(password) = get("POSTGRES_PASSWORD") {
                url.push_str(&format!(":{}", encode(password)));
            }
            url.push('@');
        }
        url.push_str(&format!(
            "{host}:{}",
            get("POSTGRES_PORT").unwrap_or("5432")
        ));
        if let Some(db) = get("POSTGRES_DB") {
            url.push_str(&format!("/{}", encode(db)));
        }
        settings.push(Setting::variable("postgres.url", "POSTGRES_HOST", url));
    }
    settings.extend(mode(get("ENABLE_S3_EVENT_STORE"), get("ENABLE_DUAL_WRITE")));
    settings
}

/// The two flags of the old service. As there, only the word `true` counts, and dual write is on
/// unless switched off.
fn mode(s3: Option<&str>, dual: Option<&str>) -> Option<Setting> {
    let on = |flag: &str| flag.eq_ignore_ascii_case("true");
    let value = match (on(s3?), dual.is_none_or(on)) {
        (false, _) => "legacy",
        (true, true) => "dual_write",
        (true, false) => "s3_only",
    };
    let names = "ENABLE_S3_EVENT_STORE with ENABLE_DUAL_WRITE";
    Some(Setting::variable("migration.mode", names, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::adapters::postgres::connection::written::Written;

    fn value(env: &[(&str, &str)], key: &str) -> Option<String> {
        let env: Vec<_> = env
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        let all = settings(&env);
        all.into_iter().find(|s| s.key == key).map(|s| s.value)
    }

    #[test]
    fn the_predecessors_flags_choose_the_mode_they_chose_there() {
        let mode = |env: &[(&str, &str)]| value(env, "migration.mode");
        let s3 = "ENABLE_S3_EVENT_STORE";
        let dual = "ENABLE_DUAL_WRITE";
        assert_eq!(mode(&[]), None);
        assert_eq!(mode(&[(dual, "true")]), None);
        assert_eq!(mode(&[(s3, "false"), (dual, "true")]).unwrap(), "legacy");
        assert_eq!(mode(&[(s3, "1")]).unwrap(), "legacy");
        assert_eq!(mode(&[(s3, "true")]).unwrap(), "dual_write");
        assert_eq!(mode(&[(s3, "True"), (dual, "false")]).unwrap(), "s3_only");
    }

    #[test]
    fn postgres_in_parts_becomes_one_url_whatever_the_password_is_made_of() {
        let env = [
            ("POSTGRES_HOST", "db"),
            ("POSTGRES_USER", "me"),
            ("POSTGRES_PASSWORD", "p@ss/w:rd"),
            ("POSTGRES_DB", "app"),
        ];
        let url = value(&env, "postgres.url").unwrap();
        let written = Written::parse(&url).unwrap();
        assert_eq!(written.get("password"), Some("p@ss/w:rd"));
        assert_eq!(written.get("dbname"), Some("app"));
        let whole = [
            ("POSTGRES_URL", "postgres://other/x"),
            ("POSTGRES_HOST", "db"),
        ];
        assert_eq!(value(&whole, "postgres.url").unwrap(), "postgres://other/x");
    }

    #[test]
    fn what_kubernetes_says_of_its_services_is_no_port_of_ours() {
        let link = ("OMS_PORT", "tcp://10.43.7.9:8000");
        assert_eq!(value(&[link], "http.port"), None);
        assert_eq!(value(&[("OMS_PORT", "8080")], "http.port").unwrap(), "8080");
        let env = [
            ("POSTGRES_HOST", "db"),
            ("POSTGRES_PORT", "tcp://10.43.7.8:5432"),
        ];
        assert_eq!(value(&env, "postgres.url").unwrap(), "postgres://db:5432");
        // Not of that form: a mistake, to be named.
        let odd = value(&[("OMS_PORT", "http://x")], "http.port");
        assert_eq!(odd.unwrap(), "http://x");
    }

    #[test]
    fn seconds_stay_seconds() {
        let interval = |v| value(&[("MESSAGE_RELAY_POLL_INTERVAL", v)], "relay.poll_interval");
        assert_eq!(interval("5").unwrap(), "5s");
        assert_eq!(interval("250ms").unwrap(), "250ms");
    }
}
