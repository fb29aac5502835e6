//! Progress of the read model in a process that does not keep it, so that reads can wait there for
//! what was just written.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::ProjectionProgress;
use crate::store::ports::read_model::ReadModel;

/// How often to query the progress: the additional wait of a reader, for one small query.
const EVERY: Duration = Duration::from_millis(250);

/// Publishes the progress until it is dropped.
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
