//! Where the three dependencies are: as configured, or with a running service that brings its own.

use crate::boot::stores;
use crate::config::Config;
use crate::config::endpoints::{self, Endpoints};
use crate::embedded;
use crate::store::adapters::kafka::KafkaSettings;
use crate::store::adapters::postgres::PostgresSettings;
use crate::store::adapters::s3::S3Settings;

/// A dependency.
#[derive(Debug, Clone)]
pub enum Target<T> {
    /// It is configured; these are the service's own credentials.
    Own(T),
    /// It is part of a running service, which hands out credentials that only read.
    Embedded(T),
    /// It is part of the service, which does not run; or why it is not known.
    Absent(String),
}

/// All three.
#[derive(Debug)]
pub struct Targets {
    pub s3: Target<S3Settings>,
    pub postgres: Target<PostgresSettings>,
    pub kafka: Target<KafkaSettings>,
}

impl Targets {
    /// `running`: the addresses of the service that runs on the data directory, or why there are
    /// none.
    pub fn of(config: &Config, running: &Result<Endpoints, String>) -> Self {
        let told = running.as_ref().ok();
        // The functions of the start take addresses as the embedded parts give them.
        let parts = embedded::Endpoints {
            postgres: told.and_then(|e| e.postgres.clone()),
            kafka: told.and_then(|e| e.kafka.clone()),
            ..embedded::Endpoints::default()
        };
        let absent = || match running {
            Err(why) => format!("the service brings its own, and {why}"),
            Ok(_) => "the running service brings none of its own".to_owned(),
        };
        let placed = |is_embedded: bool, there: bool| match (is_embedded, there) {
            (false, _) => Some(false),
            (true, true) => Some(true),
            (true, false) => None,
        };
        let s3 = match (config.s3.settings(), told.and_then(|e| e.s3.as_ref())) {
            (Some(settings), _) => Target::Own(settings),
            (None, Some(s3)) => {
                Target::Embedded(endpoints::s3_settings(s3, config.s3.request_timeout))
            }
            (None, None) => Target::Absent(absent()),
        };
        let postgres = placed(config.postgres.is_embedded(), parts.postgres.is_some());
        let kafka = placed(config.kafka.is_embedded(), parts.kafka.is_some());
        Self {
            s3,
            postgres: target(postgres, absent(), || {
                stores::postgres_settings(config, &parts)
            }),
            kafka: target(kafka, absent(), || stores::kafka_settings(config, &parts)),
        }
    }
}

fn target<T>(
    is_embedded: Option<bool>,
    absent: String,
    settings: impl FnOnce() -> anyhow::Result<T>,
) -> Target<T> {
    let Some(is_embedded) = is_embedded else {
        return Target::Absent(absent);
    };
    match settings() {
        Ok(settings) if is_embedded => Target::Embedded(settings),
        Ok(settings) => Target::Own(settings),
        Err(why) => Target::Absent(why.to_string()),
    }
}

/// The addresses of the service that runs on the data directory, or why there are none.
pub fn running(config: &Config) -> Result<Endpoints, String> {
    let dir = config.data_dir.display();
    match Endpoints::read(&config.data_dir) {
        Ok(None) => Err(format!("none has run in {dir}")),
        Err(error) => Err(error.to_string()),
        Ok(Some(endpoints)) if !serves(endpoints.pid) => Err(format!("none runs in {dir}")),
        Ok(Some(endpoints)) => Ok(endpoints),
    }
}

/// Why the addresses that a service has told cannot be read, if they cannot.
pub fn unreadable(config: &Config) -> Option<String> {
    Endpoints::read(&config.data_dir)
        .err()
        .map(|error| error.to_string())
}

/// Whether a process of this number runs the service. The number alone says little: a container that
/// shares the directory has its own process 1, and after a restart of the machine numbers are used again.
fn serves(pid: u32) -> bool {
    let commanded = std::fs::read(format!("/proc/{pid}/cmdline"));
    let is_ours = |line: &[u8]| line.split(|b| *b == 0).any(|word| word == b"serve");
    let other = pid == std::process::id() || commanded.is_ok_and(|line| !is_ours(&line));
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    if other {
        return false;
    }
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) {
        // It lives, and is somebody else's.
        Ok(()) | Err(nix::errno::Errno::EPERM) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::postgres::ConnectionString;

    #[test]
    fn another_process_of_the_number_is_not_taken_for_the_service() {
        assert!(
            !serves(std::process::id()),
            "this one looks, and serves nothing"
        );
        // The first process of the machine, whatever it is, is no `serve`.
        assert!(!serves(1));
        assert!(!serves(u32::MAX));
    }

    #[test]
    fn what_is_configured_is_looked_at_and_else_what_a_running_service_brings() {
        let mut config = Config::default();
        let nothing = Targets::of(&config, &Err("none runs".to_owned()));
        assert!(matches!(nothing.s3, Target::Absent(ref why) if why.contains("none runs")));
        assert!(matches!(nothing.kafka, Target::Absent(_)));
        let told = Endpoints {
            pid: 1,
            http: "http://127.0.0.1:8000".into(),
            admin: None,
            s3: None,
            postgres: Some("postgresql://reader@127.0.0.1/oms".into()),
            kafka: Some("127.0.0.1:9092".into()),
        };
        let running = Targets::of(&config, &Ok(told.clone()));
        assert!(matches!(running.postgres, Target::Embedded(_)));
        config.postgres.url = Some(ConnectionString::new("postgres://me@db.example/app"));
        config.s3.region = Some("eu-central-1".into());
        let own = Targets::of(&config, &Ok(told));
        assert!(matches!(own.postgres, Target::Own(p) if p.url.contains("db.example")));
        assert!(matches!(own.s3, Target::Own(_)) && matches!(own.kafka, Target::Embedded(_)));
    }
}
