//! Fail points: named places, one before and one after every call to a dependency, where a failure
//! can be injected. `s3.put_if_absent.before` is the moment before a put is sent,
//! `s3.put_if_absent.after` the one after its answer came.
//!
//! | action | before | after |
//! |---|---|---|
//! | `error` | did not happen: determinate | happened, and is reported as a failure of unknown outcome |
//! | `happened_but_failed` | – | the same as `error` |
//! | `panic` | the caller panics and nothing was sent | the caller panics and it has happened |
//! | `delay` | sent late | answered late |
//!
//! Nothing can be armed unless [`open`] was called at start, with `chaos.enabled`; until then a
//! point costs one relaxed load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{StoreError, StoreErrorKind};

/// Points armed at once at most; there are a few dozen in total.
const MAX_ARMED: usize = 256;

/// Longest delay: longer than every deadline of the service, so that each can be exceeded.
pub const MAX_DELAY: Duration = Duration::from_secs(60);

static OPEN: AtomicBool = AtomicBool::new(false);
static POINTS: Mutex<BTreeMap<String, Point>> = Mutex::new(BTreeMap::new());

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = FailpointAction))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A failure is returned; after the call, one of unknown outcome.
    Error,
    /// The caller panics.
    Panic,
    /// The call is delayed.
    Delay,
    /// The call happens and is reported as a failure of unknown outcome; only after a call.
    HappenedButFailed,
}

/// The side of the call on which a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the call is sent.
    Before,
    /// After its answer arrived.
    After,
}

impl Side {
    fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// The state of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = FailpointState))]
pub struct Point {
    /// The armed action, if any.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub action: Option<Action>,
    /// How often it will still happen.
    pub times: u32,
    /// The delay in milliseconds.
    pub delay_ms: u64,
    /// How often the point was reached since fail points were switched on.
    pub passed: u64,
    /// How often the action has happened.
    pub hit: u64,
}

/// Why a point was not armed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotArmed {
    /// `chaos.enabled` is off.
    #[error("fail points need `chaos.enabled`")]
    Closed,
    /// The name is malformed.
    #[error("a name is dependency.operation.before or dependency.operation.after")]
    Name,
    /// This action is not possible before a call.
    #[error("happened_but_failed goes with a name that ends in .after")]
    Side,
    /// Too many points are armed.
    #[error("at most {MAX_ARMED} points may be armed")]
    TooMany,
    /// The delay is too long.
    #[error("a delay is at most {} ms", MAX_DELAY.as_millis())]
    Delay,
}

/// Allows points to be armed; called once, at start, if chaos is enabled.
pub fn open() {
    OPEN.store(true, Ordering::Relaxed);
}

/// Arms `name` to do `action` the next `times` times it is reached; 0 disarms it.
pub fn arm(name: &str, action: Action, times: u32, delay: Duration) -> Result<(), NotArmed> {
    if !OPEN.load(Ordering::Relaxed) {
        return Err(NotArmed::Closed);
    }
    let mut parts = name.split('.');
    let whole = (parts.next().is_some_and(|p| !p.is_empty()))
        && (parts.next().is_some_and(|p| !p.is_empty()))
        && matches!(parts.next(), Some("before" | "after"))
        && parts.next().is_none()
        && name.len() <= 100;
    if !whole {
        return Err(NotArmed::Name);
    }
    if action == Action::HappenedButFailed && !name.ends_with(".after") {
        return Err(NotArmed::Side);
    }
    if delay > MAX_DELAY {
        return Err(NotArmed::Delay);
    }
    let mut points = POINTS.lock();
    if points.len() >= MAX_ARMED && !points.contains_key(name) {
        return Err(NotArmed::TooMany);
    }
    let point = points.entry(name.to_owned()).or_insert(Point::UNARMED);
    point.action = (times > 0).then_some(action);
    point.times = times;
    point.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    Ok(())
}

/// Every point that was reached or armed, by name.
pub fn list() -> BTreeMap<String, Point> {
    POINTS.lock().clone()
}

impl Point {
    const UNARMED: Self = Self {
        action: None,
        times: 0,
        delay_ms: 0,
        passed: 0,
        hit: 0,
    };

