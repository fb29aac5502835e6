//! Reading what other processes have committed.

use std::sync::Arc;

use super::actor::WriterDeps;
use crate::domain::ids::Offset;
use crate::log::object::CommitObject;
use crate::migration::fence::may_append_in_postgres;
use crate::migration::lead::Lead;
use crate::migration::standing::Standing;
use crate::store::error::StoreError;

/// Commits read in one round of catching up; bounds what a round holds in memory.
pub const TAIL_ROUND: u64 = 256;

/// What a round of reading found.
pub struct Round {
    /// The next commits, in order.
    pub objects: Vec<Arc<CommitObject>>,
    /// Whether they reach the end that every write acknowledged before lies behind. False also when
    /// the place that was read leads no more: then the log goes on in the other one.
    pub whole: bool,
}

/// Reads on from `from`. `must_be_whole`: somebody is to be told that nothing is missing, so it is
/// asked whether the place that is read still leads. Of the bucket the log itself says so.
pub async fn read_on(
    deps: &WriterDeps,
    from: Offset,
    standing: Option<Standing>,
    must_be_whole: bool,
) -> Result<Round, StoreError> {
    let partition = deps.shared.id;
    let lead = deps.log.routes().lead(partition);
    let mut leads = true;
    if must_be_whole && lead == Lead::Postgres {
        leads = still_leads(deps, standing).await?;
    }
    // The first one decides whether there is anything at all: in most cases there is not.
    let Some(first) = deps.log.commit(partition, from).await? else {
        let objects = Vec::new();
        return Ok(Round {
            objects,
            whole: leads,
        });
    };
    let mut objects = vec![first];
    if let Some(place) = deps.log.place(lead) {
        let rest = place.span(partition, from + 1, from + TAIL_ROUND).await?;
        objects.extend(rest.into_iter().map(Arc::new));
    }
    // A span may end early, so only a round that finds nothing is the end.
    Ok(Round {
        objects,
        whole: false,
    })
}

/// Whether PostgreSQL leads as this process believes: its row says so, whatever was heard.
async fn still_leads(deps: &WriterDeps, standing: Option<Standing>) -> Result<bool, StoreError> {
    let (Some(table), Some(standing)) = (&deps.table, standing) else {
        return Ok(true);
    };
    let view = table.view(deps.shared.id).await?;
    let epoch = standing.stage.leadership.epoch;
    Ok(view.is_some_and(|v| may_append_in_postgres(&v.row, epoch).is_ok()))
}
