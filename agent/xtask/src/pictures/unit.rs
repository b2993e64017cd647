//! Numbers with their units, as the dashboards name these.

/// Three digits, and a unit that fits.
pub(super) fn format(number: f64, unit: &str) -> String {
    match unit {
        "s" => seconds(number),
        "bytes" => scaled(number, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"], " "),
        "percentunit" => format!("{}%", digits(number * 100.0)),
        "ops" => format!("{} ops/s", short(number)),
        _ => short(number),
    }
}

/// Two numbers; a unit that they share is said once.
pub(super) fn pair(numbers: [f64; 2], unit: &str) -> String {
    let [first, second] = numbers.map(|number| format(number, unit));
    let is_unit = |c: char| !(c.is_ascii_digit() || ".-".contains(c));
    let of = |text: &str| text.find(is_unit).map(|at| text[at..].to_owned());
    match of(&second).filter(|unit| of(&first).as_ref() == Some(unit)) {
        Some(unit) => format!("{} / {second}", first.trim_end_matches(&unit)),
        None => format!("{first} / {second}"),
    }
}

/// What ticks of an axis up to a number should be round in.
pub(super) fn step(most: f64, unit: &str) -> f64 {
    let steps: &[f64] = match unit {
        "bytes" => &[1024.0, 1_048_576.0, 1_073_741_824.0],
        "s" => &[60.0, 3600.0, 86_400.0],
        _ => &[],
    };
    steps.iter().copied().rfind(|step| most >= 2.0 * step).unwrap_or(1.0)
}

/// Whether numbers of a unit can be written out here.
pub(super) fn is_known(unit: &str) -> bool {
    ["s", "bytes", "percentunit", "ops", "short"].contains(&unit)
}

fn short(number: f64) -> String {
    scaled(number, 1000.0, &["", " K", " M", " G"], "")
}

fn seconds(number: f64) -> String {
    const MINUTE: f64 = 60.0;
    let size = number.abs();
    let (by, unit) = if size == 0.0 {
        (1.0, "s")
    } else if size < 1e-6 {
        (1e-9, "ns")
    } else if size < 1e-3 {
        (1e-6, "µs")
    } else if size < 1.0 {
        (1e-3, "ms")
    } else if size < 2.0 * MINUTE {
        (1.0, "s")
    } else if size < 120.0 * MINUTE {
        (MINUTE, "min")
    } else if size < 48.0 * 60.0 * MINUTE {
        (60.0 * MINUTE, "h")
    } else {
        (24.0 * 60.0 * MINUTE, "d")
    };
    format!("{} {unit}", digits(number / by))
}

fn scaled(number: f64, step: f64, units: &[&str], between: &str) -> String {
    let mut number = number;
    let mut units = units.iter().peekable();
    let mut unit = "";
    while let Some(next) = units.next() {
        unit = next;
        if number.abs() < step || units.peek().is_none() {
            break;
        }
        number /= step;
    }
    format!("{}{between}{unit}", digits(number))
}

/// At most three digits, as few as say it.
fn digits(number: f64) -> String {
    let size = number.abs();
    let decimals = if size >= 100.0 || size == 0.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 0.1 {
        2
    } else {
        4
    };
    let text = format!("{number:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit_that_fits() {
        for (number, unit, text) in [
            (0.0, "s", "0 s"),
            (0.000_001_907, "s", "1.91 µs"),
            (0.0625, "s", "62.5 ms"),
            (50.33, "s", "50.3 s"),
            (750.0, "s", "12.5 min"),
            (34.2, "short", "34.2"),
            (1234.0, "ops", "1.23 K ops/s"),
            (0.0, "ops", "0 ops/s"),
            (0.0011, "percentunit", "0.11%"),
            (8_388_608.0, "bytes", "8 MiB"),
        ] {
            assert_eq!(format(number, unit), text);
            assert!(is_known(unit));
        }
        assert!(!is_known("sec"));
    }

    #[test]
    fn a_shared_unit_is_said_once() {
        assert_eq!(pair([0.03, 0.1], "s"), "30 / 100 ms");
        assert_eq!(pair([0.03, 10.0], "s"), "30 ms / 10 s");
        assert_eq!(pair([1.0, 2.0], "short"), "1 / 2");
        assert_eq!(pair([0.5, 1.0], "percentunit"), "50 / 100%");
    }

    #[test]
    fn ticks_are_round_in_the_unit_that_is_written() {
        assert_eq!(step(3e6, "bytes"), 1_048_576.0);
        assert_eq!(step(800.0, "s"), 60.0);
        assert_eq!(step(1.0, "s"), 1.0);
    }
}
