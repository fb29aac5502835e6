//! How far the read model is, in a process that does not keep it: another one does, and reads that
//! wait for what was just written wait here all the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::ProjectionProgress;
use crate::store::ports::read_model::ReadModel;

/// How often to ask: what a reader waits longer than in a process that keeps the model itself. One
/// small query.
const EVERY: Duration = Duration::from_millis(250);

/// Asks until it is dropped.
pub async fn follow(model: Arc<dyn ReadModel>, progress: Arc<ProjectionProgress>, partitions: u16) {
    let mut reachable = true;
    loop {
        match model.generations(partitions).await {
            Ok(generations) => {
                progress.publish(&generations.live.next);
                reachable = true;
            }
            Err(error) => {
                if std::mem::replace(&mut reachable, false) {
                    tracing::warn!(%error, "it is not known how far the read model is");
                }
            }
        }
        sleep(EVERY).await;
    }
}