    fn pass(&mut self) -> Option<(Action, Duration)> {
        self.passed += 1;
        let action = self.action?;
        self.hit += 1;
        self.times -= 1;
        if self.times == 0 {
            self.action = None;
        }
        Some((action, Duration::from_millis(self.delay_ms)))
    }
}

/// Called at a point: executes the armed action. In an actor a panic is caught by its guard.
#[inline]
pub async fn pass(
    dependency: &'static str,
    operation: &'static str,
    side: Side,
) -> Result<(), StoreError> {
    if !OPEN.load(Ordering::Relaxed) {
        return Ok(());
    }
    pass_open(dependency, operation, side).await
}

#[cold]
async fn pass_open(
    dependency: &'static str,
    operation: &'static str,
    side: Side,
) -> Result<(), StoreError> {
    let name = format!("{dependency}.{}.{}", slug(operation), side.as_str());
    let armed = {
        let mut points = POINTS.lock();
        if points.len() >= MAX_ARMED && !points.contains_key(&name) {
            return Ok(());
        }
        points.entry(name.clone()).or_insert(Point::UNARMED).pass()
    };
    let Some((action, delay)) = armed else {
        return Ok(());
    };
    tracing::warn!(point = %name, ?action, "fail point");
    match (action, side) {
        (Action::Delay, _) => {
            tokio::time::sleep(delay).await;
            Ok(())
        }
        (Action::Error | Action::HappenedButFailed, Side::Before) => Err(StoreError::determinate(
            StoreErrorKind::Unavailable,
            dependency,
            operation,
            "ordered at a fail point",
        )),
        (Action::Error | Action::HappenedButFailed, Side::After) => Err(StoreError::indeterminate(
            StoreErrorKind::Unavailable,
            dependency,
            operation,
            "ordered at a fail point",
        )),
        (Action::Panic, _) => ordered_panic(&name),
    }
}

/// The part of a point's name for an operation, whose own name has spaces.
fn slug(operation: &str) -> String {
    operation.replace([' ', '.'], "_")
}

#[allow(clippy::panic, reason = "to panic is what was asked for")]
fn ordered_panic(name: &str) -> ! {
    panic!("ordered at the fail point {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(operation: &'static str, side: Side) -> Result<(), StoreError> {
        pass("test", operation, side).await
    }

    /// One test: the points are the process's.
    #[tokio::test(start_paused = true)]
    async fn points_do_what_is_armed_as_often_as_is_said_and_only_when_open() {
        let once = |name: &str, action| arm(name, action, 1, Duration::from_secs(7));
        if !OPEN.load(Ordering::Relaxed) {
            let refused = once("test.a_b.before", Action::Error);
            assert_eq!(refused, Err(NotArmed::Closed));
            passed("a b", Side::Before).await.unwrap();
            open();
        }
        for (name, why) in [
            ("test.a", NotArmed::Name),
            ("test.a.between", NotArmed::Name),
            ("test.a.before.x", NotArmed::Name),
            (".a.before", NotArmed::Name),
        ] {
            assert_eq!(once(name, Action::Error), Err(why), "{name}");
        }
        once("test.a_b.before", Action::Error).unwrap();
        let error = passed("a b", Side::Before).await.unwrap_err();
        assert!(!error.is_indeterminate(), "{error}");
        passed("a b", Side::Before).await.unwrap();
        once("test.a_b.after", Action::Error).unwrap();
        let error = passed("a b", Side::After).await.unwrap_err();
        assert!(error.is_indeterminate(), "{error}");
        let side = once("test.a_b.before", Action::HappenedButFailed);
        assert_eq!(side, Err(NotArmed::Side));
        once("test.a_b.after", Action::Delay).unwrap();
        let begun = tokio::time::Instant::now();
        passed("a b", Side::After).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(7));
        once("test.a_b.after", Action::Panic).unwrap();
        let panicked = tokio::spawn(passed("a b", Side::After)).await;
        assert!(panicked.unwrap_err().is_panic());
        let point = &list()["test.a_b.before"];
        assert_eq!((point.passed, point.hit, point.action), (2, 1, None));
    }
}
