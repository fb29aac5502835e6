use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use actix_web::App;
use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service, read_body, read_body_json};
use serde_json::Value;

use super::*;
use crate::http::auth::{Roles, Token};
use crate::http::limits::{HttpLimits, HttpSettings};
use crate::http::{Door, routes};

macro_rules! app {
    () => {{
        // With tokens: the files are public all the same.
        let tokens = vec![Token::from_secret("root", "secret", Roles::ALL)];
        let limits = Arc::new(HttpLimits::new(HttpSettings::standard(), tokens));
        init_service(App::new().configure(|cfg| routes::configure(cfg, &limits, Door::All))).await
    }};
}

#[actix_web::test]
async fn every_file_is_served_with_the_policy_and_its_type() {
    let app = app!();
    for asset in &ASSETS {
        let uri = format!("/console/{}", asset.name);
        let response = call_service(&app, TestRequest::with_uri(&uri).to_request()).await;
        assert_eq!(response.status(), 200, "{uri}");
        let header = |name: &str| {
            let value = response.headers().get(name);
            value.and_then(|v| v.to_str().ok()).unwrap_or_default()
        };
        assert_eq!(
            header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types lit-html",
        );
        assert!(!header("content-security-policy").contains("unsafe"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("content-type"), asset.media_type(), "{uri}");
        let etag = header("etag").to_owned();
        let again = TestRequest::with_uri(&uri).insert_header((IF_NONE_MATCH, etag));
        let unchanged = call_service(&app, again.to_request()).await;
        assert_eq!(unchanged.status(), 304, "{uri}");
        assert_eq!(read_body(response).await, asset.bytes, "{uri}");
        let head = TestRequest::with_uri(&uri).method(Method::HEAD);
        let head = call_service(&app, head.to_request()).await;
        assert_eq!(head.status(), 200, "{uri}");
        assert_eq!(
            head.headers().get(CONTENT_TYPE).unwrap(),
            asset.media_type()
        );
        assert!(read_body(head).await.is_empty(), "{uri}");
    }
}

#[actix_web::test]
async fn the_entrance_leads_to_the_page_and_what_is_not_there_is_a_problem() {
    let app = app!();
    let response = call_service(&app, TestRequest::with_uri("/console").to_request()).await;
    assert_eq!(response.headers().get(LOCATION).unwrap(), "/console/");
    let response = call_service(&app, TestRequest::with_uri("/console/").to_request()).await;
    let page = read_body(response).await;
    assert!(page.starts_with(b"<!doctype html>"));
    for path in [
        "nothing.js",
        "../Cargo.toml",
        "%2e%2e/mod.rs",
        "assets",
        "vendor/",
    ] {
        let uri = format!("/console/{path}");
        let response = call_service(&app, TestRequest::with_uri(&uri).to_request()).await;
        assert_eq!(response.status(), 404, "{uri}");
        let body: Value = read_body_json(response).await;
        assert_eq!(body["code"], "route_not_found", "{uri}");
    }
    let post = TestRequest::with_uri("/console/").method(Method::POST);
    assert_eq!(call_service(&app, post.to_request()).await.status(), 405);
}

/// Where files name an address that is not fetched: the names of XML, and where the libraries come
/// from.
const NAMES: [&str; 4] = [
    "http://www.w3.org/2000/svg",
    "http://www.w3.org/1998/Math/MathML",
    "https://github.com/leeoniya/uPlot",
    "https://github.com/lit/lit",
];

fn files(folder: &Path, below: &str, out: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), &format!("{name}/"), out);
        } else {
            out.insert(name);
        }
    }
}

#[test]
fn every_file_in_the_folder_is_embedded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console/assets");
    let mut there = BTreeSet::new();
    files(&folder, "", &mut there);
    there.insert("runbook.md".into());
    let embedded: BTreeSet<String> = ASSETS.iter().map(|a| a.name.to_owned()).collect();
    assert_eq!(there, embedded);
}

#[test]
fn no_file_fetches_from_elsewhere_or_writes_markup_of_text() {
    for asset in ASSETS.iter().filter(|a| a.name != "runbook.md") {
        let mut text = String::from_utf8(asset.bytes.to_vec()).unwrap();
        for name in NAMES {
            text = text.replace(name, "");
        }
        for scheme in ["http://", "https://", "//cdn", "wss://"] {
            assert!(!text.contains(scheme), "{}: {scheme}", asset.name);
        }
        if asset.name.starts_with("vendor/") {
            continue;
        }
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "unsafeHTML",
            "eval(",
            "new Function",
            "localStorage",
            "document.cookie",
            " style=",
            "<style",
            " onclick=",
        ];
        for word in forbidden {
            assert!(!text.contains(word), "{}: {word}", asset.name);
        }
    }
}

#[test]
fn what_scripts_import_is_embedded() {
    let names: BTreeSet<&str> = ASSETS.iter().map(|a| a.name).collect();
    let scripts = ASSETS
        .iter()
        .filter(|a| a.name.ends_with(".js") && !a.name.contains('/'));
    let mut seen = 0;
    for asset in scripts {
        let text = std::str::from_utf8(asset.bytes).unwrap();
        for rest in text.split("from './").skip(1) {
            let name = rest.split('\'').next().unwrap();
            assert!(names.contains(name), "{} imports {name}", asset.name);
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// What the tarballs of the registry hold; `assets/vendor/LICENSES.txt` says of which versions.
#[test]
fn libraries_are_what_their_authors_published() {
    let known = [
        (
            "vendor/lit-html.js",
            "b878e7f95dec8a9b6e9b217faca6b6a11bad82ebc44c0caa77419ed83edd81f2",
        ),
        (
            "vendor/uPlot.iife.min.js",
            "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        ),
        (
            "vendor/uPlot.min.css",
            "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        ),
    ];
    for (name, sha256) in known {
        let asset = ASSETS.iter().find(|a| a.name == name).unwrap();
        let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(asset.bytes));
        assert_eq!(hash, sha256, "{name}");
    }
}
