//! An OpenID Connect provider on loopback, as far as a service sees it that takes its tokens: the
//! document about itself, its keys, and tokens signed with them, good ones and bad ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A key that signs with `ES256`.
pub struct SigningKey {
    /// Its `kid`.
    pub id: String,
    pair: EcdsaKeyPair,
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl SigningKey {
    /// A fresh one.
    pub fn new(id: &str) -> Self {
        let (random, way) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let made = EcdsaKeyPair::generate_pkcs8(way, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(way, made.as_ref(), &random).expect("that key");
        Self {
            id: id.to_owned(),
            pair,
        }
    }

    /// What the provider shows of it.
    pub fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": base64(&point[1..33]), "y": base64(&point[33..]),
        })
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.id});
        self.token_with(&header, claims)
    }

    /// A token with this header, whatever it says.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            base64(header.to_string().as_bytes()),
            base64(claims.to_string().as_bytes())
        );
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("a signature");
        format!("{signed}.{}", base64(signature.as_ref()))
    }
}

#[derive(Default)]
struct Shown {
    keys: Mutex<Vec<Value>>,
    asked: AtomicUsize,
}

/// A running provider; it ends with this value.
pub struct Provider {
    /// What it calls itself.
    pub issuer: String,
    shown: Arc<Shown>,
    task: tokio::task::JoinHandle<()>,
}

impl Provider {
    /// Starts one that has these keys.
    pub async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let shown = Arc::<Shown>::default();
        let (name, seen) = (issuer.clone(), shown.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (name, seen) = (name.clone(), seen.clone());
                tokio::spawn(async move { answer(client, &name, &seen).await });
            }
        });
        let provider = Self {
            issuer,
            shown,
            task,
        };
        provider.show(keys);
        provider
    }

    /// Has these keys from now on; without any it answers 503.
    pub fn show(&self, keys: &[&SigningKey]) {
        *self.shown.keys.lock() = keys.iter().map(|key| key.public()).collect();
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.shown.asked.load(Ordering::Acquire)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request and closes; nothing if the client has gone.
async fn answer(client: TcpStream, issuer: &str, shown: &Shown) -> Option<()> {
    let mut client = BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line).await.ok()?;
    loop {
        let mut header = String::new();
        client.read_line(&mut header).await.ok()?;
        if header.trim_end().is_empty() {
            break;
        }
    }
    let body = match line.split(' ').nth(1)? {
        "/.well-known/openid-configuration" => Some(json!({
            "issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
        })),
        "/keys" => {
            shown.asked.fetch_add(1, Ordering::AcqRel);
            let keys = shown.keys.lock().clone();
            (!keys.is_empty()).then(|| json!({ "keys": keys }))
        }
        _ => None,
    };
    let status = if body.is_some() {
        "200 OK"
    } else {
        "503 Service Unavailable"
    };
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.ok()?;
    client.write_all(body.as_bytes()).await.ok()?;
    client.flush().await.ok()
}
