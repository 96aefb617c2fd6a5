//! `resource.Quantity`: exact amounts of CPU, memory and the like, as Kubernetes reads and prints them.
//!
//! Owns parsing, arithmetic and the canonical form; never knows what an amount is of. The smallest step is a nano; finer input is
//! rounded away from zero, as upstream does. Source: the "Quantity" section of Kubernetes' API reference.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

const NANO: i128 = 1_000_000_000;
const MILLI: i128 = 1_000_000;
/// What amounts of more than [`EXACT_DIGITS`] digits are capped at: 2^63-1.
const CAP: i128 = i64::MAX as i128 * NANO;
const EXACT_DIGITS: usize = 18;
/// Longer text cannot be an amount anyone means; bounds the work on bad input.
const MAX_TEXT: usize = 256;

/// Suffixes with the power of ten or of two that they stand for.
const DECIMAL: &[(&str, i32)] =
    &[("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: &[(&str, u32)] = &[("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Number,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// How an amount was written, and so how it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `1500m`, `2k`, `3M`
    #[default]
    Decimal,
    /// `1Ki`, `2Mi`
    Binary,
    /// `1e3`
    Exponent,
}

/// An exact amount. Compares by value, whatever the format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::Decimal };

    pub const fn from_units(units: i64) -> Self {
        Self { nanos: units as i128 * NANO, format: Format::Decimal }
    }

    pub const fn from_milli(milli: i64) -> Self {
        Self { nanos: milli as i128 * MILLI, format: Format::Decimal }
    }

    /// Whole bytes, printed as `Ki`, `Mi`, ….
    pub const fn from_bytes(bytes: i64) -> Self {
        Self { nanos: bytes as i128 * NANO, format: Format::Binary }
    }

    pub const fn format(self) -> Format {
        self.format
    }

    pub const fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Units, rounded up as upstream's `Value()`: bytes of memory, number of pods.
    pub fn value(self) -> i64 {
        ceil(self.nanos, NANO)
    }

    /// Bytes: another name of [`Self::value`].
    pub fn bytes(self) -> i64 {
        self.value()
    }

    /// Thousandths, rounded up as upstream's `MilliValue()`: millicores.
    pub fn milli(self) -> i64 {
        ceil(self.nanos, MILLI)
    }

    /// As little more as makes it thousandths: away from zero, as upstream rounds the amounts of resources.
    #[must_use]
    pub fn in_milli(self) -> Self {
        let away = self.nanos.signum() * (MILLI - 1);
        Self { nanos: (self.nanos + away) / MILLI * MILLI, format: self.format }
    }

    /// The amount as a fraction, for scores only.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    fn combine(self, other: Self, op: fn(i128, i128) -> i128) -> Self {
        // Upstream: a zero takes over the other's format.
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: op(self.nanos, other.nanos), format }
    }
}

fn ceil(nanos: i128, step: i128) -> i64 {
    let whole = nanos.div_euclid(step) + i128::from(nanos.rem_euclid(step) != 0);
    i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.combine(other, i128::saturating_add)
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.combine(other, i128::saturating_sub)
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl TryFrom<&Wire> for Quantity {
    type Error = QuantityError;
    fn try_from(wire: &Wire) -> Result<Self, QuantityError> {
        wire.0.parse()
    }
}

impl From<Quantity> for Wire {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(QuantityError::Format);
        }
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        if number.is_empty() || !suffix_shaped(suffix) {
            return Err(QuantityError::Format);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Number);
        }
        let (scale, format) = parse_suffix(suffix)?;
        let nanos = scaled(whole, fraction, scale);
        let nanos = match nanos {
            Some(n) if n <= CAP || whole.len() + fraction.len() <= EXACT_DIGITS => n,
            _ => CAP,
        };
        // Upstream: a binary amount below one prints as decimal ("0.5Ki" is 512, "0.0001Ki" is 102400u).
        let format = if format == Format::Binary && nanos > 0 && nanos < NANO { Format::Decimal } else { format };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

enum Scale {
    Ten(i32),
    Two(u32),
}

/// `[eEinumkKMGTP]*[-+]?[0-9]*`
fn suffix_shaped(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    digits.bytes().all(|b| b.is_ascii_digit())
}

fn parse_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Scale::Ten(*power), Format::Decimal));
    }
    if let Some((_, power)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((Scale::Two(*power), Format::Binary));
    }
    match suffix.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            exponent.parse().map(|e| (Scale::Ten(e), Format::Exponent)).map_err(|_| QuantityError::Suffix)
        }
        None => Err(QuantityError::Suffix),
    }
}

