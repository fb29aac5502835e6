//! Who led each partition when this node last ran, kept in a file of the data directory, outside
//! both stores. A database that was never handed over leads while the bucket is unavailable only if
//! this file says that PostgreSQL led: one that was restored from before the first hand-off looks the
//! same. Derived: without it the service waits for the bucket, or for an order.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::domain::ids::PartitionId;
use crate::embedded::private;
use crate::log::lead::Leadership;
use crate::migration::partition_state::PartitionStates;
use crate::store::io_runtime::IoRuntime;

const FILE: &str = "leads.json";

type Leads = BTreeMap<PartitionId, Leadership>;

/// Reads the file. A file that cannot be parsed is an error: it may be the only record.
pub fn load(data_dir: &Path) -> anyhow::Result<Leads> {
    let path = data_dir.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is damaged; delete it if S3 can be reached",
                path.display()
            )
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Leads::new()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn save(path: &Path, leads: &Leads) -> io::Result<()> {
    let fresh = path.with_extension("json.new");
    let mut options = private::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .open(&fresh)?;
    file.write_all(&serde_json::to_vec(leads)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Saves every change of the lead, until it is dropped.
pub fn keep(
    io: &IoRuntime,
    data_dir: &Path,
    mut states: watch::Receiver<PartitionStates>,
) -> JoinHandle<()> {
    let path: PathBuf = data_dir.join(FILE);
    io.spawn(async move {
        let mut noted = Leads::new();
        loop {
            let leads = leads(&states.borrow_and_update());
            if !leads.is_empty() && leads != noted {
                match save(&path, &leads) {
                    Ok(()) => noted = leads,
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error,
                            "cannot note who leads; with S3 away at the next start, the service \
                             would wait for it, or lead by what was noted last");
                    }
                }
            }
            if states.changed().await.is_err() {
                return;
            }
        }
    })
}

fn leads(states: &PartitionStates) -> Leads {
    (0..)
        .map(PartitionId)
        .zip(states)
        .filter_map(|(partition, state)| Some((partition, (*state)?.stage.leadership)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Epoch;
    use crate::log::lead::Lead;

    #[test]
    fn what_was_heard_outlives_the_process_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().is_empty());
        let led = Leadership {
            lead: Lead::S3,
            epoch: Epoch(4),
        };
        let leads = Leads::from([(PartitionId(0), led), (PartitionId(11), led)]);
        save(&dir.path().join(FILE), &leads).unwrap();
        assert_eq!(load(dir.path()).unwrap(), leads);
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(load(dir.path()).is_err());
    }
}
