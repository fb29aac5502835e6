//! Checks whether JSON can be stored in all places of events and returned unchanged.

/// Deepest nesting: what most JSON parsers accept, with room for the envelope around it.
const MAX_DEPTH: usize = 100;

/// Checks valid JSON for what cannot be stored: a U+0000, which PostgreSQL cannot store, an
/// unpaired surrogate, or nesting deeper than parsers accept. The error says what is wrong.
pub fn check(json: &str) -> Result<(), String> {
    let bytes = json.as_bytes();
    let (mut at, mut depth, mut in_text) = (0, 0_usize, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => in_text = !in_text,
            b'\\' if in_text => {
                at += 1;
                if bytes.get(at) == Some(&b'u') {
                    at += escape(&json[at + 1..])?;
                }
            }
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("they are nested deeper than {MAX_DEPTH}"));
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Checks an escape, given the text after its `\u`; returns its length.
fn escape(rest: &str) -> Result<usize, String> {
    let unit = |at: usize| {
        rest.get(at..at + 4)
            .and_then(|d| u16::from_str_radix(d, 16).ok())
    };
    match unit(0) {
        Some(0) => Err("a text has the character U+0000, which PostgreSQL cannot hold".into()),
        Some(0xd800..=0xdbff) => {
            let low = rest.get(4..6).filter(|u| *u == "\\u").and_then(|_| unit(6));
            match low {
                Some(0xdc00..=0xdfff) => Ok(10),
                _ => Err("a text has half of a surrogate pair, which is no character".into()),
            }
        }
        Some(0xdc00..=0xdfff) => {
            Err("a text has half of a surrogate pair, which is no character".into())
        }
        _ => Ok(4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_store_can_hold_is_found_and_nothing_else() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        for good in [
            r#"{"a":"\\u0000","b":"[[[","c":"\"{","d":"\ud83d\ude00","e":"\u00e9ü😀"}"#,
            "1e400",
            "null",
            &nested(MAX_DEPTH),
            &format!("[{}]", ["[]"; 500].join(",")),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            r#"{"a":"x\u0000"}"#,
            r#"{"\u0000":1}"#,
            r#"["\ud800"]"#,
            r#"["\ud800\u0041"]"#,
            r#"["\udc00"]"#,
            r#"["\\\ud800x"]"#,
            &nested(MAX_DEPTH + 1),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
