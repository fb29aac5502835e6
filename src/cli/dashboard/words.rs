//! Figures and times as people read them.

use jiff::Timestamp;
use serde_json::Value;

/// 12345 as 12345, 1.23 as 1.2, 0.034 as 0.034; a dash where nothing is known.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(n) if n == n.round() || n.abs() >= 20.0 => format!("{n:.0}"),
        Some(n) if n.abs() >= 1.0 => format!("{n:.1}"),
        Some(n) => format!("{n:.3}"),
    }
}

/// Seconds as 3.1 ms, 1.2 s, 4 min, 3.3 h, 5 d.
pub fn duration(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return "-".to_owned();
    };
    let s = seconds.max(0.0);
    match s {
        _ if s < 0.0995 => format!("{:.1} ms", s * 1e3),
        _ if s < 10.0 => format!("{s:.1} s"),
        _ if s < 90.0 => format!("{s:.0} s"),
        _ if s < 5_400.0 => format!("{:.0} min", s / 60.0),
        _ if s < 36_000.0 => format!("{:.1} h", s / 3_600.0),
        _ if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        _ => format!("{:.0} d", s / 86_400.0),
    }
}

/// How long a moment of an answer is past; a dash where there is none.
pub fn age(value: &Value, now: Timestamp) -> String {
    let at = value.as_str().and_then(|at| at.parse::<Timestamp>().ok());
    duration(at.map(|at| now.duration_since(at).as_secs_f64()))
}

/// A dependency as people call it.
pub fn store(name: &str) -> &str {
    match name {
        "s3" => "S3",
        "postgres" => "PostgreSQL",
        "kafka" => "Kafka",
        other => other,
    }
}

/// Time of day, in UTC as in logs.
pub fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_times_are_short() {
        for (n, text) in [
            (0.0, "0"),
            (12345.0, "12345"),
            (1.23, "1.2"),
            (0.034, "0.034"),
        ] {
            assert_eq!(number(Some(n)), text);
        }
        for (s, text) in [
            (0.0031, "3.1 ms"),
            (1.25, "1.2 s"),
            (61.0, "61 s"),
            (240.0, "4 min"),
            (12_000.0, "3.3 h"),
            (86_400.0, "24 h"),
            (400_000.0, "5 d"),
        ] {
            assert_eq!(duration(Some(s)), text);
        }
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(age(&Value::from("2026-01-02T03:00:05Z"), now), "4 min");
        assert_eq!(age(&Value::Null, now), "-");
        assert_eq!(clock(now), "03:04:05");
    }
}
