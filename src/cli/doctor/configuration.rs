//! The configuration itself.

use super::check::{Area, Check, DEADLINE, Finding};
use crate::boot::signing_keys;
use crate::config::Config;
use crate::config::problems::ConfigError;

/// Checks a configuration that was read, or says why it was not.
pub fn checks(read: &Result<Config, ConfigError>) -> Vec<Check> {
    let area = Area::Configuration;
    match read {
        Ok(config) => vec![
            area.check("read", read_of(config)),
            area.check("exposure", exposure(config)),
            area.check("chaos", chaos(config)),
        ],
        Err(error) => vec![area.check("read", refused(error))],
    }
}

fn read_of(config: &Config) -> Finding {
    let parts = config.parts().map(|(part, what)| format!("{part} {what}"));
    Finding::ok(format!("consistent; {}", parts.join(", ")))
}

fn refused(error: &ConfigError) -> Finding {
    Finding::failed(
        error.to_string(),
        "correct these; `oms config check` repeats the list, docs/CONFIGURATION.md has every key",
    )
}

/// Who can reach the API, and what they can read on the way.
fn exposure(config: &Config) -> Finding {
    let at = format!("{}:{}", config.http.host, config.http.port);
    if config.http.is_loopback() {
        let provider = config.auth.oidc.issuer.is_some();
        let who = match (config.auth.all_tokens().count(), provider) {
            (0, false) if config.auth.is_required() => {
                "this machine only, and nobody: the file of tokens has none".to_owned()
            }
            (0, false) => "this machine only, where everybody may do everything".to_owned(),
            (n, false) => format!("this machine only, with one of {n} tokens"),
            (0, true) => "this machine only, with a token of the provider".to_owned(),
            (n, true) => {
                format!("this machine only, with one of {n} tokens or one of the provider")
            }
        };
        return Finding::ok(format!("{at}: {who}"));
    }
    if config.http.tls_cert.is_none() {
        return Finding::warning(
            format!("{at} is reached from other machines, and speaks HTTP"),
            "tokens travel in the clear: set http.tls_cert and http.tls_key, or bind loopback and \
             put a proxy that speaks HTTPS before it",
        );
    }
    Finding::ok(format!("{at}: HTTPS, with tokens"))
}

/// Whether the provider that people sign in with hands out its keys; nothing without one.
pub async fn sign_in(config: &Config) -> Option<Check> {
    let oidc = &config.auth.oidc;
    let issuer = oidc.issuer.as_deref()?;
    let found = Area::Configuration.within("sign-in", DEADLINE, async {
        match signing_keys::fetch(issuer, oidc.ca.as_deref()).await {
            Ok(keys) if keys.keys.is_empty() => Finding::failed(
                format!("{issuer} has no key that signs"),
                "none of its tokens is taken: ask whoever runs it",
            ),
            Ok(keys) => Finding::ok(format!("{issuer} has {} keys", keys.keys.len())),
            Err(error) => Finding::failed(
                format!("{error:#}"),
                "until it answers nobody signs in who has not done so already: correct auth.oidc.issuer \
                 and auth.oidc.ca, or ask whoever runs it",
            ),
        }
    });
    Some(found.await)
}

fn chaos(config: &Config) -> Finding {
    match config.chaos.enabled {
        false => Finding::ok("off: nobody can kill actors through the API"),
        true => Finding::warning(
            "on: whoever is admin can kill actors and shift the clock",
            "for tests and game days; leave chaos.enabled out otherwise",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;
    use crate::config::problems::Problem;

    #[test]
    fn a_configuration_that_cannot_be_read_is_told_with_every_error() {
        let problem = |key: &str| Problem {
            key: key.to_owned(),
            message: "is wrong".to_owned(),
            origin: None,
        };
        let problems = vec![problem("s3.bucket"), problem("http.port")];
        let checks = checks(&Err(ConfigError { problems }));
        assert_eq!(checks[0].verdict, Verdict::Failed);
        assert!(checks[0].seen.contains("s3.bucket") && checks[0].seen.contains("http.port"));
    }

    #[test]
    fn tokens_in_the_clear_and_chaos_are_warned_of() {
        let verdicts = |config: Config| -> Vec<Verdict> {
            checks(&Ok(config)).iter().map(|c| c.verdict).collect()
        };
        assert_eq!(verdicts(Config::default()), [Verdict::Ok; 3]);
        let mut open = Config::default();
        open.http.host = "0.0.0.0".into();
        open.chaos.enabled = true;
        let [ok, warning] = [Verdict::Ok, Verdict::Warning];
        assert_eq!(verdicts(open), [ok, warning, warning]);
    }
}
