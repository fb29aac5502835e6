use super::*;
use crate::migration::stage::StageKind;

/// Epoch of the row in every case.
const E: u64 = 4;

fn control(lead: Lead, epoch: u64) -> Option<ControlRecord> {
    Some(ControlRecord {
        lead,
        epoch: Epoch(epoch),
    })
}

fn known(stage: StageKind, step: Step, next: Offset, s3: Option<S3View>) -> Known {
    let row = MigrationRow {
        step,
        ..MigrationRow::new(stage, Epoch(E))
    };
    Known {
        postgres: PostgresView { row, next },
        s3,
    }
}

fn s3(next: Offset, control: Option<ControlRecord>) -> Option<S3View> {
    Some(S3View { next, control })
}

/// What an action comes to, without the rows.
#[derive(Debug, PartialEq)]
enum Does {
    Sets(Change),
    ToS3(Offset),
    ToPostgres(Offset),
    Puts(Offset, Lead, u64),
    Leads(Lead),
    Waits(Reason),
}

fn does(action: Action) -> Does {
    match action {
        Action::SetRow { change, from, to } => {
            assert_eq!(from.after(change), Some(to));
            Does::Sets(change)
        }
        Action::CopyToS3 { up_to } => Does::ToS3(up_to),
        Action::CopyToPostgres { up_to } => Does::ToPostgres(up_to),
        Action::PutControlInS3 { offset, record } => {
            Does::Puts(offset, record.lead, record.epoch.0)
        }
        Action::Done(leadership) => Does::Leads(leadership.lead),
        Action::Wait(reason) => Does::Waits(reason),
    }
}

#[test]
fn each_step_of_a_hand_off_to_s3() {
    use Does::*;
    use Wish::*;
    let old = control(Lead::Postgres, 2);
    let table = [
        // Draining.
        (Step::DrainingToS3, 5, s3(3, old), Finish, ToS3(5)),
        (Step::DrainingToS3, 5, s3(0, None), Finish, ToS3(5)),
        (
            Step::DrainingToS3,
            5,
            s3(5, old),
            Finish,
            Sets(Change::SealToS3),
        ),
        (
            Step::DrainingToS3,
            5,
            s3(6, old),
            Finish,
            Waits(Reason::LookAgain),
        ),
        (
            Step::DrainingToS3,
            5,
            None,
            Finish,
            Waits(Reason::S3Unavailable),
        ),
        (
            Step::DrainingToS3,
            5,
            s3(3, old),
            Undo,
            Sets(Change::UndoDrain),
        ),
        (Step::DrainingToS3, 5, None, Undo, Sets(Change::UndoDrain)),
        // Sealing: the offset is free.
        (
            Step::SealingToS3,
            5,
            s3(5, old),
            Finish,
            Puts(5, Lead::S3, E),
        ),
        (
            Step::SealingToS3,
            5,
            s3(5, old),
            Undo,
            Puts(5, Lead::Postgres, E + 1),
        ),
        (
            Step::SealingToS3,
            5,
            s3(4, old),
            Finish,
            Waits(Reason::LookAgain),
        ),
        (
            Step::SealingToS3,
            5,
            None,
            Undo,
            Waits(Reason::S3Unavailable),
        ),
        // Sealing: the offset has decided, whatever is wished.
        (
            Step::SealingToS3,
            5,
            s3(6, control(Lead::S3, E)),
            Undo,
            Sets(Change::LeadS3),
        ),
        (
            Step::SealingToS3,
            5,
            s3(9, control(Lead::S3, E)),
            Finish,
            Sets(Change::LeadS3),
        ),
        (
            Step::SealingToS3,
            5,
            s3(6, control(Lead::Postgres, E + 1)),
            Finish,
            ToPostgres(6),
        ),
        (
            Step::SealingToS3,
            6,
            s3(6, control(Lead::Postgres, E + 1)),
            Finish,
            Sets(Change::UndoSealToS3),
        ),
        // Sealing: the row was read long ago.
        (
            Step::SealingToS3,
            5,
            s3(9, control(Lead::S3, E + 2)),
            Finish,
            Waits(Reason::LookAgain),
        ),
    ];
    for (step, next, s3, wish, expected) in table {
        let known = known(StageKind::DualWritePostgres, step, next, s3);
        assert_eq!(
            does(next_action(&known, wish)),
            expected,
            "{known:?} {wish:?}"
        );
    }
}

