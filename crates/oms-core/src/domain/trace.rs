//! The trace that something belongs to, as W3C Trace Context writes it: `traceparent` in the head of a
//! request, in an event's envelope and in the head of a message.

use std::fmt;

/// One operation in one trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace; not zero.
    pub trace: u128,
    /// The operation, which OpenTelemetry calls a span; not zero.
    pub span: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;

impl TraceContext {
    /// Reads a `traceparent`; `None` if it is not a valid one. What later versions append is ignored,
    /// as the standard asks.
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        let ends = rest.is_empty() || (version != 0 && rest.starts_with('-'));
        let valid = version != 0xff && ends && trace != 0 && span != 0;
        valid.then_some(Self {
            trace,
            span: u64::try_from(span).ok()?,
            sampled: flags & 1 == 1,
        })
    }
}

/// The value of exactly so many lower-case hex digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let allowed = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let value = || u128::from_str_radix(text, 16).ok();
    (text.len() == digits && allowed).then(value).flatten()
}

impl fmt::Display for TraceContext {
    /// As a `traceparent` of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_context_reads_back() {
        let context = TraceContext::parse(VALID).unwrap();
        assert_eq!(context.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(context.span, 0xb7ad_6b71_6920_3331);
        assert!(context.sampled);
        assert_eq!(context.to_string(), VALID);
        let unsampled = VALID.replace("-01", "-00");
        let context = TraceContext::parse(&unsampled).unwrap();
        assert!(!context.sampled);
        assert_eq!(context.to_string(), unsampled);
        // Flags that are not known yet are not passed on.
        let random = TraceContext::parse(&VALID.replace("-01", "-03")).unwrap();
        assert_eq!(random.to_string(), VALID);
    }

    #[test]
    fn a_later_version_may_append_and_this_one_may_not() {
        let later = VALID.replacen("00", "01", 1);
        assert!(TraceContext::parse(&later).is_some());
        assert!(TraceContext::parse(&format!("{later}-more")).is_some());
        assert!(TraceContext::parse(&format!("{later}more")).is_none());
        assert!(TraceContext::parse(&format!("{VALID}-more")).is_none());
    }

    #[test]
    fn what_is_no_trace_context_is_none() {
        for bad in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319cb7ad6b7169203331--01",
            "00-0af7651916cd43dd8448eb211c80319c-+7ad6b7169203331-01",
            "00-ä0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
