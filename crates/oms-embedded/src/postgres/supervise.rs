//! Keeps the server running: starts it again when it ends by itself.

use std::time::Duration;

use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::process::end;

/// Pause before a server that ended by itself is restarted: the first and the longest. Repeated for
/// ever: after a full disk it comes back within this time once there is space.
const FIRST_RESTART_PAUSE: Duration = Duration::from_millis(200);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(10);

/// A server that ran this long counts as started.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Keeps the server running until it is told to stop. After a restart it has the same port, and the
/// service reconnects by itself.
pub async fn supervise(mut cluster: Cluster, child: Child, stopped: oneshot::Receiver<()>) {
    tokio::pin!(stopped);
    let mut running = Some(child);
    let mut pause = FIRST_RESTART_PAUSE;
    loop {
        if let Some(mut child) = running.take() {
            let since = Instant::now();
            tokio::select! {
                // A dropped sender means the same as a message.
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
