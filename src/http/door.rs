//! What a listener serves. Administrators may have one of their own, on an address that others do not
//! reach; the one for everybody then knows nothing of what is theirs.

/// What is served on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Everything.
    All,
    /// Everything but what is for administrators.
    Callers,
}

impl Door {
    /// Whether a path, or a pattern of paths, is served here.
    pub fn serves(self, path: &str) -> bool {
        self == Self::All || !is_for_administrators(path)
    }
}

/// Whether a path is for administrators: theirs in the API, the metrics, the console.
fn is_for_administrators(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    match parts.next() {
        Some("metrics" | "console") => true,
        Some("api") => parts.nth(1) == Some("admin"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_administrators_is_told_from_what_is_for_everybody() {
        for path in [
            "/metrics",
            "/console",
            "/console/{tail:.*}",
            "/api/v1/admin/audit",
            "/api/v1/admin/actors/kill",
        ] {
            assert!(
                !Door::Callers.serves(path) && Door::All.serves(path),
                "{path}"
            );
        }
        for path in [
            "/health",
            "/docs",
            "/api/v1/events",
            "/api/v1/databases/admin",
            "/",
        ] {
            assert!(
                Door::Callers.serves(path) && Door::All.serves(path),
                "{path}"
            );
        }
    }
}
