//! The deadlines and bounds of a connection.

use super::*;
use actix_web::http::header::CONNECTION;
use actix_web::test::TestRequest;

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(5),
    idle: Duration::from_secs(75),
    write: Duration::from_secs(30),
};

fn begin(connection: &Rc<Connection>, headers: &[(&str, &str)]) -> Call {
    let mut request = TestRequest::default();
    for header in headers {
        request = request.append_header(*header);
    }
    let mut head = RequestHead::default();
    *head.headers_mut() = request.to_http_request().headers().clone();
    if head.headers().get(CONNECTION).is_some_and(|c| c == "close") {
        // As actix does where it reads a head.
        head.set_connection_type(ConnectionType::Close);
    }
    connection.begin(&head)
}

#[tokio::test(start_paused = true)]
async fn law_13_every_request_has_a_deadline_for_its_head() {
    let connection = Connection::new(Version::One, PATIENCE);
    let start = Instant::now();
    let idle = |from| Some((from + PATIENCE.idle, Overdue::Idle));
    let first = Some((start + PATIENCE.head, Overdue::Head));
    assert_eq!(connection.due(false), first);
    drop(begin(&connection, &[]));
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(1)).await;
        connection.handed_on(1);
        let head = Some((Instant::now() + PATIENCE.head, Overdue::Head));
        tokio::time::advance(Duration::from_secs(1)).await;
        connection.handed_on(1);
        assert_eq!(connection.due(false), head, "later bytes gain no time");
        let call = begin(&connection, &[]);
        assert_eq!(connection.due(false), None);
        drop(call);
        assert_eq!(connection.due(false), idle(Instant::now()));
    }
    let hurried = (Instant::now() + PATIENCE.head, Overdue::Idle);
    assert_eq!(connection.due(true), Some(hurried));
}

#[tokio::test(start_paused = true)]
async fn law_13_one_request_at_a_time_is_handed_on() {
    let connection = Connection::new(Version::One, PATIENCE);
    assert_eq!(connection.next(), Next::Head);
    let call = begin(&connection, &[]);
    assert_eq!(connection.next(), Next::Nothing);
    drop(call);
    let call = begin(&connection, &[("content-length", "20")]);
    assert_eq!(connection.next(), Next::Body(20));
    connection.handed_on(20);
    assert_eq!(connection.next(), Next::Nothing);
    drop(call);
    assert_eq!(connection.next(), Next::Head);
    let call = begin(&connection, &[("content-length", "1000000")]);
    assert_eq!(connection.next(), Next::Nothing, "nobody reads it");
    let reader = connection.read_body();
    assert_eq!(connection.next(), Next::Body(1_000_000));
    drop(reader);
    drop(call);
    assert_eq!(connection.next(), Next::Body(1_000_000), "it goes by");
    let call = begin(&connection, &[("transfer-encoding", "chunked")]);
    assert_eq!(connection.next(), Next::Nothing);
    let reader = connection.read_body();
    assert_eq!(connection.next(), Next::Chunks);
    reader.ended();
    assert_eq!(connection.next(), Next::Nothing);
    drop(call);
    assert_eq!(connection.next(), Next::Head);
}

#[tokio::test(start_paused = true)]
async fn law_13_who_does_not_read_is_overdue() {
    let connection = Connection::new(Version::One, PATIENCE);
    let call = begin(&connection, &[]);
    connection.blocked();
    let due = Some((Instant::now() + PATIENCE.write, Overdue::Write));
    tokio::time::advance(Duration::from_secs(1)).await;
    connection.blocked();
    assert_eq!(connection.due(false), due);
    drop(call);
    assert_eq!(connection.due(false), due, "the last bytes count as well");
    connection.written();
    assert_ne!(connection.due(false), due);
    let sooner = Instant::now() + Duration::from_secs(3);
    connection.expect_progress(7, sooner);
    assert_eq!(connection.due(false), Some((sooner, Overdue::Write)));
    connection.progressed(7);
    assert_ne!(connection.due(false), Some((sooner, Overdue::Write)));
}

#[tokio::test(start_paused = true)]
async fn law_13_an_idle_connection_is_no_less_overdue_over_http2() {
    let connection = Connection::new(Version::Two, PATIENCE);
    let first = Some((Instant::now() + PATIENCE.head, Overdue::Head));
    assert_eq!(connection.due(false), first, "who connects asks");
    let (one, other) = (begin(&connection, &[]), begin(&connection, &[]));
    drop(one);
    assert_eq!(connection.due(true), None, "one is in work");
    tokio::time::advance(Duration::from_secs(9)).await;
    drop(other);
    let idle = Some((Instant::now() + PATIENCE.idle, Overdue::Idle));
    // Neither pings nor half a head gain time.
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(connection.due(false), idle);
    let hurried = connection.due(true).map(|due| due.0);
    assert!(hurried < idle.map(|due| due.0), "others wait for its place");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_over_once_its_last_body_came_and_its_answer_is_written() {
    let close = ("connection", "close");
    let connection = Connection::new(Version::One, PATIENCE);
    let call = begin(&connection, &[close, ("content-length", "20")]);
    connection.written();
    drop(call);
    assert!(!connection.is_over(), "nothing of the answer is written");
    connection.written();
    assert!(!connection.is_over(), "the body is on its way");
    connection.handed_on(20);
    assert!(connection.is_over());
    drop(begin(&connection, &[]));
    connection.written();
    assert!(!connection.is_over(), "there may be another request");
    drop(begin(
        &connection,
        &[close, ("transfer-encoding", "chunked")],
    ));
    connection.written();
    assert!(!connection.is_over(), "who knows where its body ends");
}

#[tokio::test(start_paused = true)]
async fn law_13_http2_streams_are_bounded() {
    let connection = Connection::new(Version::Two, PATIENCE);
    let mut calls = Vec::new();
    for _ in 0..MAX_CONCURRENT_STREAMS {
        calls.push(begin(&connection, &[]));
    }
    assert!(!connection.is_crowded());
    calls.push(begin(&connection, &[]));
    assert!(connection.is_crowded() && !connection.is_cut());
    for _ in 0..MAX_CONCURRENT_STREAMS {
        calls.push(begin(&connection, &[]));
    }
    assert!(connection.is_cut());
}
