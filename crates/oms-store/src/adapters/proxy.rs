//! Proxies named by the environment (`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`), which
//! our HTTP clients use by themselves. Addresses of this machine never use one, and errors of
//! requests through one name it.

use std::net::IpAddr;

use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

/// Whether a URL's host is this machine.
pub fn is_loopback(url: &str) -> bool {
    match Url::parse(url).as_ref().map(Url::host) {
        Ok(Some(Host::Domain(name))) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        Ok(Some(Host::Ipv4(address))) => address.is_loopback(),
        Ok(Some(Host::Ipv6(address))) => IpAddr::V6(address).to_canonical().is_loopback(),
        Ok(None) | Err(_) => false,
    }
}

/// Whether a URL's host is on this machine's link alone (169.254.0.0/16, fe80::/10, and Amazon's
/// fd00:ec2::/32): there clouds answer their own machines.
pub fn is_link_local(url: &str) -> bool {
    match Url::parse(url).as_ref().map(Url::host) {
        Ok(Some(Host::Ipv4(address))) => address.is_link_local(),
        Ok(Some(Host::Ipv6(address))) => {
            let [first, second, ..] = address.segments();
            address.is_unicast_link_local() || (first, second) == (0xfd00, 0x0ec2)
        }
        _ => false,
    }
}

/// A suffix for the message of a failure to reach `url`: the proxy used for it, if any, without its
/// password.
pub fn hint(url: &str) -> Option<String> {
    if is_loopback(url) {
        return None;
    }
    hint_of(&Matcher::from_env(), url)
}

fn hint_of(proxies: &Matcher, url: &str) -> Option<String> {
    let proxy = proxies.intercept(&url.parse().ok()?)?;
    let mut shown = Url::parse(&proxy.uri().to_string()).ok()?;
    // Fails only for a URL without a host, which has no user name to remove.
    shown.set_username("").ok();
    shown.set_password(None).ok();
    Some(format!(
        " (by the proxy {}, which the environment names; NO_PROXY lists what is reached without)",
        shown.as_str().trim_end_matches('/')
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_is_known() {
        for here in [
            "http://127.0.0.1:9000",
            "https://127.8.8.8/x",
            "http://localhost:1",
            "http://LOCALHOST.:1",
            "http://minio.localhost",
            "http://[::1]:80",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in [
            "http://10.0.0.1",
            "http://localhost.example",
            "http://[2001:db8::1]",
            "nonsense",
        ] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn where_clouds_answer_their_machines_is_known() {
        for near in ["http://169.254.169.254/latest", "http://[fd00:ec2::254]/"] {
            assert!(is_link_local(near), "{near}");
        }
        for far in [
            "http://169.253.1.1",
            "http://[fd00::1]",
            "https://sts.amazonaws.com",
        ] {
            assert!(!is_link_local(far), "{far}");
        }
    }

    #[test]
    fn a_proxy_is_named_without_its_password_and_only_where_it_is_in_the_way() {
        let proxies = Matcher::builder()
            .all("http://me:hunter2@proxy.example:3128")
            .no("minio.internal")
            .build();
        let hint = hint_of(&proxies, "http://minio.example:9000/bucket").unwrap();
        assert!(hint.contains("http://proxy.example:3128,"), "{hint}");
        assert!(
            !hint.contains("hunter2") && hint.contains("NO_PROXY"),
            "{hint}"
        );
        assert_eq!(hint_of(&proxies, "http://minio.internal:9000"), None);
    }
}
