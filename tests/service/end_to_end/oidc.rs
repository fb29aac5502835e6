//! Sign-in by an OpenID Connect provider: its tokens are taken for as long as it says, with the keys
//! that it has now, and nobody's choice of a token is work for it.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use oms_testkit::provider::{Provider, SigningKey};
use oms_testkit::service::Service;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::OMS;

const OPS: &str = "the operator's secret";

/// Claims of somebody who may do what `roles` say, for so many seconds.
fn claims(provider: &Provider, name: &str, roles: &[&str], seconds: i64) -> Value {
    let now = oms_testkit::now().as_second();
    json!({
        "iss": provider.issuer, "aud": ["oms", "account"], "sub": name,
        "iat": now, "exp": now + seconds, "realm_access": {"roles": roles},
    })
}

struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: Value,
}

async fn ask(service: &Service, method: &str, path: &str, token: &str) -> Answer {
    let mut request = service
        .http
        .request(method.parse().expect("a method"), service.at(path))
        .bearer_auth(token);
    if method == "POST" {
        request = request.json(&json!({"events": [{"type": "Seen", "data": {}}]}));
    }
    let answer = request.send().await.expect("an answer");
    let after = answer.headers().get("retry-after");
    let retry_after = after.map(|v| v.to_str().expect("text").to_owned());
    let status = answer.status().as_u16();
    let body = answer.json().await.expect("JSON");
    Answer {
        status,
        retry_after,
        body,
    }
}

const STREAM: &str = "/api/v1/streams/visit/1/events";

