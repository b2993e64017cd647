//! Text of a bounded width from bytes that anybody may have chosen.

/// Printable ASCII as it is, anything else as one `?`: a task can call itself what it likes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    String::from_utf8_lossy(text).chars().map(plain).collect()
}

/// Exactly `width` columns: filled up, or cut with a `…`.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).take(width).collect()
}

/// The words of a text in lines of at most `width` columns, the later ones behind `indent`.
pub(super) fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_ascii_whitespace() {
        let word = fit(word, word.chars().count().min(width - indent.len()));
        let len = word.chars().count();
        if column > 0 && column + 1 + len > width {
            lines.push('\n');
            column = 0;
        }
        let before = if column == 0 { indent } else { " " };
        lines.push_str(before);
        lines.push_str(&word);
        column += before.len() + len;
    }
    lines
}

/// Nanoseconds in the unit that fits, three digits behind the point.
pub(super) fn duration(ns: i64) -> String {
    let magnitude = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    let in_unit = |unit: u64, name: &str| {
        let thousandths = magnitude / (unit / 1000);
        format!("{sign}{}.{:03} {name}", thousandths / 1000, thousandths % 1000)
    };
    match magnitude {
        0..1_000 => format!("{sign}{magnitude} ns"),
        1_000..1_000_000 => in_unit(1_000, "µs"),
        1_000_000..1_000_000_000 => in_unit(1_000_000, "ms"),
        _ => in_unit(1_000_000_000, "s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, fit, printable, wrap};

    #[test]
    fn a_name_is_printable_whatever_its_bytes_are() {
        assert_eq!(printable(b"kworker/u4:1\0\0\0\0"), "kworker/u4:1");
        assert_eq!(printable(b"\x1b[2Ja b\n\x7f\0\0"), "?[2Ja b??");
        assert_eq!(printable("naïve→".as_bytes()), "na?ve?");
        assert_eq!(printable(&[0xff, 0xfe, b'x']), "??x");
    }

    #[test]
    fn text_fits_its_columns() {
        assert_eq!(fit("abc", 5), "abc  ");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("abcdef", 0), "");
        let wrapped = wrap("one two three fourfourfourfour", 10, "  ");
        assert_eq!(wrapped, "  one two\n  three\n  fourfou…");
    }

    #[test]
    fn durations_are_told_in_the_unit_that_fits() {
        for (ns, told) in [
            (0, "0 ns"),
            (-999, "-999 ns"),
            (1_000, "1.000 µs"),
            (-12_345, "-12.345 µs"),
            (999_999_999, "999.999 ms"),
            (1_000_000_000, "1.000 s"),
            (281_474_976_710_655, "281474.976 s"),
        ] {
            assert_eq!(duration(ns), told);
        }
    }
}