#[test]
fn each_step_of_a_hand_off_to_postgres() {
    use Does::*;
    use Wish::*;
    let leads = control(Lead::S3, E);
    let sealed = control(Lead::Postgres, E + 1);
    let kept = control(Lead::S3, E + 2);
    let (seal, undo) = (Step::SealingToPostgres, Step::UndoingToS3);
    let table = [
        (
            seal,
            5,
            s3(7, leads),
            Finish,
            Puts(7, Lead::Postgres, E + 1),
        ),
        (seal, 5, s3(8, sealed), Finish, ToPostgres(8)),
        (seal, 8, s3(8, sealed), Finish, Sets(Change::LeadPostgres)),
        (seal, 5, None, Finish, Waits(Reason::S3Unavailable)),
        (seal, 5, s3(9, kept), Finish, Waits(Reason::LookAgain)),
        (
            seal,
            5,
            s3(3, control(Lead::S3, 2)),
            Finish,
            Waits(Reason::LookAgain),
        ),
        (
            seal,
            5,
            s3(7, leads),
            Undo,
            Sets(Change::UndoSealToPostgres),
        ),
        (
            seal,
            8,
            s3(8, sealed),
            Undo,
            Sets(Change::UndoSealToPostgres),
        ),
        (seal, 5, None, Undo, Sets(Change::UndoSealToPostgres)),
        // Undoing is seen to its end, whatever is wished.
        (undo, 5, s3(7, leads), Finish, Puts(7, Lead::S3, E + 2)),
        (undo, 5, s3(8, sealed), Undo, Puts(8, Lead::S3, E + 2)),
        (undo, 5, s3(12, kept), Finish, Sets(Change::KeepS3)),
        (undo, 5, None, Undo, Waits(Reason::S3Unavailable)),
        (
            undo,
            5,
            s3(12, control(Lead::Postgres, E + 3)),
            Undo,
            Waits(Reason::LookAgain),
        ),
    ];
    for (step, next, s3, wish, expected) in table {
        let known = known(StageKind::DualWriteS3, step, next, s3);
        assert_eq!(
            does(next_action(&known, wish)),
            expected,
            "{known:?} {wish:?}"
        );
    }
}

#[test]
fn a_move_begins_only_where_it_begins_and_the_lead_moves_only_after_catching_up() {
    use Does::*;
    use StageKind::*;
    let moves = |edge, direction| Move::new(edge, direction);
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    let table = [
        (
            Legacy,
            moves(Edge::A, forward),
            5,
            None,
            Sets(Change::MirrorInS3),
        ),
        (
            DualWritePostgres,
            moves(Edge::A, backward),
            5,
            None,
            Sets(Change::StopMirrorInS3),
        ),
        (
            DualWriteS3,
            moves(Edge::C, forward),
            5,
            None,
            Sets(Change::StopMirrorInPostgres),
        ),
        (
            S3Only,
            moves(Edge::C, backward),
            5,
            None,
            Sets(Change::MirrorInPostgres),
        ),
        (
            DualWritePostgres,
            moves(Edge::B, forward),
            9,
            s3(6, None),
            ToS3(9),
        ),
        (
            DualWritePostgres,
            moves(Edge::B, forward),
            9,
            s3(7, None),
            Sets(Change::DrainToS3),
        ),
        (
            DualWritePostgres,
            moves(Edge::B, forward),
            9,
            None,
            Waits(Reason::S3Unavailable),
        ),
        (
            DualWriteS3,
            moves(Edge::B, backward),
            6,
            s3(9, None),
            ToPostgres(9),
        ),
        (
            DualWriteS3,
            moves(Edge::B, backward),
            9,
            s3(9, None),
            Sets(Change::SealToPostgres),
        ),
        (
            DualWriteS3,
            moves(Edge::B, forward),
            9,
            s3(9, None),
            Leads(Lead::S3),
        ),
        (
            S3Only,
            moves(Edge::B, backward),
            9,
            s3(9, None),
            Waits(Reason::Elsewhere),
        ),
    ];
    for (stage, step, next, s3, expected) in table {
        let known = known(stage, Step::Steady, next, s3);
        assert_eq!(does(begin(&known, step, 2)), expected, "{known:?} {step:?}");
        assert_eq!(does(next_action(&known, Wish::Finish)), Leads(stage.lead()));
    }
    let busy = known(DualWritePostgres, Step::DrainingToS3, 0, None);
    let step = moves(Edge::B, forward);
    assert_eq!(does(begin(&busy, step, 2)), Waits(Reason::HandOffUnderWay));
}

#[test]
fn a_deadline_turns_the_wish() {
    assert_eq!(Wish::by_deadline(false), Wish::Finish);
    assert_eq!(Wish::by_deadline(true), Wish::Undo);
}