async fn start(provider: &Provider) -> Service {
    let ops = json!([{"name": "ops", "roles": ["read", "admin"], "sha256": hex::encode(Sha256::digest(OPS))}]);
    let ops = ops.to_string();
    let env = [
        ("OMS__AUTH__TOKENS", ops.as_str()),
        ("OMS__AUTH__OIDC__ISSUER", &provider.issuer),
        ("OMS__AUTH__OIDC__AUDIENCE", r#"["oms"]"#),
        ("OMS__AUTH__OIDC__ROLES_CLAIM", "realm_access.roles"),
        ("OMS__AUTH__OIDC__READ", r#"["viewer", "editor"]"#),
        ("OMS__AUTH__OIDC__WRITE", r#"["editor"]"#),
        ("OMS__AUTH__OIDC__CLOCK_SKEW", "0s"),
    ];
    Service::start(OMS, &env, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_the_tokens_of_a_provider_let_in_whom_it_names_while_it_says_so() {
    let (first, second) = (SigningKey::new("first"), SigningKey::new("second"));
    let provider = Provider::start(&[]).await;
    let service = start(&provider).await;
    let editor = first.token(&claims(&provider, "alice", &["editor"], 600));
    let viewer = first.token(&claims(&provider, "bob", &["viewer"], 600));

    // The provider is away: nobody can say whether a token is good, and configured ones are.
    let early = ask(&service, "GET", "/api/v1/me", &editor).await;
    assert_eq!(
        (early.status, &early.body["subject"]),
        (503, &json!("oidc")),
        "{}",
        early.body
    );
    assert_eq!(early.retry_after.as_deref(), Some("1"));
    assert_eq!(ask(&service, "GET", "/api/v1/me", OPS).await.status, 200);

    provider.show(&[&first]);
    let me = service
        .until("keys", async || {
            let me = ask(&service, "GET", "/api/v1/me", &editor).await;
            (me.status != 503).then_some(me)
        })
        .await;
    assert_eq!(me.status, 200, "{}", me.body);
    assert_eq!(me.body["name"], "oidc:alice");
    assert_eq!(me.body["roles"], json!(["read", "write"]));
    assert!(me.body["expires"].is_string(), "{}", me.body);

    // What is written says who wrote it; roles are held to.
    let written = ask(&service, "POST", STREAM, &editor).await;
    assert_eq!(written.status, 201, "{}", written.body);
    let read = ask(&service, "GET", STREAM, &viewer).await;
    assert_eq!(read.status, 200, "{}", read.body);
    let text = read.body.to_string();
    assert!(text.contains("oidc:alice"), "{text}");
    for (method, path) in [("POST", STREAM), ("GET", "/api/v1/admin/service")] {
        let refused = ask(&service, method, path, &viewer).await;
        assert_eq!(refused.status, 403, "{method} {path}: {}", refused.body);
    }
    let trail = service
        .until("audit trail", async || {
            let trail = ask(&service, "GET", "/api/v1/admin/audit", OPS).await;
            trail.body.to_string().contains("oidc:bob").then_some(trail)
        })
        .await;
    assert!(trail.body.to_string().contains("refusal"), "{}", trail.body);

    // Tokens with keys that somebody made up: refused, and no work for the provider.
    let asked = provider.asked();
    for n in 0..40 {
        let made_up = SigningKey::new(&format!("made up {n}"));
        let token = made_up.token(&claims(&provider, "mallory", &["editor"], 600));
        let refused = ask(&service, "GET", "/api/v1/me", &token).await;
        assert!([401, 503].contains(&refused.status), "{}", refused.body);
    }
    assert!(
        provider.asked() - asked <= 3,
        "{} times",
        provider.asked() - asked
    );

    // The provider has another key: what it signs is taken soon, what the old one signed no more.
    provider.show(&[&second]);
    let newer = second.token(&claims(&provider, "alice", &["editor"], 600));
    service
        .until("the new key", async || {
            let status = ask(&service, "GET", "/api/v1/me", &newer).await.status;
            (status == 200).then_some(())
        })
        .await;
    let old = ask(&service, "GET", "/api/v1/me", &editor).await;
    assert_eq!(old.status, 401, "{}", old.body);

    // The provider is away again: the keys that are known stay in use, also for tokens that were never
    // seen, and when it was asked in vain.
    provider.show(&[]);
    let asked = provider.asked();
    let made_up = SigningKey::new("made up");
    let made_up = made_up.token(&claims(&provider, "mallory", &["editor"], 600));
    service
        .until("asking in vain", async || {
            ask(&service, "GET", "/api/v1/me", &made_up).await;
            (provider.asked() > asked).then_some(())
        })
        .await;
    let fresh = second.token(&claims(&provider, "carol", &["editor"], 600));
    assert_eq!(ask(&service, "POST", STREAM, &fresh).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_a_live_stream_ends_with_the_token_it_was_opened_with() {
    let key = SigningKey::new("k");
    let provider = Provider::start(&[&key]).await;
    let service = start(&provider).await;
    let long = key.token(&claims(&provider, "alice", &["editor"], 600));
    service
        .until("keys", async || {
            let status = ask(&service, "GET", "/api/v1/me", &long).await.status;
            (status == 200).then_some(())
        })
        .await;
    let brief = key.token(&claims(&provider, "bob", &["viewer"], 4));
    let opened = Instant::now();
    let live = service
        .http
        .get(service.at("/api/v1/events"))
        .header("Accept", "text/event-stream")
        .bearer_auth(&brief)
        .send()
        .await
        .expect("an answer");
    assert_eq!(live.status(), 200);
    let mut said = String::new();
    let mut pieces = live.bytes_stream();
    while let Some(piece) = pieces.next().await {
        said.push_str(&String::from_utf8_lossy(&piece.expect("a piece")));
    }
    let lasted = opened.elapsed();
    assert!(said.contains("the token has ended"), "{said}");
    // Well before a heartbeat is due, which would be the next moment to look.
    assert!(lasted < Duration::from_secs(12), "{lasted:?}");
    let again = ask(&service, "GET", "/api/v1/me", &brief).await;
    assert_eq!(again.status, 401, "{}", again.body);
    assert!(
        again.body["detail"].to_string().contains("expired"),
        "{}",
        again.body
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_who_is_taken_out_of_the_file_of_tokens_is_refused_without_a_restart() {
    let token = |name: &str, secret: &str| json!({"name": name, "roles": ["read"], "sha256": hex::encode(Sha256::digest(secret))});
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tokens.json");
    let put = |tokens: &[Value]| {
        std::fs::write(&file, json!(tokens).to_string()).expect("written");
    };
    put(&[token("app", "old"), token("other", "kept")]);
    let path = file.to_str().expect("text").to_owned();
    let service = Service::start(OMS, &[("OMS__AUTH__TOKENS_FILE", &path)], &[]).await;
    let status = async |secret: &str| ask(&service, "GET", "/api/v1/me", secret).await.status;
    assert_eq!((status("old").await, status("new").await), (200, 401));
    let live = async |secret: &str| {
        service
            .http
            .get(service.at("/api/v1/events"))
            .header("Accept", "text/event-stream")
            .bearer_auth(secret)
            .send()
            .await
            .expect("an answer")
            .bytes_stream()
    };
    let mut streams = [live("old").await, live("kept").await];
    // One principal with two tokens, while they are being exchanged; then with the new one alone.
    put(&[
        token("app", "old"),
        token("app", "new"),
        token("other", "kept"),
    ]);
    service
        .until("the new token", async || {
            (status("new").await == 200).then_some(())
        })
        .await;
    assert_eq!(status("old").await, 200);
    // Half written: nothing changes once it was looked at.
    std::fs::write(&file, "[{\"name\":").expect("written");
    service
        .until("the half-written file is seen", async || {
            let said = service.log_tail().contains("tokens stay as they are");
            said.then_some(())
        })
        .await;
    assert_eq!((status("old").await, status("new").await), (200, 200));
    put(&[token("app", "new"), token("other", "kept")]);
    service
        .until("the end of the old token", async || {
            (status("old").await == 401).then_some(())
        })
        .await;
    assert_eq!((status("new").await, status("kept").await), (200, 200));
    let mut said = String::new();
    while let Some(piece) = streams[0].next().await {
        said.push_str(&String::from_utf8_lossy(&piece.expect("a piece")));
    }
    assert!(said.contains("the token has ended"), "{said}");
    let kept = tokio::time::timeout(Duration::from_millis(100), async {
        while streams[1].next().await.is_some() {}
    });
    assert!(kept.await.is_err(), "the other stream lives on");
    // Who was taken out last leaves nobody in, not everybody.
    put(&[]);
    service
        .until("the end of the last", async || {
            (status("kept").await == 401).then_some(())
        })
        .await;
    let nobody = service.http.get(service.at("/api/v1/me")).send().await;
    assert_eq!(nobody.expect("an answer").status(), 401);
}
