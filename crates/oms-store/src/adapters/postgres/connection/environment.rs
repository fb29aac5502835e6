//! Variables of the environment that libpq looks at. They are handed in: nothing here reads the
//! process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Those that are kept. `PGHOST` and the like are not among them: the service does not connect to
/// something because a shell happened to name it. A service of `PGSERVICE` may say all of it, as with
/// libpq.
const NAMES: [&str; 12] = [
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HOME",
    "USER",
];

/// Variables of the environment that fill in what a connection string leaves open. The default knows
/// none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<&'static str, String>);

impl Environment {
    /// Of the variables of a process, those that matter here.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let known = |(name, value): (&str, &'a str)| {
            let name = NAMES.into_iter().find(|known| *known == name)?;
            (!value.is_empty()).then(|| (name, value.to_owned()))
        };
        Self(variables.into_iter().filter_map(known).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(NAMES.contains(&name), "{name} is not in the list");
        self.0.get(name).map(String::as_str)
    }

    /// A path that a variable names.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// A file in the home directory.
    pub(super) fn at_home(&self, file: &str) -> Option<PathBuf> {
        Some(Path::new(self.get("HOME")?).join(file))
    }
}
