//! Clients that mean no good, or no longer answer, against the real server over real sockets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::auth::Access;
use super::door::Door;
use super::extract::{BareCommand, Command};
use super::middleware::RequestPipeline;
use super::server::serve;
use super::{HttpLimits, HttpSettings};

/// Far above what is normal: only a hang takes so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the clients of these tests are waited for.
pub(super) const SHORT: Duration = Duration::from_millis(400);
/// More than all buffers of a connection hold.
pub(super) const BIG: usize = 16 << 20;

pub(super) struct World {
    pub limits: Arc<HttpLimits>,
    pub address: SocketAddr,
    handle: ServerHandle,
    pub at_once: Arc<AtomicUsize>,
}

pub(super) fn settings() -> HttpSettings {
    HttpSettings {
        port: 0,
        workers: 1,
        head_timeout: SHORT,
        write_timeout: SHORT,
        ..HttpSettings::standard()
    }
}

async fn echo(command: Command<serde_json::Map<String, serde_json::Value>>) -> HttpResponse {
    HttpResponse::Ok().body(command.body.len().to_string())
}

pub(super) async fn start(settings: HttpSettings) -> World {
    let limits = Arc::new(HttpLimits::new(settings, vec![]));
    let at_once = Arc::new(AtomicUsize::new(0));
    let (for_app, most) = (limits.clone(), at_once.clone());
    let application = move |cfg: &mut web::ServiceConfig, _: Door| {
        let pipeline = |path, method, access| {
            RequestPipeline::new(for_app.clone(), path, vec![(method, access)])
        };
        let big = || async { HttpResponse::Ok().body(vec![b'x'; BIG]) };
        let pipeline_big = pipeline("/big", Method::GET, Access::Read);
        cfg.service(web::resource("/big").get(big).wrap(pipeline_big));
        let pipeline_write = pipeline("/write", Method::POST, Access::Write);
        cfg.service(web::resource("/write").post(big).wrap(pipeline_write));
        let most = most.clone();
        let now = Arc::new(AtomicUsize::new(0));
        let slow = move |_: HttpRequest| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                actix_rt::time::sleep(Duration::from_millis(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                HttpResponse::Ok().body("slow")
            }
        };
        let pipeline_slow = pipeline("/slow", Method::GET, Access::Read);
        cfg.service(web::resource("/slow").get(slow).wrap(pipeline_slow));
        let live = || async {
            let endless = futures_util::stream::pending::<io::Result<Bytes>>();
            HttpResponse::Ok().streaming(endless)
        };
        let pipeline_live = pipeline("/live", Method::GET, Access::Read);
        cfg.service(
            web::resource("/live")
                .route(web::head().to(live))
                .wrap(pipeline_live),
        );
        let pipeline_echo = pipeline("/echo", Method::POST, Access::Write);
        cfg.service(web::resource("/echo").post(echo).wrap(pipeline_echo));
        let bare = |_: BareCommand| async {
            // As real ones do. To an answer that is there before the next read actix says that
            // the body was not wanted, and closes the connection.
            actix_rt::time::sleep(Duration::from_millis(1)).await;
            HttpResponse::Ok().body("bare")
        };
        let pipeline_bare = pipeline("/bare", Method::DELETE, Access::Write);
        cfg.service(web::resource("/bare").delete(bare).wrap(pipeline_bare));
    };
    let (server, listening) = serve(limits.clone(), application).await.unwrap();
    let handle = server.handle();
    actix_rt::spawn(server);
    World {
        limits,
        address: listening.callers[0],
        handle,
        at_once,
    }
}

impl World {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    pub async fn until(&self, what: &str, holds: impl Fn((usize, usize, usize)) -> bool) {
        let began = Instant::now();
        while !holds(self.limits.held()) {
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: {:?}",
                self.limits.held()
            );
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn end(self) {
        self.handle.stop(false).await;
    }
}

/// Reads everything until the connection is closed, on a thread of its own.
async fn rest(mut stream: TcpStream) -> String {
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        match stream.read_to_end(&mut all) {
            // Cut off with bytes of ours unread.
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
            Err(e) => panic!("{e} after {} bytes", all.len()),
        }
        String::from_utf8(all).unwrap()
    });
    read.await.unwrap()
}

const GET_BIG: &str = "GET /big HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[actix_web::test]
async fn law_13_the_place_is_held_until_the_answer_is_written_and_no_longer_than_a_client_may_take()
{
    let world = start(settings()).await;
    let silent = world.send(GET_BIG);
    world.until("it is held", |held| held == (1, BIG, 1)).await;
    world.until("it is cut off", |held| held == (0, 0, 0)).await;
    let got = rest(silent).await;
    assert!(got.len() < BIG, "{}", got.len());
    // Who reads gets all of it.
    let text = GET_BIG.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    let reader = world.send(&text);
    assert!(rest(reader).await.len() > BIG);
    world.until("it is over", |held| held == (0, 0, 0)).await;
    world.end().await;
}

#[actix_web::test]
async fn law_13_bytes_of_answers_in_flight_are_bounded() {
    let limited = HttpSettings {
        max_response_bytes_in_flight: 2 * BIG + 1,
        write_timeout: PATIENCE,
        ..settings()
    };
    let world = start(limited).await;
    let _stalled = (world.send(GET_BIG), world.send(GET_BIG));
    world.until("two fit", |held| held == (2, 2 * BIG, 2)).await;
    let close = "\r\nconnection: close\r\n\r\n";
    let refused = rest(world.send(&GET_BIG.replace("\r\n\r\n", close))).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("response_bytes_in_flight"), "{refused}");
    // What a write did must be told; the next is not begun.
    let write = "POST /write HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let _written = world.send(write);
    world
        .until("the write", |held| held == (3, 3 * BIG, 3))
        .await;
    let refused = rest(world.send(&write.replace("\r\n\r\n", close))).await;
    assert!(refused.contains("nothing was done"), "{refused}");
    world.end().await;
}

