//! The row of a partition under nodes that decide on what they saw some time ago, and the ramp
//! that widens a stage, each held to its laws over anything that can happen to it.

use proptest::prelude::*;

use super::ramp::{Share, to_move};
use super::record::{Change, MigrationRow, Step};
use super::stage::StageKind;
use crate::domain::ids::{Epoch, PartitionId};

const NODES: usize = 3;

#[derive(Debug, Clone)]
enum Do {
    /// The node reads the row.
    Look(usize),
    /// The node makes a change of the row it saw.
    Make(usize, Change),
}

fn what() -> impl Strategy<Value = Do> {
    prop_oneof![
        1 => (0..NODES).prop_map(Do::Look),
        2 => (0..NODES, prop::sample::select(&Change::ALL[..]))
            .prop_map(|(node, change)| Do::Make(node, change)),
    ]
}

/// Law 14 of one change that took place.
fn is_lawful(from: &MigrationRow, to: &MigrationRow) {
    assert_eq!(to.revision, from.revision + 1);
    let walked = (from.stage as usize).abs_diff(to.stage as usize);
    assert!(walked <= 1, "only to a neighbour: {from:?} {to:?}");
    assert!(to.epoch >= from.epoch, "{from:?} {to:?}");
    let moved = from.stage.lead() != to.stage.lead();
    if moved {
        let sealed = [Step::SealingToS3, Step::SealingToPostgres];
        assert!(sealed.contains(&from.step), "sealed first: {from:?} {to:?}");
        assert_eq!(to.step, Step::Steady);
    } else if walked == 1 {
        assert_eq!((from.step, to.step), (Step::Steady, Step::Steady));
        assert_eq!(from.epoch, to.epoch, "the lead stays: {from:?} {to:?}");
    }
}

proptest! {
    #[test]
    fn law_14_of_changes_decided_at_the_same_time_one_takes_place_and_it_is_lawful(
        stage in prop::sample::select(&StageKind::ROAD[..]),
        steps in prop::collection::vec(what(), 0..80),
    ) {
        let mut row = MigrationRow::new(stage, Epoch(1));
        let mut seen = [row; NODES];
        let mut rested = row;
        for step in steps {
            match step {
                Do::Look(node) => seen[node] = row,
                Do::Make(node, change) => {
                    let from = seen[node];
                    let Some(to) = from.after(change) else { continue };
                    let before = row;
                    let hit = row.compare_and_set(&from, &to);
                    prop_assert_eq!(hit, from.revision == before.revision);
                    prop_assert_eq!(row, if hit { to } else { before });
                    if !hit {
                        continue;
                    }
                    is_lawful(&before, &row);
                    let MigrationRow { stage, epoch, step, revision } = row;
                    let read = MigrationRow::from_columns(stage.mode(), stage.lead(), epoch, step, revision);
                    prop_assert_eq!(read, Ok(row));
                    if row.step == Step::Steady {
                        // After a hand-off, finished or undone, the lead has a new epoch: a writer
                        // that does not know of it cannot write under the old one.
                        let handed = before.step != Step::Steady;
                        prop_assert_eq!(row.epoch > rested.epoch, handed);
                        rested = row;
                    }
                }
            }
        }
    }

    #[test]
    fn law_14_a_share_is_reached_with_the_fewest_moves_and_widened_without_taking_any_back(
        mut stages in prop::collection::vec(prop::sample::select(&StageKind::ROAD[..]), 1..12),
        goal in prop::sample::select(&StageKind::ROAD[..]),
        percents in (1_u8..=100, 1_u8..=100),
    ) {
        let (few, many) = (percents.0.min(percents.1), percents.0.max(percents.1));
        let ask = |stages: &[StageKind], percent| {
            to_move(stages, goal, &Share::Percent(percent)).unwrap()
        };
        let forward = stages.iter().any(|stage| *stage < goal);
        let there = |stage: &StageKind| if forward { *stage >= goal } else { *stage <= goal };
        let moved = ask(&stages, few);
        prop_assert!(moved.is_sorted());
        if few < 100 {
            // No partition that is there already is moved, and no more than needed.
            let count = stages.iter().filter(|s| there(s)).count();
            let wanted = (stages.len() * usize::from(few)).div_ceil(100);
            prop_assert_eq!(moved.len(), wanted.saturating_sub(count));
            for partition in &moved {
                prop_assert!(!there(&stages[usize::from(partition.0)]));
            }
        }
        let wider = ask(&stages, many);
        for partition in &moved {
            prop_assert!(wider.contains(partition), "{moved:?} {wider:?}");
        }
        for PartitionId(partition) in moved.clone() {
            stages[usize::from(partition)] = goal;
        }
        // As long as the whole is not there. Afterwards the same words mean the way back for those
        // that are beyond.
        if few < 100 && forward == stages.iter().any(|stage| *stage < goal) {
            prop_assert_eq!(ask(&stages, few), vec![], "asked again, nothing is left to do");
            let mut both = [moved, ask(&stages, many)].concat();
            both.sort_unstable();
            prop_assert_eq!(both, wider, "in two steps as in one");
        }
    }
}
