//! `url`, `email` and `ip`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use email_address::{EmailAddress, Options};
use hashbrown::HashSet;
use ipnet::IpNet;
use serde_json::Value;
use url::{Host, Url};

use super::check::{Path, Report, Shown};
use super::compile::Constraints;

/// Longest URL, in bytes: what browsers, proxies and CDNs agree on, doubled twice.
pub const MAX_URL_BYTES: usize = 8_192;
/// Longest email address, in bytes (RFC 5321: 64 + `@` + 255).
pub const MAX_EMAIL_BYTES: usize = 320;

/// Which hosts are allowed. A domain stands for itself and its subdomains.
#[derive(Debug, Clone, Default)]
pub(super) struct DomainRules {
    allowed: Option<HashSet<Box<str>>>,
    blocked: Option<HashSet<Box<str>>>,
}

impl DomainRules {
    pub fn compile(c: &mut Constraints<'_>) -> Self {
        let domain = |v: &Value| Some(normal_host(v.as_str()?)?.into_boxed_str());
        let mut domains = |key| {
            let list = c.list(key, "a domain", domain)?;
            Some(list.into_iter().collect())
        };
        Self {
            allowed: domains("allowed_domains"),
            blocked: domains("blocked_domains"),
        }
    }

    pub fn are_given(&self) -> bool {
        self.allowed.is_some() || self.blocked.is_some()
    }

    pub fn check(&self, host: &str, at: &Path<'_>, report: &mut Report) {
        if !self.are_given() {
            return;
        }
        let Some(host) = normal_host(host) else {
            let message = format_args!("`{}` is not a host", Shown(host));
            return report.add(at, "type", message);
        };
        if self.allowed.as_ref().is_some_and(|a| !is_within(&host, a)) {
            let message = format_args!("`{}` is not an allowed domain", Shown(&host));
            report.add(at, "allowed_domains", message);
        }
        if self.blocked.as_ref().is_some_and(|b| is_within(&host, b)) {
            let message = format_args!("`{}` is a blocked domain", Shown(&host));
            report.add(at, "blocked_domains", message);
        }
    }
}

/// A host in the one form in which hosts are compared: lower case, punycode, no final dot.
fn normal_host(host: &str) -> Option<String> {
    let host = Host::parse(host.strip_suffix('.').unwrap_or(host)).ok()?;
    Some(host.to_string())
}

/// Whether the host or a domain above it is among `domains`.
fn is_within(host: &str, domains: &HashSet<Box<str>>) -> bool {
    let mut rest = Some(host);
    while let Some(domain) = rest {
        if domains.contains(domain) {
            return true;
        }
        rest = domain.split_once('.').map(|(_, above)| above);
    }
    false
}

/// Constraints of a `url`.
#[derive(Debug, Clone)]
pub struct UrlType {
    schemes: Vec<Box<str>>,
    require_https: bool,
    domains: DomainRules,
    max_length: Option<u64>,
}

impl UrlType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let scheme = |v: &Value| Some(v.as_str()?.to_ascii_lowercase().into_boxed_str());
        Self {
            schemes: c
                .list("schemes", "a scheme such as `https`", scheme)
                .unwrap_or_else(|| vec!["http".into(), "https".into()]),
            require_https: c.flag("require_https"),
            domains: DomainRules::compile(c),
            max_length: c.count("max_length"),
        }
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Some(text) = value.as_str() else {
            return report.wrong_type(at, "a URL", value);
        };
        if let Some(max) = self.max_length
            && text.len() as u64 > max
        {
            let message = format_args!("must have at most {max} characters");
            report.add(at, "max_length", message);
        }
        let url = match parse_url(text) {
            Ok(url) => url,
            Err(reason) => {
                let message = format_args!("`{}` is not a URL: {reason}", Shown(text));
                return report.add(at, "type", message);
            }
        };
        if self.require_https {
            check_https(&url, at, report);
        } else if !self.schemes.iter().any(|s| **s == *url.scheme()) {
            let schemes = self.schemes.join(", ");
            let message = format_args!("must begin with one of the schemes {schemes}");
            report.add(at, "schemes", message);
        }
        self.domains
            .check(url.host_str().unwrap_or_default(), at, report);
    }
}

pub(super) fn check_https(url: &Url, at: &Path<'_>, report: &mut Report) {
    if url.scheme() != "https" {
        report.add(
            at,
            "require_https",
            format_args!("must begin with https://"),
        );
    }
}

