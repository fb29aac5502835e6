use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// What a server gets that answers each request with this status and body.
async fn heard(status: &str, body: &str, ask: impl AsyncFnOnce(Client)) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/some/where", listener.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nx-amz-bucket-region: eu-west-3\r\n\
         location: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let server = tokio::spawn(async move {
        let mut heads = Vec::new();
        while let Ok(accepted) =
            tokio::time::timeout(Duration::from_millis(500), listener.accept()).await
        {
            let (mut client, _) = accepted.unwrap();
            let mut head = vec![0; 8192];
            let read = client.read(&mut head).await.unwrap();
            heads.push(String::from_utf8_lossy(&head[..read]).to_lowercase());
            client.write_all(answer.as_bytes()).await.unwrap();
        }
        heads
    });
    let keys = ("key", "secret");
    let patience = Duration::from_secs(10);
    let settings = S3Settings::at(&endpoint, "eu-west-1", "bucket", keys, patience);
    ask(Client::new(&settings).unwrap()).await;
    server.await.unwrap()
}

#[tokio::test]
async fn a_put_says_its_length_even_when_it_is_empty() {
    let heads = heard("200 OK", "", async |client| {
        client.call(Request::new(Method::PUT, "")).await.unwrap();
        client
            .call(Request::new(Method::GET, "a b/ü"))
            .await
            .unwrap();
    });
    let heads = heads.await;
    let [put, get] = &heads[..] else {
        panic!("{heads:?}")
    };
    assert!(
        put.starts_with("put /some/where/bucket http/1.1\r\n"),
        "{put}"
    );
    assert!(put.contains("content-length: 0\r\n"), "{put}");
    assert!(
        get.starts_with("get /some/where/bucket/a%20b/%c3%bc "),
        "{get}"
    );
    assert!(!get.contains("content-length"), "{get}");
}

#[tokio::test]
async fn a_redirection_is_not_followed_and_the_region_that_the_server_names_is_told() {
    let moved = "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>";
    let heads = heard("301 Moved", moved, async |client| {
        let refused = client.call(Request::new(Method::GET, "key")).await;
        let told = refused.expect_err("moved").to_string();
        assert_eq!(
            told,
            "301 PermanentRedirect: elsewhere (the bucket is in eu-west-3: set s3.region)"
        );
    });
    assert_eq!(heads.await.len(), 1);
}

#[test]
fn a_region_that_aws_does_not_have_needs_an_address() {
    let settings = S3Settings {
        endpoint: None,
        ..S3Settings::at("", "us-gov-nowhere-9", "bucket", ("k", "s"), Duration::ZERO)
    };
    let refused = Client::new(&settings).err().expect("no such region");
    assert!(refused.contains("s3.endpoint"), "{refused}");
}
