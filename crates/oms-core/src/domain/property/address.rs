//! The property type `ip`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::Value;

use super::check::{Path, Report, Shown};
use super::compile::Constraints;

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
        // An IPv4-mapped IPv6 address must not evade the rules for IPv4.
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

/// Parses an address; IPv4 only as four plain decimal numbers.
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
    // 2000::/3 is the whole range assigned for global unicast.
    first & 0xe000 == 0x2000 && !documentation
}
