//! Sizes as aio-stress writes them: a number and one of `b k m g`, or the flag's own unit.
//!
//! Must never round or wrap: what does not fit is an error.

use std::fmt;

use super::StressError;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// 1024 bytes: the unit of `-r` and `-a`.
    pub const KIB: Bytes = Bytes(1 << 10);
    /// 1024 × 1024 bytes: the unit of `-s` and `-C`.
    pub const MIB: Bytes = Bytes(1 << 20);

    /// Reads `text`; a number without a suffix counts `unit`.
    pub fn parse(text: &str, unit: Bytes) -> Result<Bytes, StressError> {
        let bad = || StressError::BadSize { text: text.to_owned() };
        let (digits, unit) = match text.as_bytes().last() {
            Some(b'b' | b'B') => (&text[..text.len() - 1], Bytes(1)),
            Some(b'k' | b'K') => (&text[..text.len() - 1], Bytes::KIB),
            Some(b'm' | b'M') => (&text[..text.len() - 1], Bytes::MIB),
            Some(b'g' | b'G') => (&text[..text.len() - 1], Bytes(1 << 30)),
            _ => (text, unit),
        };
        if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(bad());
        }
        let number: u64 = digits.parse().map_err(|_| bad())?;
        number.checked_mul(unit.0).map(Bytes).ok_or_else(bad)
    }
}

impl fmt::Display for Bytes {
    /// The shortest form that `parse` reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, suffix) in [(30, 'g'), (20, 'm'), (10, 'k')] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}b", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_override_the_unit_of_the_flag() {
        for (text, unit, bytes) in [
            ("10", Bytes::MIB, 10 << 20),
            ("64", Bytes::KIB, 64 << 10),
            ("4096b", Bytes::KIB, 4096),
            ("4k", Bytes::MIB, 4096),
            ("3M", Bytes::KIB, 3 << 20),
            ("2g", Bytes::MIB, 2 << 30),
            ("0", Bytes::MIB, 0),
        ] {
            let parsed = Bytes::parse(text, unit).unwrap();
            assert_eq!(parsed, Bytes(bytes), "{text}");
            assert_eq!(Bytes::parse(&parsed.to_string(), Bytes::MIB).unwrap(), parsed);
        }
    }

    #[test]
    fn what_is_no_size_is_named() {
        for text in ["", "k", "-1", "+1", "1.5m", "10t", "99999999999g", "1 k", "٣"] {
            let error = Bytes::parse(text, Bytes::MIB).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
