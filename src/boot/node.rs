//! This process's name among those that share partitions by lease. It stays the same over restarts
//! on the same data directory, which only one process may use at a time, so a process that was
//! killed takes its own leases again at once, without waiting for them to expire. Without a data
//! directory every process has a new name, and its successor waits.

use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use uuid::Uuid;

use crate::clock::new_uuid;
use crate::embedded::private;

const FILE: &str = "node-id";

/// The name stored in the data directory; created on first use, and again if it is damaged.
pub fn name(data_dir: Option<&Path>) -> anyhow::Result<String> {
    let Some(data_dir) = data_dir else {
        return Ok(new_uuid().to_string());
    };
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
    let mut options = private::options();
    let file = options.write(true).create(true).truncate(true).open(&path);
    file.and_then(|mut file| file.write_all(name.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let here = Some(dir.path());
        let first = name(here).unwrap();
        assert_eq!(name(here).unwrap(), first);
        fs::write(dir.path().join(FILE), "").unwrap();
        assert_ne!(name(here).unwrap(), first);
        assert_ne!(name(None).unwrap(), name(None).unwrap());
    }
}
