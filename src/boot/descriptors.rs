//! Limits the connections by the number of files that this process may open. Clients' connections
//! must leave descriptors for the stores, or nothing could be written while they are open.

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Used by the process itself: threads' queues and timers, listeners, the log, files of the data
/// directory, and files that are open for a moment.
const BASE: u64 = 96;

/// Connections to Kafka's brokers, librdkafka's own, and those of the in-process broker.
const KAFKA: u64 = 48;

/// Connections to S3 at once: puts of all partitions, reads, copies.
const S3: u64 = 64;

/// The embedded S3 has the other end of each connection, and a file of its own for it.
const EMBEDDED_S3: u64 = 3 * S3;

/// A service with fewer connections than this would be of no use.
const FEWEST_CONNECTIONS: u64 = 16;

/// Raises the soft limit to the hard one, and lowers `http.max_connections` to what that leaves.
///
/// Errors: the limit is so low that no connection could be served.
pub fn provide(config: &mut Config) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read RLIMIT_NOFILE")?;
    let limit = if soft >= hard {
        soft
    } else {
        match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                tracing::warn!(%error, soft, hard, "the limit of open files stays as it is");
                soft
            }
        }
    };
    let reserve = reserve(config);
    let Some(connections) = connections(limit, reserve) else {
        bail!(
            "the process may have {limit} files open, and needs {} at least: raise the limit \
             (ulimit -n, LimitNOFILE=)",
            needed(config)
        );
    };
    let wanted = config.http.max_connections;
    if connections < wanted {
        tracing::info!(
            limit,
            reserve,
            connections,
            wanted,
            "fewer HTTP connections than configured, for want of open files"
        );
        config.http.max_connections = connections;
    }
    Ok(())
}

/// The fewest files that a service with this configuration must be able to open.
pub fn needed(config: &Config) -> u64 {
    reserve(config) + FEWEST_CONNECTIONS
}

/// How many connections a service that may open so many files serves; `None`: it does not start.
pub fn served(limit: u64, config: &Config) -> Option<usize> {
    let served = connections(limit, reserve(config))?;
    Some(served.min(config.http.max_connections))
}

fn reserve(config: &Config) -> u64 {
    let s3 = S3
        + if config.s3.is_embedded() {
            EMBEDDED_S3
        } else {
            0
        };
    BASE + s3 + KAFKA + config.postgres.max_connections as u64
}

/// How many connections there is room for. Each takes one descriptor, but at most three quarters of
/// all are given to them: not every other use is known.
fn connections(limit: u64, reserve: u64) -> Option<usize> {
    let left = limit.saturating_sub(reserve).min(limit / 4 * 3);
    let left = (left >= FEWEST_CONNECTIONS).then_some(left)?;
    Some(usize::try_from(left).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_13_connections_leave_descriptors_for_the_stores() {
        let reserve = reserve(&Config::default());
        assert_eq!(
            connections(1_024, reserve),
            Some((1_024 - reserve) as usize)
        );
        assert_eq!(connections(1 << 20, reserve), Some(3 << 18));
        assert_eq!(connections(reserve + FEWEST_CONNECTIONS - 1, reserve), None);
        assert!(connections(reserve + FEWEST_CONNECTIONS, reserve).is_some());
    }
}