#[actix_web::test]
async fn law_13_every_request_of_a_connection_has_a_head_deadline() {
    let world = start(settings()).await;
    let whole = "GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for before in [0, 1, 3] {
        let half = format!("{}GET /slow HTT", whole.repeat(before));
        let began = Instant::now();
        let got = rest(world.send(&half)).await;
        assert_eq!(got.matches("slow").count(), before, "{got}");
        assert!(got.contains("HTTP/1.1 408"), "{got}");
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    }
    // A byte now and then gains nothing.
    let mut drip = world.send(whole);
    let (mut sent, began) = (0, Instant::now());
    while drip.write_all(b"G").is_ok() && began.elapsed() < PATIENCE {
        sent += 1;
        actix_rt::time::sleep(SHORT / 8).await;
    }
    assert!(sent < 30 && began.elapsed() < PATIENCE / 2, "{sent}");
    world.end().await;
}

#[actix_web::test]
async fn law_13_pipelined_requests_are_done_one_by_one() {
    let world = start(settings()).await;
    let request = "GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    let got = rest(world.send(&format!("{}{last}", request.repeat(300)))).await;
    assert_eq!(got.matches("HTTP/1.1 200").count(), 301);
    assert_eq!(world.at_once.load(Ordering::SeqCst), 1);
    world.end().await;
}

#[actix_web::test]
async fn bodies_of_every_size_and_kind_arrive_and_what_follows_them_too() {
    let world = start(settings()).await;
    let head = "host: localhost\r\ncontent-type: application/json\r\n";
    let mut text = String::new();
    for size in [0, 10, 5_000, 9_000, 300_000] {
        let body = format!("{{\"a\":\"{}\"}}", "x".repeat(size));
        let n = body.len();
        text += &format!("POST /echo HTTP/1.1\r\n{head}content-length: {n}\r\n\r\n{body}");
        text += &format!(
            "POST /echo HTTP/1.1\r\n{head}transfer-encoding: chunked\r\n\r\n{n:x}\r\n{body}\r\n0\r\n\r\n"
        );
        // An unread body does not cost the connection, if it is small.
        text += "DELETE /bare HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";
    }
    text += "DELETE /bare HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut stream = world.connect();
    let mut writer = stream.try_clone().unwrap();
    let sent = tokio::task::spawn_blocking(move || writer.write_all(text.as_bytes()));
    let got = tokio::task::spawn_blocking(move || {
        let mut all = String::new();
        stream.read_to_string(&mut all).map(|_| all)
    });
    sent.await.unwrap().unwrap();
    let got = got.await.unwrap().unwrap();
    assert_eq!(got.matches("HTTP/1.1 200").count(), 16, "{got}");
    assert_eq!(got.matches("bare").count(), 6, "{got}");
    world.end().await;
}

#[actix_web::test]
async fn a_body_that_is_too_large_is_answered_although_it_is_not_read() {
    let world = start(settings()).await;
    let n = 3 << 20;
    let text = format!(
        "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {n}\r\n\r\n{}",
        "x".repeat(n)
    );
    let mut stream = world.connect();
    let mut writer = stream.try_clone().unwrap();
    let sent = tokio::task::spawn_blocking(move || writer.write_all(text.as_bytes()));
    let got = tokio::task::spawn_blocking(move || {
        let mut head = [0; 12];
        stream.read_exact(&mut head).map(|()| head)
    });
    assert_eq!(&got.await.unwrap().unwrap(), b"HTTP/1.1 413");
    sent.await.unwrap().unwrap();
    world.end().await;
}

#[actix_web::test]
async fn law_13_head_of_a_live_stream_ends_at_once() {
    let world = start(settings()).await;
    let head = "HEAD /live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = "GET /slow HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let got = rest(world.send(&format!("{head}{head}{last}"))).await;
    assert_eq!(got.matches("HTTP/1.1 200").count(), 3, "{got}");
    assert!(got.ends_with("slow"), "{got}");
    world.end().await;
}

#[actix_web::test]
async fn law_13_idle_connections_make_room_when_connections_are_short() {
    let few = HttpSettings {
        max_connections: 8,
        ..settings()
    };
    let world = start(few).await;
    let request = "GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let idle: Vec<TcpStream> = (0..8).map(|_| world.send(request)).collect();
    // More than there may be: it is served once idle ones have been closed.
    let late = world.send(&request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
    let began = Instant::now();
    assert!(rest(late).await.ends_with("slow"));
    assert!(began.elapsed() < PATIENCE / 2);
    drop(idle);
    world.end().await;
}

#[actix_web::test]
async fn a_connection_whose_last_request_is_refused_is_closed_at_once() {
    // The head's deadline is actix's for what is still on its way.
    let patient = HttpSettings {
        head_timeout: PATIENCE,
        ..settings()
    };
    let world = start(patient).await;
    let refused = |length: usize| {
        format!(
            "POST /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: text/plain\r\n\
             content-length: {length}\r\n\r\n{}",
            "x".repeat(length)
        )
    };
    for length in [1, 100, 200_000] {
        let began = Instant::now();
        let got = rest(world.send(&refused(length))).await;
        assert!(got.starts_with("HTTP/1.1 415"), "{got}");
        assert!(
            began.elapsed() < PATIENCE / 3,
            "{length}: {:?}",
            began.elapsed()
        );
    }
    world.end().await;
}
