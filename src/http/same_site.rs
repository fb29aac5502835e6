//! Rejects requests of web pages while no tokens are configured. Every process that reaches the
//! loopback address may then do everything, and a browser on this machine reaches it for any page
//! it shows: with a "simple" POST that needs no permission, or through a name of the page's own
//! that resolves to 127.0.0.1 (DNS rebinding). Browsers send the origin of a request; requests of
//! other programs have none and are served.

use std::net::IpAddr;

use actix_web::dev::RequestHead;
use actix_web::http::Uri;
use actix_web::http::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use actix_web::http::uri::Authority;

use super::cors::Cors;
use super::problem::{self, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// 403 `cross_site_request` for a request that was sent to a name other than this machine's, or
/// from a page that neither comes from this machine nor from an origin that `cors` names.
pub fn check(head: &RequestHead, cors: &Cors) -> Result<(), Problem> {
    let headers = head.headers();
    let named = head.uri.host().is_none_or(is_loopback)
        && headers
            .get_all(HOST)
            .all(|host| text::<Authority>(host).is_some_and(|a| is_loopback(a.host())));
    if !named {
        return Err(refused("Host is not a loopback name or address"));
    }
    let mut origins = headers.get_all(ORIGIN);
    if let (Some(origin), None) = (origins.next(), origins.next())
        && cors.names(origin)
    {
        return Ok(());
    }
    let at_home = headers.get_all(ORIGIN).all(|origin| {
        text::<Uri>(origin).is_some_and(|origin| origin.host().is_some_and(is_loopback))
    });
    if !at_home {
        return Err(refused("Origin is not a loopback name or address"));
    }
    let cross_site = |site: &HeaderValue| site.as_bytes().eq_ignore_ascii_case(b"cross-site");
    if headers.get_all(SEC_FETCH_SITE).any(cross_site) {
        return Err(refused("Sec-Fetch-Site is cross-site"));
    }
    Ok(())
}

fn refused(why: &str) -> Problem {
    let detail = format!("{why}; configure tokens to serve others than this machine's programs");
    Problem::new(problem::CROSS_SITE_REQUEST, detail)
}

fn text<T: std::str::FromStr>(value: &HeaderValue) -> Option<T> {
    value.to_str().ok()?.parse().ok()
}

/// `localhost`, `*.localhost` (RFC 6761), 127.0.0.0/8, `[::1]`.
fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host == "localhost" || host.ends_with(".localhost") {
        return true;
    }
    let address = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(&host);
    address
        .parse::<IpAddr>()
        .is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn served(uri: &str, given: &[(&str, &str)]) -> bool {
        let mut request = TestRequest::post().uri(uri);
        for pair in given {
            request = request.append_header(*pair);
        }
        let cors = Cors::new(vec!["https://app.example".into()]);
        match check(request.to_srv_request().head(), &cors) {
            Ok(()) => true,
            Err(problem) => {
                assert_eq!(problem.code(), "cross_site_request");
                false
            }
        }
    }

    #[test]
    fn programs_and_pages_of_this_machine_are_served_others_are_not() {
        let table: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[("host", "127.0.0.1:8000")], true),
            (&[("host", "LocalHost:8000")], true),
            (&[("host", "oms.localhost")], true),
            (&[("host", "[::1]:8000")], true),
            (&[("host", "rebound.example:8000")], false),
            (&[("host", "localhost.example")], false),
            (&[("host", "notlocalhost")], false),
            (&[("host", "127.0.0.1.example")], false),
            (&[("host", "127.0.0.1@evil.example")], false),
            (&[("host", "10.0.0.7:8000")], false),
            (&[("host", "")], false),
            (&[("host", "localhost"), ("host", "evil.example")], false),
            (&[("origin", "http://localhost:8000")], true),
            (&[("origin", "http://127.0.0.1:3000")], true),
            (&[("origin", "http://[::1]:3000")], true),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "https://app.example")], true),
            (
                &[
                    ("origin", "https://app.example"),
                    ("host", "rebound.example"),
                ],
                false,
            ),
            (
                &[
                    ("origin", "https://app.example"),
                    ("origin", "https://evil.example"),
                ],
                false,
            ),
            (&[("origin", "null")], false),
            (&[("origin", "")], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (
                &[("host", "localhost"), ("origin", "https://evil.example")],
                false,
            ),
        ];
        for (given, expected) in table {
            assert_eq!(served("/api/v1/databases", given), *expected, "{given:?}");
        }
        // Over HTTP/2 the name is part of the URI.
        assert!(served("https://localhost:8000/x", &[]));
        assert!(!served("https://evil.example/x", &[]));
    }
}
