//! A set of versions, any of which a caller accepts.

use std::fmt;

use super::ids::Version;

/// Versions in a [`VersionSet`] at most: a caller has seen one, or a few.
pub const MAX_VERSIONS: usize = 8;

/// A small set of versions; empty if the caller's condition cannot be fulfilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionSet {
    count: usize,
    versions: [Version; MAX_VERSIONS],
}

impl VersionSet {
    /// The empty set.
    pub const NONE: Self = Self {
        count: 0,
        versions: [Version::NONE; MAX_VERSIONS],
    };

    /// With one more version; `None` if the set is full.
    pub fn with(mut self, version: Version) -> Option<Self> {
        *self.versions.get_mut(self.count)? = version;
        self.count += 1;
        Some(self)
    }

    /// Whether it is one of them.
    pub fn contains(&self, version: Version) -> bool {
        self.versions[..self.count].contains(&version)
    }
}

impl From<Version> for VersionSet {
    fn from(version: Version) -> Self {
        let mut one = Self::NONE;
        one.versions[0] = version;
        one.count = 1;
        one
    }
}

impl fmt::Display for VersionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, version) in self.versions[..self.count].iter().enumerate() {
            let before = if i > 0 { " or " } else { "" };
            write!(f, "{before}{version}")?;
        }
        if self.count == 0 {
            f.write_str("none (no strong tag names a version)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_versions_are_held_and_said() {
        let set = VersionSet::from(Version(7)).with(Version(0)).unwrap();
        assert!(set.contains(Version(7)) && set.contains(Version(0)));
        assert!(!set.contains(Version(1)) && !VersionSet::NONE.contains(Version(0)));
        assert_eq!(set.to_string(), "7 or 0");
        let full = (0..MAX_VERSIONS as u64).try_fold(VersionSet::NONE, |s, v| s.with(Version(v)));
        assert_eq!(full.unwrap().with(Version(9)), None);
    }
}
