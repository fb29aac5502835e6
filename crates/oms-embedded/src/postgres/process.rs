//! The server's process: tied to us, watched, ended; and the ones of earlier runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::PostgresError;
use super::cluster::Cluster;
use crate::EmbeddedError;

/// A fast shutdown writes a checkpoint; on a slow disk that takes a while.
const FAST_SHUTDOWN: Duration = Duration::from_secs(30);

/// An immediate one writes nothing.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(5);

/// Between two looks at a process that is not our child.
const GONE_POLL: Duration = Duration::from_millis(10);

/// Before a server that ended by itself is started again: first, and at most. It is tried for ever:
/// on a full disk it comes back within this time once there is room.
const FIRST_RESTART_PAUSE: Duration = Duration::from_millis(200);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(10);

/// A server that ran this long was not a failed start.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Lets the kernel end the program when the thread that starts it ends.
pub fn tie_to_us(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        let us = nix::unistd::getpid();
        // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid.
        // It is set after the change of account, which would clear it.
        unsafe {
            command.pre_exec(move || {
                // A fast shutdown, so that no session holds it up.
                nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
                // Ended before that: there will be no signal.
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

/// Ends the server: sessions are cut off, data is written; if that takes too long, the log must do.
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

/// Keeps the server running until told to stop. It comes back at the same port, and the service
/// connects again by itself.
pub async fn supervise(mut cluster: Cluster, child: Child, stopped: oneshot::Receiver<()>) {
    tokio::pin!(stopped);
    let mut running = Some(child);
    let mut pause = FIRST_RESTART_PAUSE;
    loop {
        if let Some(mut child) = running.take() {
            let since = Instant::now();
            tokio::select! {
                // Dropped without a word says the same.
                _ = &mut stopped => return end(child).await,
                status = child.wait() => {
                    let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                    tracing::error!(%status, "the embedded PostgreSQL ended by itself; starting it again");
                }
            }
            if since.elapsed() > STABLE_AFTER {
                pause = FIRST_RESTART_PAUSE;
            }
        }
        tokio::select! {
            _ = &mut stopped => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_RESTART_PAUSE),
        }
        match cluster.launch().await {
            Ok(child) => running = Some(child),
            Err(error) => tracing::error!(%error, "cannot start the embedded PostgreSQL again"),
        }
    }
}

/// Deals with what an earlier run left. We hold the data directory's lock, so a server that still
/// has this cluster is an orphan, and a pid file that names any other process is stale.
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
        // Made, but not written: the disk was full, or the machine went down. PostgreSQL would
        // take it for a server that is about to start, for ever.
        tracing::warn!("the pid file of the embedded PostgreSQL is empty; removing it");
        return fs::remove_file(&pid_file).map_err(EmbeddedError::io("remove", &pid_file));
    };
    if !is_alive(pid) {
        // PostgreSQL sees that itself.
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
    // A process of somebody else answers EPERM.
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    // Ended, but its parent has not asked how: it holds nothing any more.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    state != Some('Z')
}

/// Whether a process works in `data`, as a postmaster does in its cluster.
fn works_in(pid: Pid, data: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
}
