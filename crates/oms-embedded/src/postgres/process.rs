//! The server's process: ties it to this one, stops it, and handles processes of earlier runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::PostgresError;
use crate::EmbeddedError;

/// A fast shutdown writes a checkpoint, which takes long on a slow disk.
const FAST_SHUTDOWN: Duration = Duration::from_secs(30);

/// An immediate shutdown writes nothing.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(5);

/// Interval between two checks of a process that is not our child.
const GONE_POLL: Duration = Duration::from_millis(10);

/// Lets the kernel end the program when the thread that starts it ends.
pub fn tie_to_us(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        let us = nix::unistd::getpid();
        // SAFETY: between fork and exec only prctl and getppid are called, which are
        // async-signal-safe. Set after the change of account, which would reset it.
        unsafe {
            command.pre_exec(move || {
                // SIGINT means a fast shutdown, which does not wait for sessions.
                nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
                // The parent ended before that: no signal will come.
                if nix::unistd::getppid() != us {
                    return Err(Errno::ESRCH.into());
                }
                Ok(())
            });
        }
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    Some(Pid::from_raw(i32::try_from(child.id()?).ok()?))
}

/// Stops the server: sessions are ended, data is written; if that takes too long, with an immediate
/// shutdown, after which the write-ahead log is replayed.
pub async fn end(mut child: Child) {
    for (signal, patience) in [
        (Signal::SIGINT, FAST_SHUTDOWN),
        (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN),
        (Signal::SIGKILL, IMMEDIATE_SHUTDOWN),
    ] {
        let Some(pid) = pid_of(&child) else {
            return;
        };
        match kill(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => {
                tracing::error!(%error, "cannot signal the embedded PostgreSQL");
            }
        }
        if timeout(patience, child.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(
            signal = signal.as_str(),
            "the embedded PostgreSQL does not end"
        );
    }
}

/// Handles what an earlier run left. We hold the data directory's lock, so that a server that still
/// uses this cluster is an orphan, and a pid file that names any other process is outdated.
pub async fn clear_the_way(data: &Path) -> Result<(), EmbeddedError> {
    let pid_file = data.join("postmaster.pid");
    let Some(text) = crate::files::read_text(&pid_file)? else {
        return Ok(());
    };
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    let Some(pid) = pid.map(Pid::from_raw) else {
        // Created but not written, because the disk was full or the machine crashed. PostgreSQL
        // would wait for ever for the server that it seems to announce.
        tracing::warn!("the pid file of the embedded PostgreSQL is empty; removing it");
        return fs::remove_file(&pid_file).map_err(EmbeddedError::io("remove", &pid_file));
    };
    if !is_alive(pid) {
        // PostgreSQL detects this case itself.
        return Ok(());
    }
    if !works_in(pid, data) {
        tracing::warn!(
            pid = pid.as_raw(),
            "the pid file of the embedded PostgreSQL names another program; removing it"
        );
        return fs::remove_file(&pid_file).map_err(EmbeddedError::io("remove", &pid_file));
    }
    tracing::warn!(
        pid = pid.as_raw(),
        "an embedded PostgreSQL of an earlier run is still there; ending it"
    );
    for (signal, patience) in [
        (Signal::SIGINT, FAST_SHUTDOWN),
        (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN),
    ] {
        match kill(pid, signal) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Ok(()),
            Err(e) => return Err(EmbeddedError::io("end the server of", data)(e.into())),
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !is_alive(pid) {
                return Ok(());
            }
            tokio::time::sleep(GONE_POLL).await;
        }
    }
    Err(PostgresError::StillRunning(pid.as_raw()).into())
}

fn is_alive(pid: Pid) -> bool {
    // For a process of another account this fails with EPERM.
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    // A zombie: it has ended and holds no resources.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    state != Some('Z')
}

/// Whether a process has `data` as its working directory, as a postmaster has its cluster.
fn works_in(pid: Pid, data: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
}
