//! Exact decimal numbers of any size, parsed from their text. Numbers are stored as given, so they
//! are compared exactly too, without rounding to a float or to 96 bits. Everything takes time
//! linear in the text.

use std::cmp::Ordering;

/// Digits of a number at most, and the largest distance of its first digit from the decimal point.
/// Covers every IEEE double; PostgreSQL's `numeric`, which the read model uses, would expand an
/// exponent of a few thousand into as many digits and refuse one of a few hundred thousand.
pub const MAX_DIGITS: usize = 400;

/// Digits of a `multiple_of` at most: what fits a `u64` without overflow in the arithmetic below.
const MAX_DIVISOR_DIGITS: usize = 18;

/// `±0.d₁d₂d₃… × 10^magnitude` with neither leading nor trailing zeros among the digits. Zero has
/// no digits.
#[derive(Debug, Clone, Copy)]
pub struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    magnitude: i64,
}

impl<'a> Decimal<'a> {
    /// Parses a number in JSON's grammar; `None` if it is malformed or out of range.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || leading_zero || !digits(whole) || !digits(fraction) {
            return None;
        }
        Self::normalise(negative, whole.as_bytes(), fraction.as_bytes(), exponent)
    }

    fn normalise(
        negative: bool,
        whole: &'a [u8],
        fraction: &'a [u8],
        exponent: i64,
    ) -> Option<Self> {
        let fraction = trim_end(fraction);
        let whole = trim_start(whole);
        let (whole, fraction, magnitude) = if whole.is_empty() {
            let digits = trim_start(fraction);
            let zeros = (fraction.len() - digits.len()) as i64;
            (whole, digits, exponent.checked_sub(zeros)?)
        } else {
            let magnitude = exponent.checked_add(whole.len() as i64)?;
            let whole = if fraction.is_empty() {
                trim_end(whole)
            } else {
                whole
            };
            (whole, fraction, magnitude)
        };
        let count = whole.len() + fraction.len();
        if count == 0 {
            return Some(Self {
                negative: false,
                whole,
                fraction,
                magnitude: 0,
            });
        }
        let in_range = count <= MAX_DIGITS && magnitude.unsigned_abs() <= MAX_DIGITS as u64;
        in_range.then_some(Self {
            negative,
            whole,
            fraction,
            magnitude,
        })
    }

    fn digits(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.whole.iter().chain(self.fraction).copied()
    }

    fn digit_count(&self) -> i64 {
        (self.whole.len() + self.fraction.len()) as i64
    }

    fn is_zero(&self) -> bool {
        self.digit_count() == 0
    }

    /// Whether it is greater than zero.
    pub fn is_positive(&self) -> bool {
        !self.negative && !self.is_zero()
    }

    /// Digits after the decimal point, without trailing zeros.
    pub fn decimal_places(&self) -> usize {
        usize::try_from(self.digit_count() - self.magnitude).unwrap_or(0)
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn trim_start(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    &digits[zeros..]
}

fn trim_end(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|b| **b == b'0').count();
    &digits[..digits.len() - zeros]
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |d: &Self| match (d.is_zero(), d.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        sign(self).cmp(&sign(other)).then_with(|| {
            let by_size = self
                .magnitude
                .cmp(&other.magnitude)
                .then_with(|| self.digits().cmp(other.digits()));
            if self.negative {
                by_size.reverse()
            } else {
                by_size
            }
        })
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

/// A number of a constraint, owned, to compare values with.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    text: Box<str>,
    digits: Box<[u8]>,
    negative: bool,
    magnitude: i64,
}

impl Limit {
    /// Parses a number; `None` as for [`Decimal::parse`].
    pub fn parse(text: &str) -> Option<Self> {
        let number = Decimal::parse(text)?;
        Some(Self {
            text: text.into(),
            digits: number.digits().collect(),
            negative: number.negative,
            magnitude: number.magnitude,
        })
    }

    /// The number.
    pub fn get(&self) -> Decimal<'_> {
        Decimal {
            negative: self.negative,
            whole: &self.digits,
            fraction: &[],
            magnitude: self.magnitude,
        }
    }
}

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl PartialOrd for Limit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.get().cmp(&other.get()))
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a number must be a multiple of: `digits × 10^exponent`, `digits` not ending in 0.
#[derive(Debug, Clone)]
pub(crate) struct Divisor {
    text: Box<str>,
    digits: u64,
    exponent: i64,
}

