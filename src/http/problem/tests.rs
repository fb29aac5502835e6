use super::*;
use std::collections::HashSet;

fn answer(error: ServiceError) -> (u16, serde_json::Value, HttpResponse) {
    let problem = Problem::from(error);
    let response = problem.error_response();
    let body = serde_json::to_value(problem.body()).unwrap();
    (response.status().as_u16(), body, response)
}

#[test]
fn every_service_error_has_its_row() {
    let id = CommandId(uuid::Uuid::from_u128(7));
    let second = Duration::from_millis(1_200);
    let refused = |r: Refusal| ServiceError::Refused(r);
    let table: Vec<(ServiceError, u16, &str)> = vec![
        (refused(Refusal::invalid("bad", "m")), 422, "bad"),
        (
            refused(Refusal::not_found("class_not_found", "m")),
            404,
            "class_not_found",
        ),
        (refused(Refusal::conflict("taken", "m")), 409, "taken"),
        (
            refused(Refusal::version_mismatch(Version(2), Version(5))),
            412,
            "version_mismatch",
        ),
        (
            refused(Refusal::violations(vec![])),
            422,
            "validation_failed",
        ),
        (
            refused(Refusal::forbidden("chaos_disabled", "m")),
            403,
            "chaos_disabled",
        ),
        (
            refused(Refusal::invalid("invalid_cursor", "m")),
            400,
            "invalid_cursor",
        ),
        (
            refused(Refusal::invalid("cursor_of_another_log", "m")),
            400,
            "cursor_of_another_log",
        ),
        (
            ServiceError::Overloaded {
                limit: "writes",
                callers_own: false,
                retry_after: second,
            },
            503,
            "overloaded",
        ),
        (
            ServiceError::Overloaded {
                limit: "stream",
                callers_own: true,
                retry_after: second,
            },
            429,
            "rate_limited",
        ),
        (
            ServiceError::Unavailable {
                dependency: "s3",
                message: "m".into(),
                retry_after: second,
            },
            503,
            "unavailable",
        ),
        (
            ServiceError::NoRoom {
                place: "disk",
                message: "m".into(),
                retry_after: second,
            },
            503,
            "storage_full",
        ),
        (
            ServiceError::OutcomeUnknown {
                command_id: id,
                message: "m".into(),
                retry_after: second,
            },
            503,
            "outcome_unknown",
        ),
        (ServiceError::DeadlineExceeded, 503, "deadline_exceeded"),
        (ServiceError::Internal("secret".into()), 500, "internal"),
    ];
    for (error, status, code) in table {
        let (got, body, response) = answer(error);
        assert_eq!((got, body["code"].as_str().unwrap()), (status, code));
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:oms:problem:{code}"));
        assert_eq!(
            response.headers().get(header::CONTENT_TYPE).unwrap(),
            PROBLEM_JSON
        );
        // Law 13: a temporary refusal says when to retry.
        assert_eq!(
            response.headers().contains_key(header::RETRY_AFTER),
            matches!(status, 503 | 429),
            "{code}"
        );
    }
}

#[test]
fn extension_members_carry_what_the_caller_acts_on() {
    let (_, body, _) = answer(Refusal::version_mismatch(Version(2), Version(5)).into());
    assert_eq!(body["actual_version"], 5);
    let (_, body, response) = answer(ServiceError::OutcomeUnknown {
        command_id: CommandId(uuid::Uuid::from_u128(7)),
        message: "m".into(),
        retry_after: Duration::from_millis(1_200),
    });
    assert_eq!(body["command_id"], "00000000-0000-0000-0000-000000000007");
    assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "2");
    let violation = Violation {
        field: "data.age".into(),
        code: "type",
        message: "m".into(),
    };
    let (_, body, _) = answer(Refusal::violations(vec![violation]).into());
    assert_eq!(body["violations"][0]["field"], "data.age");
}

#[test]
fn the_cause_of_an_internal_error_goes_to_the_log_only() {
    let problem = Problem::from(ServiceError::Internal("row 7 is damaged".into()));
    assert_eq!(problem.cause(), Some("row 7 is damaged"));
    assert!(
        !serde_json::to_string(problem.body())
            .unwrap()
            .contains("row 7")
    );
}

#[test]
fn a_dependencys_own_words_go_to_the_log_only() {
    let words = "http://10.0.0.7:9000/bucket: role `app` does not exist";
    let after = Duration::from_secs(1);
    let errors = [
        ServiceError::Unavailable {
            dependency: "postgres",
            message: words.into(),
            retry_after: after,
        },
        ServiceError::OutcomeUnknown {
            command_id: CommandId(uuid::Uuid::from_u128(7)),
            message: words.into(),
            retry_after: after,
        },
    ];
    for error in errors {
        let problem = Problem::from(error);
        assert!(problem.cause().unwrap().contains(words));
        let body = serde_json::to_string(problem.body()).unwrap();
        assert!(
            !body.contains("10.0.0.7") && !body.contains("role"),
            "{body}"
        );
        assert!(body.contains("retry_after"), "{body}");
    }
}

#[test]
fn codes_are_unique_and_statuses_are_failures() {
    let codes: HashSet<&str> = ALL.iter().map(|c| c.code).collect();
    assert_eq!(codes.len(), ALL.len());
    assert!(ALL.iter().all(|c| (400..600).contains(&c.status)));
}
