//! The edges between neighbouring stages. A stage further away is reached edge by edge.

use serde::{Deserialize, Serialize};

use super::stage::StageKind;

/// The step between two neighbouring stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Edge {
    /// `legacy` ⇄ `dual_write/postgres`: starts or stops the mirror in S3.
    A,
    /// `dual_write/postgres` ⇄ `dual_write/s3`: moves the lead; the only one with a fence.
    B,
    /// `dual_write/s3` ⇄ `s3_only`: stops or starts the mirror in PostgreSQL.
    C,
}

/// The direction along an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards `s3_only`.
    Forward,
    /// Towards `legacy`.
    Backward,
}

/// An edge with a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Move {
    /// The edge.
    pub edge: Edge,
    /// Which way.
    pub direction: Direction,
}

impl Move {
    /// All six moves.
    pub const ALL: [Move; 6] = [
        Move::new(Edge::A, Direction::Forward),
        Move::new(Edge::B, Direction::Forward),
        Move::new(Edge::C, Direction::Forward),
        Move::new(Edge::C, Direction::Backward),
        Move::new(Edge::B, Direction::Backward),
        Move::new(Edge::A, Direction::Backward),
    ];

    /// `edge`, walked in `direction`.
    pub const fn new(edge: Edge, direction: Direction) -> Self {
        Self { edge, direction }
    }

    /// The stage it leaves.
    pub fn from(self) -> StageKind {
        let (low, high) = self.edge.ends();
        match self.direction {
            Direction::Forward => low,
            Direction::Backward => high,
        }
    }

    /// The stage it reaches.
    pub fn to(self) -> StageKind {
        self.back().from()
    }

    /// The same edge in the other direction.
    pub fn back(self) -> Self {
        let direction = match self.direction {
            Direction::Forward => Direction::Backward,
            Direction::Backward => Direction::Forward,
        };
        Self { direction, ..self }
    }
}

impl Edge {
    /// The stages that it connects, the one nearer to `legacy` first.
    pub fn ends(self) -> (StageKind, StageKind) {
        match self {
            Edge::A => (StageKind::Legacy, StageKind::DualWritePostgres),
            Edge::B => (StageKind::DualWritePostgres, StageKind::DualWriteS3),
            Edge::C => (StageKind::DualWriteS3, StageKind::S3Only),
        }
    }
}

/// The next move towards `goal`; `None` when it is reached.
pub fn next_move(from: StageKind, goal: StageKind) -> Option<Move> {
    let next = match from.cmp(&goal) {
        std::cmp::Ordering::Less => from.next(),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => from.previous(),
    }?;
    Move::ALL
        .into_iter()
        .find(|m| m.from() == from && m.to() == next)
}

/// All moves from `from` to `goal`, in order.
pub fn path(from: StageKind, goal: StageKind) -> Vec<Move> {
    std::iter::successors(next_move(from, goal), |m| next_move(m.to(), goal)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_goes_from_neighbour_to_neighbour_and_ends_at_its_goal() {
        for from in StageKind::ROAD {
            for goal in StageKind::ROAD {
                let path = path(from, goal);
                assert_eq!(path.len(), (from as usize).abs_diff(goal as usize));
                let mut at = from;
                for step in path {
                    assert_eq!(step.from(), at);
                    assert_eq!(step.back().from(), step.to());
                    at = step.to();
                }
                assert_eq!(at, goal);
            }
        }
    }

    #[test]
    fn only_edge_b_moves_the_lead() {
        for step in Move::ALL {
            let moves = step.from().lead() != step.to().lead();
            assert_eq!(moves, step.edge == Edge::B, "{step:?}");
        }
    }
}