impl Divisor {
    /// Parses a divisor: greater than zero and of at most 18 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let number = Decimal::parse(text)?;
        if !number.is_positive() || number.digit_count() > MAX_DIVISOR_DIGITS as i64 {
            return None;
        }
        Some(Self {
            text: text.into(),
            digits: number
                .digits()
                .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')),
            exponent: number.magnitude - number.digit_count(),
        })
    }

    /// Whether `number` is a whole multiple.
    pub fn divides(&self, number: Decimal<'_>) -> bool {
        let shift = number.magnitude - number.digit_count() - self.exponent;
        if number.is_zero() {
            return true;
        }
        if shift < 0 {
            // Its digits would have to end in a zero, and they do not.
            return false;
        }
        let modulus = u128::from(self.digits);
        let zeros = (0..shift).map(|_| b'0');
        let rest = number.digits().chain(zeros).fold(0_u128, |rest, digit| {
            (rest * 10 + u128::from(digit - b'0')) % modulus
        });
        rest == 0
    }
}

impl std::fmt::Display for Divisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn d(text: &str) -> Decimal<'_> {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn equal_numbers_are_equal_however_written() {
        for [a, b] in [
            ["0", "-0.00"],
            ["0", "0e9"],
            ["1", "1.000"],
            ["100", "1e2"],
            ["100", "1.00E+2"],
            ["0.001", "1e-3"],
            ["-12.5", "-125e-1"],
        ] {
            assert_eq!(d(a), d(b), "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_json_number_or_out_of_range_is_none() {
        for bad in [
            "",
            "-",
            "+1",
            "01",
            ".5",
            "1.",
            "1e",
            "1e+",
            "e5",
            "1 ",
            "1_0",
            "NaN",
            "0x1",
            "--1",
            "1e401",
            "1e-402",
            "1e99999999999999999999",
            "1e9223372036854775807",
            "0.1e-9223372036854775808",
        ] {
            assert!(Decimal::parse(bad).is_none(), "{bad:?}");
        }
        assert!(Decimal::parse(&"9".repeat(401)).is_none());
        assert!(Decimal::parse(&"9".repeat(400)).is_some());
        assert!(Decimal::parse("1.7976931348623157e308").is_some());
        assert!(Decimal::parse("5e-324").is_some());
    }

    #[test]
    fn decimal_places_ignore_trailing_zeros() {
        for (text, places) in [
            ("1", 0),
            ("1.50", 1),
            ("100", 0),
            ("1e-3", 3),
            ("1.25e1", 1),
        ] {
            assert_eq!(d(text).decimal_places(), places, "{text}");
        }
    }

    #[test]
    fn multiples_are_exact() {
        for (number, divisor, expected) in [
            ("0.3", "0.1", true),
            ("0.35", "0.1", false),
            ("1e300", "3", false),
            ("3e300", "3", true),
            ("-12", "4", true),
            ("0", "7", true),
            ("10", "2.5", true),
            ("100", "1e3", false),
            ("123456789012345678901234567890", "10", true),
            ("123456789012345678901234567891", "10", false),
        ] {
            let divisor = Divisor::parse(divisor).unwrap();
            assert_eq!(divisor.divides(d(number)), expected, "{number} {divisor}");
        }
        for bad in ["0", "-1", "x", "1234567890123456789"] {
            assert!(Divisor::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn order_is_that_of_scaled_integers(a in any::<i64>(), b in any::<i64>(), sa in 0..9_usize, sb in 0..9_usize) {
            let text = |n: i64, s: usize| format!("{n}e-{s}");
            let (ta, tb) = (text(a, sa), text(b, sb));
            let exact = (i128::from(a) * 10_i128.pow(9 - sa as u32))
                .cmp(&(i128::from(b) * 10_i128.pow(9 - sb as u32)));
            prop_assert_eq!(d(&ta).cmp(&d(&tb)), exact);
            let (la, lb) = (Limit::parse(&ta).unwrap(), Limit::parse(&tb).unwrap());
            prop_assert_eq!(la.partial_cmp(&lb), Some(exact));
        }

        #[test]
        fn multiples_are_those_of_integers(n in any::<i64>(), m in 1..100_000_u64) {
            let text = n.to_string();
            let divides = i128::from(n) % i128::from(m) == 0;
            prop_assert_eq!(Divisor::parse(&m.to_string()).unwrap().divides(d(&text)), divides);
        }
    }
}
