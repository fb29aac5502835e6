//! What librdkafka tells of its connections: forwarded to the log, and remembered where a broker and
//! this service do not accept each other. The request that fails for it is only told of a time-out.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::STORE;
use crate::error::{Determinacy, StoreError, StoreErrorKind};

/// The context of one client. Clones share what it remembers.
#[derive(Clone, Default)]
pub(super) struct Connection {
    remembered: Arc<Mutex<Remembered>>,
}

#[derive(Default)]
struct Remembered {
    /// Why the last connection failed, and whether it will fail for that again.
    trouble: Option<(StoreErrorKind, String)>,
    /// What was logged last.
    logged: String,
}

impl Connection {
    /// The error of a request, or what kept it from reaching a broker.
    pub fn failure(
        &self,
        determinacy: Determinacy,
        operation: &'static str,
        error: &KafkaError,
    ) -> StoreError {
        let code = error.rdkafka_error_code();
        let (kind, message) = match self.remembered.lock().trouble.clone() {
            Some((StoreErrorKind::Denied, refusal)) if says_nothing(code) => {
                (StoreErrorKind::Denied, refusal)
            }
            Some((_, trouble)) if says_nothing(code) => {
                (kind_of(code), format!("{error}: {trouble}"))
            }
            _ => (kind_of(code), error.to_string()),
        };
        StoreError {
            determinacy,
            kind,
            store: STORE,
            operation,
            message,
            retry_after: None,
        }
    }

    /// Forgets what kept connections away: a broker has answered since.
    pub fn answered(&self) {
        self.remembered.lock().trouble = None;
    }
}

impl ClientContext for Connection {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel as L;
        // Logged at every start for a setting that is intentional.
        if facility == "CONFWARN" && message.contains("enable.gapless.guarantee") {
            tracing::debug!(target: "librdkafka", facility, "{message}");
            return;
        }
        match level {
            L::Emerg | L::Alert | L::Critical | L::Error => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            L::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            // librdkafka logs connections that come and go as notice and info.
            L::Notice | L::Info | L::Debug => {
                tracing::debug!(target: "librdkafka", facility, "{message}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut remembered = self.remembered.lock();
        // A producer hands each of them on twice; librdkafka itself repeats none for a while.
        if remembered.logged != reason {
            tracing::warn!(target: "librdkafka", %error, "{reason}");
            reason.clone_into(&mut remembered.logged);
        }
        let code = error.rdkafka_error_code();
        if is_refusal(code) || refused_by_broker(reason) {
            remembered.trouble = Some((StoreErrorKind::Denied, reason.to_owned()));
        } else if code == Some(RDKafkaErrorCode::BrokerTransportFailure) {
            remembered.trouble = Some((StoreErrorKind::Unavailable, reason.to_owned()));
        }
    }
}

/// Whether the broker ended the connection for the certificate that it was shown, or for want of one:
/// alerts 42 to 46, 48 and 116 of TLS (RFC 8446, section 6.2), as OpenSSL writes them.
fn refused_by_broker(reason: &str) -> bool {
    let alert = reason.split("SSL alert number ").nth(1).unwrap_or_default();
    let number = alert.split(|c: char| !c.is_ascii_digit()).next();
    matches!(
        number.and_then(|n| n.parse().ok()),
        Some(42..=46 | 48 | 116)
    )
}

/// Whether a connection failed for certificates or credentials, which no other try will change.
fn is_refusal(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        Some(
            C::Authentication
                | C::SSL
                | C::SaslAuthenticationFailed
                | C::UnsupportedSASLMechanism
                | C::IllegalSASLState
        )
    )
}

/// Whether the error is that of whoever waits for a connection.
fn says_nothing(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        None | Some(
            C::AllBrokersDown
                | C::BrokerTransportFailure
                | C::MessageTimedOut
                | C::OperationTimedOut
                | C::PurgeInflight
                | C::PurgeQueue
        )
    )
}

/// The kind of an error.
pub(super) fn kind_of(code: Option<RDKafkaErrorCode>) -> StoreErrorKind {
    use RDKafkaErrorCode as C;
    match code {
        code if is_refusal(code) => StoreErrorKind::Denied,
        Some(C::MessageTimedOut | C::PurgeQueue | C::PurgeInflight | C::OperationTimedOut) => {
            StoreErrorKind::Timeout
        }
        Some(
            C::TopicAuthorizationFailed
            | C::ClusterAuthorizationFailed
            | C::TransactionalIdAuthorizationFailed,
        ) => StoreErrorKind::Denied,
        Some(C::UnknownTopic | C::UnknownTopicOrPartition) => StoreErrorKind::NotFound,
        // Another process publishes these partitions now.
        Some(C::Fenced | C::ProducerFenced | C::InvalidProducerEpoch) => StoreErrorKind::Conflict,
        _ => StoreErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_4_a_time_out_behind_a_refused_connection_is_told_as_the_refusal() {
        let told = |connection: &Connection, code| {
            let error = KafkaError::Global(code);
            let failure = connection.failure(Determinacy::Determinate, "publish", &error);
            (failure.kind, failure.message)
        };
        use RDKafkaErrorCode as C;
        let connection = Connection::default();
        let (kind, _) = told(&connection, C::BrokerTransportFailure);
        assert_eq!(kind, StoreErrorKind::Unavailable);
        connection.error(
            KafkaError::Global(C::AllBrokersDown),
            "1/1 brokers are down",
        );
        assert_eq!(
            told(&connection, C::OperationTimedOut).0,
            StoreErrorKind::Timeout
        );
        connection.error(KafkaError::Global(C::SSL), "certificate verify failed");
        let (kind, message) = told(&connection.clone(), C::BrokerTransportFailure);
        assert_eq!(kind, StoreErrorKind::Denied);
        assert!(message.contains("certificate verify failed"), "{message}");
        // What a broker answered stands.
        let (kind, _) = told(&connection, C::UnknownTopicOrPartition);
        assert_eq!(kind, StoreErrorKind::NotFound);
        connection.answered();
        let (kind, _) = told(&connection, C::BrokerTransportFailure);
        assert_eq!(kind, StoreErrorKind::Unavailable);
    }
}
