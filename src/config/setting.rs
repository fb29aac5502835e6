//! One value with its key and where it comes from.

/// Prefix of our environment variables; `__` also separates section and key.
pub const PREFIX: &str = "OMS__";

/// One value with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// For example `http.port`.
    pub key: String,
    /// As text; JSON where it is a list or a table.
    pub value: String,
    /// For example "environment variable OMS__HTTP__PORT".
    pub origin: String,
}

impl Setting {
    pub fn flag(key: &str, flag: &str, value: impl ToString) -> Self {
        Self {
            key: key.to_owned(),
            value: value.to_string(),
            origin: format!("flag {flag}"),
        }
    }

    pub(super) fn variable(key: impl Into<String>, name: &str, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            origin: format!("environment variable {name}"),
        }
    }
}

/// The key that one of our variables sets.
pub(super) fn key_of(name: &str) -> String {
    let key = name.strip_prefix(PREFIX).unwrap_or(name);
    key.replace("__", ".").to_lowercase()
}
