use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqsign_core::StaticEnv;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::adapters::tls::{TlsFiles, client_config_of_others};

/// A home of its own, removed with this value.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("oms-aws-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join(".aws")).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn sought(&self, variables: &[(&str, &str)]) -> Credentials {
        let mut envs: HashMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        // A cloud's machine would answer.
        envs.entry("AWS_EC2_METADATA_DISABLED".into())
            .or_insert("true".into());
        let environment = StaticEnv {
            home_dir: Some(self.0.clone()),
            envs,
        };
        let others = client_config_of_others(&TlsFiles::default()).unwrap();
        let mut sought = Sought::new(environment, "eu-west-3", others).unwrap();
        sought.pause = Duration::ZERO;
        Credentials::Sought(Box::new(sought))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Answers every request with what `answer` makes of its head and its number; gives its URL.
async fn server(answer: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (answer, count) = (answer.clone(), count.clone());
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let read = client.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let body = answer(&head, count.fetch_add(1, Ordering::SeqCst));
                let text = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                client.write_all(text.as_bytes()).await.unwrap();
            });
        }
    });
    url
}

fn document(access_key: &str, ends: &str) -> String {
    format!(
        r#"{{"Code": "Success", "AccessKeyId": "{access_key}", "SecretAccessKey": "s",
             "Token": "t", "Expiration": "{ends}"}}"#
    )
}

const FAR_AWAY: &str = "2099-01-01T00:00:00Z";

#[tokio::test]
async fn keys_of_the_environment_come_first_with_their_token() {
    let home = Home::new("environment");
    home.write(
        ".aws/credentials",
        "[default]\naws_access_key_id = file\naws_secret_access_key = s\n",
    );
    let sought = home.sought(&[
        ("AWS_ACCESS_KEY_ID", "environment"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_SESSION_TOKEN", "token"),
    ]);
    let keys = sought.keys().await.unwrap();
    assert_eq!(keys.access_key, "environment");
    assert_eq!(keys.session_token.as_deref(), Some("token"));
}

#[tokio::test]
async fn the_profile_that_is_named_is_taken_and_read_again_when_its_keys_are_refused() {
    let home = Home::new("profile");
    let profiles = |key: &str| {
        format!(
            "[default]\naws_access_key_id = other\naws_secret_access_key = s\n\
             [events]\naws_access_key_id = {key}\naws_secret_access_key = s\n"
        )
    };
    home.write(".aws/credentials", &profiles("first"));
    let sought = home.sought(&[("AWS_PROFILE", "events")]);
    let first = sought.keys().await.unwrap();
    assert_eq!(first.access_key, "first");
    home.write(".aws/credentials", &profiles("second"));
    assert_eq!(sought.keys().await.unwrap().access_key, "first");
    assert!(sought.refused(&first), "others may be found");
    assert!(
        sought.refused(&first),
        "as for those who asked with the same keys"
    );
    let second = sought.keys().await.unwrap();
    assert_eq!(second.access_key, "second");
    assert!(sought.refused(&second));
    let same = sought.keys().await.unwrap();
    assert!(!sought.refused(&same), "the same were found again");
}

#[tokio::test]
async fn a_program_that_a_profile_names_is_asked() {
    let home = Home::new("process");
    let told = home.write(
        "told.json",
        r#"{"Version": 1, "AccessKeyId": "program", "SecretAccessKey": "s"}"#,
    );
    home.write(
        ".aws/config",
        &format!("[profile events]\ncredential_process = cat {told}\n"),
    );
    let sought = home.sought(&[("AWS_PROFILE", "events")]);
    assert_eq!(sought.keys().await.unwrap().access_key, "program");
}

#[tokio::test]
async fn a_container_is_asked_with_its_token_and_again_before_the_keys_end() {
    let home = Home::new("container");
    let url = server(|head, number| {
        assert!(
            head.contains("GET /keys") && head.contains("shibboleth"),
            "{head}"
        );
        // Good for a minute: each request seeks others.
        let ends = Timestamp::now() + Duration::from_secs(60);
        document(&format!("container-{number}"), &ends.format_rfc3339_zulu())
    });
    let url = format!("{}/keys", url.await);
    let token = home.write("token", "shibboleth");
    let sought = home.sought(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
    ]);
    assert_eq!(sought.keys().await.unwrap().access_key, "container-0");
    assert_eq!(sought.keys().await.unwrap().access_key, "container-1");
}

#[tokio::test]
async fn an_instance_is_asked_by_its_second_protocol_and_once() {
    let home = Home::new("instance");
    let url = server(|head, _| match head.split(' ').nth(1) {
        Some("/latest/api/token") => "a-token".to_owned(),
        Some("/latest/meta-data/iam/security-credentials/") => "a-role".to_owned(),
        Some(_) if head.contains("a-token") => document("instance", FAR_AWAY),
        other => panic!("{other:?}"),
    });
    let sought = home.sought(&[
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url.await),
    ]);
    let keys = sought.keys().await.unwrap();
    assert_eq!(keys.access_key, "instance");
    assert_eq!(keys.session_token.as_deref(), Some("t"));
    assert!(Arc::ptr_eq(&keys, &sought.keys().await.unwrap()), "kept");
}

#[tokio::test]
async fn where_there_are_no_keys_it_is_said_what_was_looked_for() {
    let home = Home::new("nothing");
    let refused = home.sought(&[]).keys().await.err().expect("no keys");
    assert!(matches!(refused, Failure::Credentials { .. }));
    assert!(refused.to_string().contains("s3.access_key"), "{refused}");
}

#[tokio::test]
async fn when_the_first_that_is_there_fails_nobody_else_s_keys_are_taken() {
    let home = Home::new("failing");
    home.write(
        ".aws/config",
        "[profile events]\ncredential_process = false\n",
    );
    let other = server(|_, _| document("somebody-else", FAR_AWAY)).await;
    let sought = home.sought(&[
        ("AWS_PROFILE", "events"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &other),
    ]);
    let refused = sought.keys().await.err().expect("the program failed");
    assert!(
        !refused.to_string().contains("none are configured"),
        "{refused}"
    );
}

#[tokio::test]
async fn old_keys_serve_while_their_source_is_away_and_an_empty_variable_is_none() {
    let home = Home::new("away");
    let url = server(|_, number| match number {
        0 => {
            let ends = Timestamp::now() + Duration::from_secs(60);
            document("old", &ends.format_rfc3339_zulu())
        }
        _ => "nonsense".to_owned(),
    });
    let sought = home.sought(&[
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url.await),
    ]);
    for _ in 0..3 {
        assert_eq!(sought.keys().await.unwrap().access_key, "old");
    }
}

#[tokio::test]
async fn a_source_that_does_not_answer_is_waited_for_and_one_without_tls_is_not_asked() {
    let home = Home::new("nobody");
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", nobody.local_addr().unwrap());
    drop(nobody);
    for (url, transient_or_not) in [(url.as_str(), true), ("http://keys.example/", false)] {
        let sought = home.sought(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]);
        match sought.keys().await {
            Err(Failure::Credentials { transient, message }) => {
                assert_eq!(transient, transient_or_not, "{message}");
            }
            _ => panic!("{url}"),
        }
    }
}