/// The magnitude in nanos, rounded up; `None` if it does not fit.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> Option<i128> {
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let leading = digits.iter().take_while(|d| **d == b'0').count();
    digits.drain(..leading);
    let (ten, two) = match scale {
        Scale::Ten(power) => (power, 0),
        Scale::Two(power) => (0, power),
    };
    if digits.is_empty() {
        return Some(0);
    }
    let exponent = i64::from(ten) + 9 - i64::try_from(fraction.len()).ok()?;
    // Digits far beyond the nano only tell whether to round up: 60 bits of a binary suffix are under 19 digits.
    let keep = 38 - if two > 0 { 19 } else { 0 };
    let mut dropped = 0i64;
    let mut rounds = false;
    while digits.len() > keep {
        rounds |= digits.pop() != Some(b'0');
        dropped += 1;
    }
    let exponent = exponent + dropped;
    let mut value = 0i128;
    for digit in digits {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    value = value.checked_mul(1i128.checked_shl(two)?)?;
    if exponent >= 0 {
        let value = value.checked_mul(10i128.checked_pow(u32::try_from(exponent).ok()?)?)?;
        return Some(value.saturating_add(i128::from(rounds)));
    }
    let Some(divisor) = u32::try_from(-exponent).ok().and_then(|e| 10i128.checked_pow(e)) else { return Some(1) };
    let up = rounds || value % divisor != 0;
    Some(value / divisor + i128::from(up))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut n = self.nanos;
        if n == 0 {
            return f.write_str("0");
        }
        if self.format == Format::Binary && n.unsigned_abs() >= 1024 * NANO.unsigned_abs() && n % NANO == 0 {
            n /= NANO;
            let mut suffix = "";
            for (name, _) in BINARY {
                if n % 1024 != 0 {
                    break;
                }
                n /= 1024;
                suffix = name;
            }
            return write!(f, "{n}{suffix}");
        }
        let mut power = -9;
        while n % 1000 == 0 && power < 18 {
            n /= 1000;
            power += 3;
        }
        match (self.format, power) {
            (_, 0) => write!(f, "{n}"),
            (Format::Exponent, power) => write!(f, "{n}e{power}"),
            (Format::Decimal | Format::Binary, power) => {
                let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(s, _)| s);
                write!(f, "{n}{suffix}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn canonical_forms() {
        for (input, canonical) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1023Ki", "1023Ki"),
            ("512", "512"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            ("12e6", "12e6"),
            ("1E3", "1e3"),
            ("12000", "12k"),
            ("1500", "1500"),
            ("100E", "100E"),
            ("-1500m", "-1500m"),
            ("+1.", "1"),
            (".5", "500m"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1.0000000001", "1000000001n"),
            ("1e-30", "1e-9"),
            ("9223372036854775808", "9223372036854775807"),
            ("1e400", "9223372036854775807"),
            ("1Ei", "1Ei"),
            ("1025", "1025"),
        ] {
            assert_eq!(q(input).to_string(), canonical, "{input}");
        }
    }

    #[test]
    fn refusals() {
        for (input, error) in [
            ("", QuantityError::Format),
            ("Mi", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1x", QuantityError::Format),
            ("--1", QuantityError::Format),
            ("1.2.3", QuantityError::Number),
            (".", QuantityError::Number),
            ("1Kii", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1e99999999999", QuantityError::Suffix),
            ("1é", QuantityError::Format),
        ] {
            assert_eq!(input.parse::<Quantity>(), Err(error), "{input}");
        }
    }

    #[test]
    fn accessors_round_up() {
        assert_eq!((q("1500m").value(), q("1500m").milli(), q("1u").milli()), (2, 1500, 1));
        assert_eq!((q("-1500m").value(), q("2Ki").bytes()), (-1, 2048));
        assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((Quantity::ZERO + q("1Gi")).to_string(), "1Gi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
    }

    fn amount() -> impl Strategy<Value = Quantity> {
        let format = prop::sample::select(vec![Format::Decimal, Format::Binary, Format::Exponent]);
        // Whole ones of every size: a sum of others may have more digits than its text may keep.
        prop_oneof![
            (-1_000_000_000_000i128..1_000_000_000_000, 0u32..3, format.clone())
                .prop_map(|(n, m, format)| Quantity { nanos: n * 1000i128.pow(m), format }),
            (-(1i128 << 50)..(1i128 << 50), format).prop_map(|(n, format)| Quantity { nanos: n * NANO, format }),
        ]
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,40}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn shaped_text_never_panics(text in "[+-]?[0-9.]{0,60}[eEinumkKMGTP]{0,3}[+-]?[0-9]{0,12}") {
            if let Ok(a) = text.parse::<Quantity>() {
                let _ = (a + a, a - a, a.value(), a.milli(), a.to_string());
            }
        }

        #[test]
        fn printing_keeps_the_value(nanos in -(1i128 << 100)..(1i128 << 100), f in 0..3usize) {
            let format = [Format::Decimal, Format::Binary, Format::Exponent][f];
            // Amounts with more digits than upstream keeps are capped, so stay below.
            let a = Quantity { nanos: nanos % CAP, format };
            let text = a.to_string();
            prop_assert_eq!(q(&text), a);
            prop_assert_eq!(q(&text).to_string(), text);
        }

        /// What is written is what is meant: digits times a power of ten or two, rounded away from zero to a nano.
        #[test]
        fn text_means_its_digits_times_its_suffix(whole in 0u64..1_000_000, fraction in "[0-9]{0,6}", s in 0usize..20, negative: bool) {
            let suffixes = DECIMAL.iter().map(|(s, p)| (s.to_string(), Scale::Ten(*p)))
                .chain(BINARY.iter().map(|(s, p)| (s.to_string(), Scale::Two(*p))))
                .chain([-3, 0, 5, 11].map(|e| (format!("e{e}"), Scale::Ten(e))));
            let (suffix, scale) = suffixes.into_iter().nth(s).unwrap();
            // In steps of 10^-18, so that nothing is lost before it is rounded.
            let digits = fraction.len() as u32;
            let number = i128::from(whole) * 10i128.pow(digits) + fraction.parse::<i128>().unwrap_or(0);
            let exact = match scale {
                Scale::Two(power) => number.checked_mul(1i128 << power).and_then(|n| n.checked_mul(10i128.pow(9)).map(|n| (n, 10i128.pow(digits)))),
                Scale::Ten(power) if power + 9 >= 0 => number.checked_mul(10i128.pow((power + 9).unsigned_abs())).map(|n| (n, 10i128.pow(digits))),
                Scale::Ten(power) => Some((number, 10i128.pow(digits + (power + 9).unsigned_abs()))),
            };
            let Some((top, bottom)) = exact else { return Ok(()) };
            let nanos = top / bottom + i128::from(top % bottom != 0);
            prop_assume!(nanos < CAP);
            let sign = if negative { "-" } else { "" };
            let read = q(&format!("{sign}{whole}.{fraction}{suffix}"));
            prop_assert_eq!(read.nanos, if negative { -nanos } else { nanos });
        }

        /// The canonical form is the shortest way to write an amount without a fraction, and of the same family of suffixes.
        #[test]
        fn the_canonical_form_is_canonical(text in "[1-9][0-9]{0,5}(\\.[0-9]{1,3})?(n|u|m||k|M|G|Ki|Mi|Gi|e3|e-3)") {
            let a = q(&text);
            let shown = a.to_string();
            prop_assert!(!shown.contains('.'), "{}", shown);
            let end = shown.find(|c: char| !c.is_ascii_digit()).unwrap_or(shown.len());
            let (digits, suffix) = shown.split_at(end);
            let binary = suffix.ends_with('i');
            prop_assert!(!digits.starts_with('0'));
            prop_assert_eq!(binary, binary && text.ends_with('i'));
            let n: u128 = digits.parse().unwrap();
            if binary {
                prop_assert!(!n.is_multiple_of(1024) || suffix == "Ei", "{}", shown);
            } else if !text.ends_with('i') {
                prop_assert!(!n.is_multiple_of(1000) || suffix == "E", "{}", shown);
            }
            prop_assert_eq!(q(&shown).to_string(), shown);
        }

        /// Sums have no order and no grouping; what is taken away can be put back; the sign turns the order around.
        #[test]
        fn arithmetic_has_its_laws(a in amount(), b in amount(), c in amount()) {
            prop_assert_eq!(a + b, b + a);
            prop_assert_eq!((a + b) + c, a + (b + c));
            prop_assert_eq!(a - b, Quantity::ZERO - (b - a));
            prop_assert_eq!((a - b) + b, a);
            prop_assert_eq!(a < b, Quantity::ZERO - b < Quantity::ZERO - a);
            prop_assert_eq!(a.cmp(&b), (a - b).cmp(&Quantity::ZERO));
            prop_assert_eq!([a, b, c].into_iter().sum::<Quantity>(), a + b + c);
            prop_assert_eq!(a < b, a + c < b + c);
            // Rounded up, never by a whole.
            let units = Quantity::from_units(a.value());
            prop_assert!(a <= units && units - a < Quantity::from_units(1));
            let milli = Quantity::from_milli(a.milli());
            prop_assert!(a <= milli && milli - a < Quantity::from_milli(1));
            prop_assert_eq!((a + b).to_string().parse::<Quantity>(), Ok(a + b));
        }

        #[test]
        fn order_and_sums_agree(a in any::<i64>(), b in any::<i64>()) {
            let (x, y) = (Quantity::from_milli(a), Quantity::from_milli(b));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!((x + y) - y, x);
            prop_assert_eq!(x.milli(), a);
        }
    }
}
