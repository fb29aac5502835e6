//! The machine on which the service runs, or is to run.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use super::check::{Area, Check, Finding};
use crate::boot::descriptors;
use crate::config::Config;
use crate::config::endpoints::Endpoints;
use crate::embedded::space;

/// Below this multiple of the reserve it is time to look for a larger disk.
const ROOMY: u64 = 4;

/// The permissions of group and others.
const OTHERS: u32 = 0o077;

/// Limit of open files, room and permissions of the data directory.
pub fn checks(config: &Config, running: &Result<Endpoints, String>) -> Vec<Check> {
    let pid = running.as_ref().ok().map(|endpoints| endpoints.pid);
    let keeps_data = config.s3.is_embedded() || config.postgres.is_embedded();
    let area = Area::Machine;
    vec![
        area.check("open files", open_files(pid, config)),
        area.check("data directory", directory(&config.data_dir)),
        area.check("room", room(&config.data_dir, config, keeps_data)),
    ]
}

fn open_files(pid: Option<u32>, config: &Config) -> Finding {
    // A running service has its own limit; that of this shell would be another one.
    let of_the_service = pid.and_then(|pid| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        hard_limit(&limits)
    });
    match of_the_service {
        Some(limit) => judge_files(limit, "the running service", config),
        None => match getrlimit(Resource::RLIMIT_NOFILE) {
            Ok((_, hard)) => judge_files(hard, "a process of this account", config),
            Err(error) => Finding::skipped(format!("the limit is not known: {error}")),
        },
    }
}

/// The hard limit of open files, from `/proc/PID/limits`.
fn hard_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn judge_files(limit: u64, whose: &str, config: &Config) -> Finding {
    let raise = "raise it (LimitNOFILE= in the unit, `ulimit -n` in the shell)";
    let wanted = config.http.max_connections;
    match descriptors::served(limit, config) {
        None => Finding::failed(
            format!(
                "{whose} may have {limit} files open, and the service needs {} at least",
                descriptors::needed(config)
            ),
            format!("{raise}: the service does not start like this"),
        ),
        Some(served) if served < wanted => Finding::warning(
            format!("{whose} may have {limit} open: {served} of {wanted} HTTP connections fit"),
            format!("{raise}, or ask for fewer with http.max_connections"),
        ),
        Some(_) => Finding::ok(format!("{whose} may have {limit} open")),
    }
}

/// The path itself, or the nearest folder above it that exists.
fn existing(path: &Path) -> PathBuf {
    let mut above = path.ancestors().filter(|p| !p.as_os_str().is_empty());
    let found = above.find(|p| p.exists());
    found.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn directory(path: &Path) -> Finding {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            return Finding::warning(
                format!("{shown} cannot be looked at: {error}"),
                "run this check as the account of the service",
            );
        }
    };
    let Some(found) = found else {
        let above = existing(path);
        let may = nix::unistd::access(&above, nix::unistd::AccessFlags::W_OK);
        return match may {
            Ok(()) => Finding::ok(format!("{shown} is not there yet; the service makes it")),
            Err(error) => Finding::failed(
                format!("{shown} is not there, and cannot be made: {error}"),
                format!("make it, for the account of the service alone: install -d -m 700 {shown}"),
            ),
        };
    };
    judge_directory(
        &shown.to_string(),
        found.mode() & 0o7777,
        found.uid(),
        nix::unistd::geteuid().as_raw(),
    )
}

fn judge_directory(shown: &str, mode: u32, owner: u32, us: u32) -> Finding {
    if owner != us && us != 0 {
        return Finding::warning(
            format!("{shown} is user {owner}'s, and this is user {us}"),
            "run this check, and the service, as the account that owns it",
        );
    }
    if mode & OTHERS != 0 {
        return Finding::warning(
            format!("{shown} can be entered by others (mode {mode:o})"),
            format!("keys and passwords lie there: chmod 700 {shown}"),
        );
    }
    Finding::ok(format!("{shown} is its owner's alone"))
}

fn room(path: &Path, config: &Config, keeps_data: bool) -> Finding {
    if !keeps_data {
        return Finding::skipped("S3 and PostgreSQL are elsewhere: nothing grows on this disk");
    }
    match space::free_bytes(&existing(path)) {
        Ok(free) => judge_room(free, config.embedded.reserve_bytes),
        Err(error) => Finding::skipped(format!("free space is not known: {error}")),
    }
}

fn judge_room(free: u64, reserve: u64) -> Finding {
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    let seen = format!(
        "{} free, below {} writes are refused",
        mebibytes(free),
        mebibytes(reserve)
    );
    let advice = "make room on that disk, never by deleting in the data directory, or move it to \
                  a larger one";
    if free < reserve {
        return Finding::failed(seen, advice);
    }
    if free < reserve.saturating_mul(ROOMY) {
        return Finding::warning(seen, advice);
    }
    Finding::ok(seen)
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn too_few_files_are_said_before_the_service_refuses_to_start() {
        let config = Config::default();
        let judge = |limit| judge_files(limit, "it", &config).verdict;
        assert_eq!(judge(256), Verdict::Failed);
        assert_eq!(judge(1024), Verdict::Warning);
        assert_eq!(judge(1 << 20), Verdict::Ok);
        let proc = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(hard_limit(proc), Some(524_288));
        assert_eq!(hard_limit("Max processes 1 2"), None);
    }

    #[test]
    fn a_directory_is_its_owners_alone() {
        for (mode, owner, us, verdict) in [
            (0o700, 7, 7, Verdict::Ok),
            (0o755, 7, 7, Verdict::Warning),
            (0o700, 7, 8, Verdict::Warning),
            (0o700, 7, 0, Verdict::Ok),
        ] {
            assert_eq!(judge_directory("d", mode, owner, us).verdict, verdict);
        }
        let dir = tempfile::tempdir().unwrap();
        let new = directory(&dir.path().join("a/b"));
        assert_eq!(new.verdict, Verdict::Ok, "{new:?}");
    }

    #[test]
    fn a_disk_that_fills_is_warned_of_in_time() {
        assert_eq!(judge_room(99, 100).verdict, Verdict::Failed);
        assert_eq!(judge_room(399, 100).verdict, Verdict::Warning);
        assert_eq!(judge_room(400, 100).verdict, Verdict::Ok);
    }
}