/// Reads an absolute URL with a host, written without the liberties that the parser forgives,
/// and without a user or password, which make a URL look as if it led elsewhere.
pub(super) fn parse_url(text: &str) -> Result<Url, &'static str> {
    if text.len() > MAX_URL_BYTES {
        return Err("it is too long");
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("it contains white space, a control character or a backslash");
    }
    let Some((_, rest)) = text.split_once("://") else {
        return Err("it has no scheme such as https://");
    };
    if rest.starts_with('/') {
        return Err("it has no host");
    }
    let url = Url::parse(text).map_err(|_| "it is malformed")?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it has no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it contains a user or password");
    }
    Ok(url)
}

/// Whether this is a host name of DNS (RFC 1123), in ASCII.
pub(super) fn is_hostname(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// Constraints of an `email`.
#[derive(Debug, Clone)]
pub struct EmailType {
    domains: DomainRules,
}

impl EmailType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        Self {
            domains: DomainRules::compile(c),
        }
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Some(text) = value.as_str() else {
            return report.wrong_type(at, "an email address", value);
        };
        match parse_email(text) {
            Ok(domain) => self.domains.check(domain, at, report),
            Err(reason) => {
                let message = format_args!("`{}` is not an email address: {reason}", Shown(text));
                report.add(at, "type", message);
            }
        }
    }
}

/// Checks an address without display name; gives its domain.
pub(super) fn parse_email(text: &str) -> Result<&str, String> {
    if text.len() > MAX_EMAIL_BYTES {
        return Err("it is too long".to_owned());
    }
    let options = Options::default()
        .without_display_text()
        .without_domain_literal()
        .with_required_tld();
    EmailAddress::parse_with_options(text, options).map_err(|error| error.to_string())?;
    Ok(text.rsplit_once('@').map_or("", |(_, domain)| domain))
}

/// Constraints of an `ip`.
#[derive(Debug, Clone)]
pub struct IpType {
    version: Option<u64>,
    require_private: bool,
    require_public: bool,
    allowed_ranges: Option<Vec<IpNet>>,
    blocked_ranges: Option<Vec<IpNet>>,
}

impl IpType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let range = |v: &Value| {
            let text = v.as_str()?;
            let one = || parse_ip(text).map(IpNet::from);
            text.parse().ok().or_else(one)
        };
        let this = Self {
            version: c.parsed("version", "4 or 6", |v| {
                v.as_u64().filter(|n| matches!(n, 4 | 6))
            }),
            require_private: c.flag("require_private"),
            require_public: c.flag("require_public"),
            allowed_ranges: c.list("allowed_ranges", "an address or a range (CIDR)", range),
            blocked_ranges: c.list("blocked_ranges", "an address or a range (CIDR)", range),
        };
        if this.require_private && this.require_public {
            let message = format_args!("excludes `require_private`");
            c.fault("require_public", "range", message);
        }
        this
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Some(text) = value.as_str() else {
            return report.wrong_type(at, "an IP address", value);
        };
        let Some(ip) = parse_ip(text) else {
            let message = format_args!("`{}` is not an IP address", Shown(text));
            return report.add(at, "type", message);
        };
        if let Some(version) = self.version
            && ip.is_ipv4() != (version == 4)
        {
            report.add(
                at,
                "version",
                format_args!("must be an IPv{version} address"),
            );
        }
        // An IPv4 address in IPv6 clothes must not slip past the rules for IPv4.
        let ip = ip.to_canonical();
        if self.require_private && !is_private(ip) {
            report.add(
                at,
                "require_private",
                format_args!("must be a private address"),
            );
        }
        if self.require_public && !is_public(ip) {
            report.add(
                at,
                "require_public",
                format_args!("must be a public address"),
            );
        }
        let within = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&ip));
        if self.allowed_ranges.as_deref().is_some_and(|a| !within(a)) {
            report.add(at, "allowed_ranges", format_args!("is in no allowed range"));
        }
        if self.blocked_ranges.as_deref().is_some_and(within) {
            report.add(at, "blocked_ranges", format_args!("is in a blocked range"));
        }
    }
}

/// Reads an address; IPv4 only as four plain decimal numbers.
pub(super) fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Addresses of one site or machine: RFC 1918, RFC 4193, link-local and loopback.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// Addresses of one host on the Internet: neither private nor of special use.
fn is_public(ip: IpAddr) -> bool {
    !is_private(ip)
        && match ip {
            IpAddr::V4(ip) => is_public_v4(ip),
            IpAddr::V6(ip) => is_public_v6(ip),
        }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    let shared = first == 100 && (64..128).contains(&second);
    let reserved = first == 0 || first >= 240;
    !(shared || reserved || ip.is_multicast() || ip.is_documentation())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let documentation = first == 0x2001 && second == 0xdb8;
    // 2000::/3 is all that has been given out as global unicast.
    first & 0xe000 == 0x2000 && !documentation
}
