//! This process's name among those that share the work. It stays the same over restarts on the same
//! data directory, which only one process may use at a time, so a process that was killed takes
//! its own leases up again at once and does not wait for them to expire.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use uuid::Uuid;

use crate::domain::time::new_uuid;

const FILE: &str = "node-id";

/// The name kept in the data directory; made on first use, and anew if it is damaged.
pub fn name(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            if let Ok(id) = text.trim().parse::<Uuid>() {
                return Ok(id.to_string());
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
    let name = new_uuid().to_string();
    fs::write(&path, &name).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let first = name(dir.path()).unwrap();
        assert_eq!(name(dir.path()).unwrap(), first);
        fs::write(dir.path().join(FILE), "").unwrap();
        assert_ne!(name(dir.path()).unwrap(), first);
    }
}
