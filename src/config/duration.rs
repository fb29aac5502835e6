//! Durations in the configuration: texts such as `"500ms"`, `"10s"` or `"1m 30s"`. A bare number is
//! refused, because its unit would be a guess.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as `500ms`, `10s` or `1m 30s`");
    let signed: SignedDuration = text.trim().parse().map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

/// Writes a duration as [`parse`] reads it.
pub fn format(duration: Duration) -> String {
    match SignedDuration::try_from(duration) {
        Ok(signed) => format!("{signed:#}"),
        // Longer than the format can show, beyond 292 billion years.
        Err(_) => format!("{}s", duration.as_secs()),
    }
}

/// For `#[serde(with = …)]`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with = …)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_and_a_bare_number_is_refused() {
        for ms in [0, 1, 500, 10_000, 90_000, 3_600_500] {
            let duration = Duration::from_millis(ms);
            assert_eq!(
                parse(&format(duration)),
                Ok(duration),
                "{}",
                format(duration)
            );
        }
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["10", "", "ten", "-5s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
