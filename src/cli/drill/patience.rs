//! Repeats a request until there is an answer, for a limited time.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use super::super::remote::ApiError;

/// Pause between two attempts: the resolution of the measurement.
const AGAIN: Duration = Duration::from_millis(5);

/// Why there is no answer, with the last error.
#[derive(Debug, thiserror::Error)]
pub enum Waited {
    /// The time is over.
    #[error("no good answer within {limit:?}; the last one: {last}")]
    TooLong {
        limit: Duration,
        /// The last error.
        last: String,
    },
    /// Repeating would not help.
    #[error(transparent)]
    Api(#[from] ApiError),
}

#[derive(Debug)]
pub struct Got<T> {
    pub answer: T,
    /// How many attempts failed before.
    pub again: u64,
}

/// Repeats `ask` until it returns a value. Errors of reachability or availability are retried.
pub async fn persist<T, F>(
    begun: Instant,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<Got<T>, Waited>
where
    F: Future<Output = Result<Option<T>, ApiError>>,
{
    let until = tokio::time::Instant::from_std(begun + limit);
    let mut last = "none".to_owned();
    let mut again = 0;
    loop {
        match timeout_at(until, ask()).await {
            Ok(Ok(Some(answer))) => return Ok(Got { answer, again }),
            Ok(Ok(None)) => "not yet".clone_into(&mut last),
            Ok(Err(e @ (ApiError::Unreachable { .. } | ApiError::Unavailable { .. }))) => {
                last = e.to_string();
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Waited::TooLong { limit, last }),
        }
        again += 1;
        if begun.elapsed() + AGAIN >= limit {
            return Err(Waited::TooLong { limit, last });
        }
        sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_asked_until_there_is_an_answer_and_not_beyond_the_limit() {
        let limit = Duration::from_millis(60);
        let mut left = 3;
        let got = persist(Instant::now(), limit, || {
            left -= 1;
            std::future::ready(Ok((left == 0).then_some("here")))
        });
        let got = got.await.unwrap();
        assert_eq!((got.answer, got.again), ("here", 2));
        let never = persist(Instant::now(), limit, || async { Ok(None::<()>) }).await;
        assert!(matches!(never, Err(Waited::TooLong { .. })));
        let silence = persist(Instant::now(), limit, || {
            std::future::pending::<Result<Option<()>, ApiError>>()
        });
        assert!(matches!(silence.await, Err(Waited::TooLong { .. })));
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let refused = persist(Instant::now(), Duration::from_secs(9), || async {
            Err::<Option<()>, _>(ApiError::Odd {
                url: "u".into(),
                message: "m".into(),
            })
        });
        assert!(matches!(refused.await, Err(Waited::Api(_))));
    }
}
